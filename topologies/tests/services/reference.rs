//! Managers and contacts from files, onto the real topics.

use std::collections::BTreeMap;
use std::process::Output;

use aggregator::events::Manager;
use kstreams::Headers;
use test_support::read_committed;

use crate::load::registered_serdes;
use crate::site::Site;

const HEADER: &str = "manager_id,name,email,region,capacity,active\n";

fn import(
    site: &Site,
    kind: &str,
    file: &str,
    content: &str,
    flags: &[&str],
) -> (String, Option<i32>) {
    let path = site.folder().join(file);
    std::fs::write(&path, content).unwrap();
    let path = path.display().to_string();
    let arguments = [&[kind, "import", &path], flags].concat();
    let Output { stdout, stderr, status } = site.command(&arguments).output().unwrap();
    let text = if stdout.is_empty() { stderr } else { stdout };
    (String::from_utf8(text).unwrap(), status.code())
}

/// What a reader of the topic holds in the end.
fn managers() -> BTreeMap<String, Manager> {
    let serde = registered_serdes().managers;
    let mut all = BTreeMap::new();
    for message in read_committed("managers") {
        let key = String::from_utf8(message.key.unwrap()).unwrap();
        match message.value {
            None => drop(all.remove(&key)),
            Some(value) => {
                let read = serde.deserializer();
                let manager =
                    read.deserialize("managers", &Headers::default(), Some(&value.into()));
                all.insert(key, manager.unwrap());
            }
        }
    }
    all
}

#[test]
fn a_file_is_compared_and_written_in_one_transaction() {
    let site = Site::new();
    let first = format!(
        "{HEADER}1,Anna,a@x,north,5,true\n2,Boris,b@x,south,3,true\n3,Vera,v@x,west,1,false\n"
    );
    let (text, code) = import(&site, "managers", "m.csv", &first, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("+ 1  active=true capacity=5") && text.contains("--yes writes it"),
        "{text}"
    );
    assert!(managers().is_empty());
    let (text, code) = import(&site, "managers", "m.csv", &first, &["--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("3 records written to topic \"managers\"\n"), "{text}");
    let written = managers();
    assert_eq!(written.len(), 3);
    assert_eq!((written["2"].region.as_str(), written["3"].active), ("south", false));
    let (text, code) = import(&site, "managers", "m.csv", &first, &["--yes"]);
    assert!(code == Some(0) && text.ends_with("nothing to write\n"), "{text}");

    // The same as JSON, with a change, and without one of them.
    let second = "[{\"manager_id\": 1, \"name\": \"Anna\", \"email\": \"a@x\", \"region\": \"east\", \
                  \"capacity\": 7, \"active\": true},\n {\"manager_id\": 2, \"name\": \"Boris\", \
                  \"email\": \"b@x\", \"region\": \"south\", \"capacity\": 3, \"active\": true}]";
    let (text, _) = import(&site, "managers", "m.json", second, &[]);
    assert!(text.contains("~ 1  capacity 5 → 7, region \"north\" → \"east\"\n"), "{text}");
    assert!(
        text.contains("1 changed, 0 removed, 1 unchanged, 1 only on the topic and kept"),
        "{text}"
    );
    let (text, code) = import(&site, "managers", "m.json", second, &["--prune", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("- 3\n") && text.contains("2 records written"), "{text}");
    let written = managers();
    assert_eq!(written.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((written["1"].region.as_str(), written["1"].capacity), ("east", 7));

    // What is wrong names line and field, and writes nothing.
    let wrong = format!("{HEADER}4,Gleb,g@x,north,many,true\n-5,Dina,d@x,,1,true\n");
    let (text, code) = import(&site, "managers", "m.csv", &wrong, &["--yes"]);
    assert_eq!(code, Some(1), "{text}");
    for found in [
        "line 2: field \"capacity\": found \"many\"",
        "line 3: field \"region\": found \"\"",
        "nothing was written",
    ] {
        assert!(text.contains(found), "no {found} in {text}");
    }
    assert_eq!(managers(), written);
}

#[test]
fn contacts_have_what_there_is_of_them() {
    let site = Site::new();
    let file = "recipient;email;telegram_chat_id;phone;locale\ncustomer:1;c@x;;+79990000001;ru\ncontractor:9;;-100200;;en\n";
    let (text, code) = import(&site, "contacts", "c.csv", file, &["--yes"]);
    assert_eq!(code, Some(0), "{text}");
    let serde = registered_serdes().contacts;
    let mut contacts: Vec<_> = read_committed("contacts")
        .into_iter()
        .map(|message| {
            let value = Some(message.value.unwrap().into());
            serde
                .deserializer()
                .deserialize("contacts", &Headers::default(), value.as_ref())
                .unwrap()
        })
        .collect();
    contacts.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    assert_eq!(contacts[0].telegram_chat_id, Some(-100_200));
    assert_eq!((contacts[0].email.as_deref(), contacts[1].email.as_deref()), (None, Some("c@x")));
    assert_eq!(contacts[1].phone.as_deref(), Some("+79990000001"));
}
