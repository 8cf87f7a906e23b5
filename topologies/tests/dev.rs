//! The local mode as a whole: the program itself, with a summary that must add up.

use std::process::{Command, Output};

use serde_json::Value;

fn aggregator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .args(arguments)
        .output()
        .expect("cargo has built the program")
}

#[test]
fn a_run_of_the_local_mode_assigns_dead_letters_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary.json");
    let output = aggregator(&[
        "dev",
        "--seconds=4",
        "--rate=200",
        "--poison=0.1",
        "--seed=7",
        "--summary",
        file.to_str().unwrap(),
    ]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let parts = [
        "broker ",
        "registry ",
        "kcat -b 127.0.0.1:",
        "(adds up)",
        // The other topologies take part in the story.
        "access_granted",
        "contract_generated",
        "document_created",
    ];
    for part in parts {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let count = |name: &str| summary[name].as_u64().unwrap();
    let classes = ["assigned", "waiting", "cancelled", "duplicates", "dead_letters"];
    assert_eq!(count("requests"), classes.into_iter().map(count).sum::<u64>(), "{summary}");
    assert!(count("requests") >= 400, "{summary}");
    assert!(count("assigned") > count("requests") / 2, "{summary}");
    assert!(count("dead_letters") > 0, "{summary}");
}

#[test]
fn arguments_out_of_range_are_refused_in_one_line() {
    for (argument, found) in [("--rate=0", "rate: found 0"), ("--poison=2", "poison: found 2")] {
        let output = aggregator(&["dev", argument]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(errors.contains(found) && errors.lines().count() == 1, "{errors}");
    }
}
