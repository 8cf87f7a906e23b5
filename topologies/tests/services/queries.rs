//! Questions to two instances, on the command line: each knows only half of it, and both give the whole answer.

use serde_json::Value;
use test_support::{DEADLINE, Outcome, produce, wait_until};

use crate::load::{Load, home_of, region};
use crate::site::{Site, TASKS, get};

const REQUESTS: usize = 200;
const SEED: u64 = 20_261_121;

/// Standard output and exit code of a question.
pub(crate) fn told(site: &Site, arguments: &[&str]) -> (String, Option<i32>) {
    let output = site.command(arguments).output().unwrap();
    let text = match output.stdout.is_empty() {
        true => String::from_utf8(output.stderr).unwrap(),
        false => String::from_utf8(output.stdout).unwrap(),
    };
    (text, output.status.code())
}

/// What an address answers over HTTP, as JSON.
pub(crate) fn ask(address: &str, path: &str) -> Value {
    get(address, path).unwrap()
}

/// The answer as JSON, whole or not; none where there was none.
pub(crate) fn answer(site: &Site, instance: &str, question: &[&str]) -> Option<Value> {
    let arguments = [question, &["--json", "--instance", instance]].concat();
    let (text, _) = told(site, &arguments);
    serde_json::from_str(&text).ok()
}

#[test]
fn either_instance_gives_the_whole_answer() {
    let site = Site::new();
    let mut load = Load::new(SEED);
    produce("request-events", &load.requests(REQUESTS), Outcome::Plain);
    let mut first = site.start("first", &[]);
    let mut second = site.start("second", &[]);
    let addresses = [first.address(), second.address()];
    wait_until("all tasks", DEADLINE, || {
        let (here, there) = (first.running_tasks(), second.running_tasks());
        !here.is_empty() && !there.is_empty() && here.len() + there.len() == TASKS
    });

    // Nobody there to take them: all wait, and both instances know all of them.
    let waiting = |instance: &str, arguments: &[&str]| -> Vec<Value> {
        let question = [&["waiting"], arguments].concat();
        let answer = answer(&site, instance, &question).unwrap_or_default();
        answer["waiting"].as_array().cloned().unwrap_or_default()
    };
    wait_until("all requests to wait", DEADLINE, || waiting(&addresses[0], &[]).len() == REQUESTS);
    let all = waiting(&addresses[0], &[]);
    assert_eq!(all, waiting(&addresses[1], &[]));
    let turn = |place: &Value| (place["priority"].to_string(), place["filed_at_ms"].as_i64());
    assert!(all.is_sorted_by_key(turn));
    let some = region(load.filed[0].region);
    let of_region = waiting(&addresses[1], &["--region", &some]);
    let wanted = load.filed.iter().filter(|filed| filed.region == load.filed[0].region).count();
    assert_eq!(of_region.len(), wanted);
    assert!(of_region.iter().all(|place| place["region"] == some.as_str()));
    assert_eq!(answer(&site, &addresses[0], &["get", "request", "1"]).unwrap()["status"], "new");

    // Managers come: every request has one of its own region, whomever is asked.
    produce("managers", &load.managers(), Outcome::Plain);
    wait_until("no request to wait", DEADLINE, || waiting(&addresses[1], &[]).is_empty());
    let mut by_manager = std::collections::BTreeMap::<i64, Vec<i64>>::new();
    for (index, filed) in load.filed.iter().enumerate().step_by(9) {
        let id = (index + 1).to_string();
        let question = ["get", "request", &id];
        let found = answer(&site, &addresses[index % 2], &question).unwrap();
        assert_eq!(found["status"], "assigned", "{found}");
        assert_eq!(found["region"], region(filed.region).as_str(), "{found}");
        let manager = found["manager_id"].as_i64().unwrap();
        assert_eq!(home_of(manager), filed.region, "{found}");
        by_manager.entry(manager).or_default().push(i64::try_from(index + 1).unwrap());
    }
    for (index, (manager, requests)) in by_manager.iter().take(4).enumerate() {
        let id = manager.to_string();
        let question = ["get", "manager", &id];
        let found = answer(&site, &addresses[index % 2], &question).unwrap();
        let in_hand: Vec<i64> = found["requests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|request| request["request_id"].as_i64().unwrap())
            .collect();
        assert!(requests.iter().all(|request| in_hand.contains(request)), "{found}");
        assert_eq!(found["open"].as_u64().unwrap(), in_hand.len() as u64, "{found}");
        assert_eq!(found["region"], region(home_of(*manager)).as_str(), "{found}");
    }

    // As text, and what nobody knows.
    let (text, code) = told(&site, &["get", "request", "1", "--instance", &addresses[1]]);
    // The other topologies' parts are missing: nobody runs them.
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("incomplete\n  contractor-access: "), "{text}");
    assert!(text.starts_with("request 1\n") && text.contains("assigned"), "{text}");
    let (text, code) = told(&site, &["get", "request", "999999", "--instance", &addresses[0]]);
    assert!(code == Some(1) && text.starts_with("request 999999\nincomplete\n"), "{text}");
    let (text, code) = told(&site, &["get", "request", "1", "--instance", "127.0.0.1:1"]);
    assert!(code == Some(1) && text.contains("wanted a running instance there"), "{text}");

    // One is gone: the other answers for all of it.
    let (cancelled, finished) = load.closings();
    produce("request-events", &cancelled, Outcome::Plain);
    produce("workflow-events", &finished, Outcome::Plain);
    second.stop();
    first.wait_for_tasks(TASKS);
    let closed = load.closed.iter().position(|closed| *closed).unwrap() + 1;
    wait_until("a closed request", DEADLINE, || {
        answer(&site, &addresses[0], &["get", "request", &closed.to_string()])
            .is_some_and(|found| found["status"] == "closed")
    });
    first.stop();
}
