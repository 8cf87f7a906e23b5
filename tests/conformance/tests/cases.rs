//! The packed cases pass, and the runner sees a difference where there is one.

#[cfg(feature = "rocksdb")]
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use conformance::files;
use conformance::run::{InMemory, Outcome, Stores, check, check_committing};
use serde_json::json;

fn cases() -> Vec<files::Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    files::read(&folder).expect("the packed cases can be read")
}

/// How many of the packed cases pass. Only ever raised: the others need operations that the engine does not have yet.
const PASSED_MIN: usize = 1104;

fn every(inputs: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(inputs)
}

/// Checks `cases`; returns how many passed. A case that differs fails the test.
fn passed<'a>(
    cases: impl IntoIterator<Item = &'a files::Case>,
    stores: &dyn Stores,
    commit_every: Option<NonZeroUsize>,
) -> usize {
    let (mut passed, mut skipped, mut wrong) = (0, 0, Vec::new());
    for case in cases {
        match check_committing(&case.json, stores, commit_every) {
            Outcome::Passed => passed += 1,
            Outcome::Unsupported(_) => skipped += 1,
            Outcome::Failed(difference) => wrong.push(format!("{}:\n{difference}", case.place)),
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    println!("{passed} passed, {skipped} skipped");
    passed
}

#[test]
fn every_packed_case_gives_kafka_streams_results() {
    let found = passed(&cases(), &InMemory, None);
    assert!(found >= PASSED_MIN, "found {found} cases passed, wanted {PASSED_MIN} at least");
}

#[test]
fn stores_closed_and_opened_after_every_input_change_nothing() {
    let found = passed(&cases(), &InMemory, every(1));
    assert!(found >= PASSED_MIN, "found {found} cases passed, wanted {PASSED_MIN} at least");
}

#[cfg(feature = "rocksdb")]
#[test]
fn stores_on_rocksdb_give_the_same_results() {
    let stores = conformance::on_disk::OnDisk::default();
    let found = passed(&cases(), &stores, None);
    assert!(found >= PASSED_MIN, "found {found} cases passed, wanted {PASSED_MIN} at least");
}

/// One case of each kind: opening a database after each input takes its time.
#[cfg(feature = "rocksdb")]
#[test]
fn stores_on_rocksdb_closed_and_opened_after_every_input_change_nothing() {
    let cases = cases();
    let by_kind: BTreeMap<&str, &files::Case> =
        cases.iter().map(|case| (case.kind(), case)).collect();
    let stores = conformance::on_disk::OnDisk::default();
    assert!(passed(by_kind.into_values(), &stores, every(1)) > 0);
}

/// A runner that passes everything would be worth nothing.
#[test]
fn a_wrong_record_store_and_description_are_seen() {
    let has = |json: &serde_json::Value| {
        json["expected"].as_array().is_some_and(|records| !records.is_empty())
            && json["final_stores"].as_object().is_some_and(|stores| !stores.is_empty())
    };
    let case = cases()
        .into_iter()
        .find(|case| has(&case.json) && check(&case.json, &InMemory) == Outcome::Passed);
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
