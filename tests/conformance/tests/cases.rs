//! The packed cases pass, and the runner sees a difference where there is one.

use std::path::Path;

use conformance::files;
use conformance::run::{InMemory, Outcome, check};
use serde_json::json;

fn cases() -> Vec<files::Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    files::read(&folder).expect("the packed cases can be read")
}

#[test]
fn every_packed_case_gives_kafka_streams_results() {
    let cases = cases();
    assert!(cases.len() > 150, "found {} cases, wanted the packed ones", cases.len());
    let outcomes = cases.iter().map(|case| (case, check(&case.json, &InMemory)));
    let wrong: Vec<String> = outcomes
        .filter(|(_, outcome)| *outcome != Outcome::Passed)
        .map(|(case, outcome)| format!("{}: {outcome:?}", case.place))
        .collect();
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A runner that passes everything would be worth nothing.
#[test]
fn a_wrong_record_store_and_description_are_seen() {
    let has = |json: &serde_json::Value| {
        json["expected"].as_array().is_some_and(|records| !records.is_empty())
            && json["final_stores"].is_object()
    };
    let case = cases().into_iter().find(|case| has(&case.json));
    let case = case.expect("a packed case with records and stores").json;
    let failed = |case: &serde_json::Value| matches!(check(case, &InMemory), Outcome::Failed(_));
    assert!(!failed(&case));

    let mut wrong = case.clone();
    wrong["expected"][0]["ts"] = json!(-5);
    assert!(failed(&wrong));
    let mut wrong = case.clone();
    if let Some(records) = wrong["expected"].as_array_mut() {
        records.pop();
    }
    assert!(failed(&wrong));
    let mut wrong = case.clone();
    for (_, rows) in wrong["final_stores"].as_object_mut().into_iter().flatten() {
        *rows = json!([{"key": "nobody", "value": 1}]);
    }
    assert!(failed(&wrong));
    let mut wrong = case.clone();
    wrong["describe"] = json!("Topologies:\n");
    assert!(failed(&wrong));
    let mut without = case;
    without["ops"][0]["op"] = json!("teleport");
    without["ops"][0]["in"] = json!("nowhere");
    assert!(!matches!(check(&without, &InMemory), Outcome::Passed));
}
