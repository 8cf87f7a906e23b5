//! `aggregator schemas`: check against git and a registry, push, list; with the registry in memory, and with a real one.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

use std::path::Path;
use std::process::Command;

use aggregator::schemas::{self, Contract};
use kstreams::ErrorKind;
use kstreams::serdes::{FULL_TRANSITIVE, MemoryRegistry, SchemaRegistry};

/// A contract that adds a field with a default (allowed), or turns one into another type (not allowed).
fn changed(name: &str, breaking: bool) -> Vec<Contract> {
    let folder = tempfile::tempdir().unwrap();
    for contract in schemas::embedded().unwrap() {
        let (from, to) = if breaking {
            (
                "\"name\": \"capacity\", \"type\": \"int\"",
                "\"name\": \"capacity\", \"type\": \"long\"",
            )
        } else {
            (
                "{\"name\": \"capacity\"",
                "{\"name\": \"team\", \"type\": [\"null\", \"string\"], \"default\": null, \"doc\": \"Team.\"},\n    {\"name\": \"capacity\"",
            )
        };
        let json = match contract.event_type == name {
            true => contract.json.replace(from, to),
            false => contract.json,
        };
        write(folder.path(), &contract.topic, &contract.event_type, &json);
    }
    schemas::load(folder.path()).unwrap()
}

fn write(folder: &Path, topic: &str, event_type: &str, json: &str) {
    std::fs::create_dir_all(folder.join(topic)).unwrap();
    std::fs::write(folder.join(topic).join(format!("{event_type}.avsc")), json).unwrap();
}

/// The life of the contracts in a registry: pushed twice, evolved, and not broken. `prefix` keeps the subjects apart from
/// those of other tests.
fn check_push(registry: &dyn SchemaRegistry, prefix: &str) {
    let renamed = |mut contracts: Vec<Contract>| {
        for contract in &mut contracts {
            contract.subject = format!("{prefix}{}", contract.subject);
        }
        contracts
    };
    let changed = |name, breaking| renamed(changed(name, breaking));
    let contracts = renamed(schemas::embedded().unwrap());
    let first = schemas::push(&contracts, registry).unwrap();
    assert_eq!(first.len(), 29);
    let second = schemas::push(&contracts, registry).unwrap();
    assert!(second.iter().all(|pushed| !pushed.new));
    assert!(first.iter().zip(&second).all(|(a, b)| (&a.subject, a.id) == (&b.subject, b.id)));

    let subject = &*format!("{prefix}managers-aggregator.events.Manager");
    let error = schemas::push(&changed("manager", true), registry).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("Manager.capacity: found long, wanted int"), "{error}");
    // The registry itself guards the subject too, whoever registers.
    let broken = changed("manager", true).into_iter().find(|c| c.subject == subject).unwrap();
    assert!(!registry.check_compatibility(subject, &broken.json).unwrap().is_empty());
    assert_eq!(registry.register(subject, &broken.json).unwrap_err().kind(), ErrorKind::Invalid);

    let evolved = changed("manager", false);
    let pushed = schemas::push(&evolved, registry).unwrap();
    let new: Vec<&str> = pushed.iter().filter(|p| p.new).map(|p| p.subject.as_str()).collect();
    assert_eq!(new, [subject]);
    let list = schemas::list(&contracts, registry).unwrap();
    let manager = list.iter().find(|listed| listed.subject == subject).unwrap();
    assert_eq!((manager.version, manager.current), (2, Some(false)));
    assert_eq!(manager.compatibility.as_deref(), Some(FULL_TRANSITIVE));
    let other = list
        .iter()
        .find(|listed| {
            listed.subject.starts_with(prefix) && listed.subject.contains("RequestCreated")
        })
        .unwrap();
    assert_eq!((other.version, other.current), (1, Some(true)));
}

#[test]
fn contracts_are_pushed_once_evolved_and_never_broken() {
    check_push(&MemoryRegistry::new(), "");
}

#[test]
fn a_folder_without_schemas_or_with_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = schemas::load(folder.path()).unwrap_err();
    assert!(error.message().contains("found no schema in"), "{error}");
    write(folder.path(), "topic", "event", "{");
    let error = schemas::load(folder.path()).unwrap_err();
    assert!(error.message().starts_with("topic/event.avsc: "), "{error}");
    let error = schemas::load(&folder.path().join("nowhere")).unwrap_err();
    assert!(error.message().contains("nowhere"), "{error}");
}

#[test]
fn a_change_is_checked_against_a_git_revision() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(folder.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let avro = folder.path().join("avro");
    for contract in schemas::embedded().unwrap() {
        write(&avro, &contract.topic, &contract.event_type, &contract.json);
    }
    write(&avro, "old-events", "old.gone", r#"{"type":"record","name":"Gone","fields":[]}"#);
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);

    let gone = "old-events/old.gone: is gone since HEAD";
    let texts = |contracts: &[Contract]| -> Vec<String> {
        let findings = schemas::check_git(&avro, contracts, "HEAD").unwrap();
        findings.iter().map(ToString::to_string).collect()
    };
    let good = texts(&changed("manager", false));
    assert!(good.len() == 1 && good[0].starts_with(gone), "{good:?}");
    let bad = texts(&changed("manager", true));
    assert!(bad.iter().any(|text| text.contains("capacity: found long, wanted int")), "{bad:?}");
    let error = schemas::check_git(&avro, &changed("manager", false), "nothing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[cfg(feature = "broker-tests")]
mod registry {
    use std::sync::Arc;

    use aggregator::events::{self, Event, RequestEvent};
    use bytes::Bytes;
    use kstreams::serdes::{HttpRegistry, RegistryConfig, SchemaCache, decode_json, wire};
    use kstreams::{Clock, Headers, SystemClock};

    use super::*;

    fn url() -> String {
        std::env::var("KSTREAMS_TEST_REGISTRY").expect("the tests are started by `make test`")
    }

    fn http(urls: &str) -> HttpRegistry {
        HttpRegistry::new(RegistryConfig::new(urls)).unwrap()
    }

    #[test]
    fn a_real_registry_takes_the_contracts_and_serves_their_ids() {
        // The first address does not answer; the second does.
        let registry = http(&format!("http://127.0.0.1:1,{}/", url()));
        check_push(&registry, &format!("test-{}-", uuid::Uuid::new_v4()));
        schemas::push(&schemas::embedded().unwrap(), &registry).unwrap();

        assert_eq!(registry.schema_by_id(99_999_999).unwrap(), None);
        assert_eq!(registry.versions("no-such.subject").unwrap(), []);
        assert_eq!(registry.id_of("no-such.subject", "\"int\"").unwrap(), None);
        assert_eq!(registry.compatibility("no-such.subject").unwrap(), None);
        let refused = registry.register("no-such.subject", "{\"type\":\"nonsense\"}").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);

        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let cache = SchemaCache::new(Arc::new(registry), clock.clone());
        events::check_registered(&cache, &["request-events", "workflow-events"]).unwrap();
        let serdes = events::serdes(&cache, &clock).unwrap();
        let event = RequestEvent::from(events::RequestCancelled {
            envelope: events::Envelope::new(
                uuid::Uuid::from_u128(1),
                events::RequestCancelled::TYPE,
                clock.now(),
                "test",
                None,
            ),
            request_id: 1,
            customer_id: 2,
            region: "north".to_owned(),
            reason: "r".to_owned(),
            cancelled_by: "customer:2".to_owned(),
        });
        let mut out = Vec::new();
        let _ = serdes.requests.serializer().serialize("t", &event, &mut out).unwrap();
        let frame = Bytes::from(out);
        let read = |frame: &Bytes| {
            serdes.requests.deserializer().deserialize("t", &Headers::default(), Some(frame))
        };
        assert_eq!(read(&frame).unwrap(), event);
        let json = decode_json(&cache, &frame).unwrap();
        assert_eq!(json.name, "aggregator.events.RequestCancelled");
        assert_eq!(json.value["region"], "north");
        let unknown = Bytes::copy_from_slice(&wire::header(99_999_999));
        assert_eq!(read(&unknown).unwrap_err().kind(), ErrorKind::BadRecord);
    }

    #[test]
    fn no_registry_and_something_else_at_its_address_are_outages_not_bad_records() {
        for (urls, wanted) in [
            ("http://127.0.0.1:1", "does not answer"),
            (&*format!("{}/no/such/path", url()), "wanted a schema registry's answer"),
        ] {
            let error = http(urls).schema_by_id(1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Retriable, "{error}");
            assert!(error.message().contains(wanted), "{error}");
        }
    }
}
