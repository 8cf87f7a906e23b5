//! Starts that cannot be, as far as they need a cluster: one line that says what was found, wanted, and what to do.

use test_support::{DEADLINE, Topic, create_topic, delete_topics};

use crate::site::Site;

/// The one line of a refused start.
#[track_caller]
fn refused(site: &Site, settings: &[&str]) -> String {
    let mut arguments = vec!["run", "manager-assignment", "--set", "log.level=off"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let output = site.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().strip_prefix("error: ").unwrap().to_owned()
}

#[test]
fn missing_topics_are_all_named_with_what_makes_them() {
    let site = Site::without_topics();
    let text = refused(&site, &[]);
    for part in [
        "topic \"request-events\": found none, wanted 6 partitions",
        "topic \"managers\": found none, wanted 3 partitions",
        "topic \"workflow-events\": found none, wanted 3 partitions",
        "run `aggregator topics apply`",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn wrong_partition_counts_are_named_with_found_and_wanted() {
    let site = Site::new();
    delete_topics(&["request-events"]);
    create_topic(Topic { name: "request-events", partitions: 4, config: &[] });
    let text = refused(&site, &[]);
    assert!(text.contains("topic \"request-events\": found 4 partitions, wanted 6"), "{text}");
    assert!(text.contains("run `aggregator topics apply`"), "{text}");

    // What is advised does help.
    let output = site.command(&["topics", "apply"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut app = site.start("state", &[]);
    app.process.wait_for_line("\"to\":\"RUNNING\"", DEADLINE);
    app.stop();

    // The engine's own topics exist now, and another number of them would mix up the tasks.
    let text = refused(&site, &["manager_assignment.internal_partitions=12"]);
    let topic = site.topic("by-re");
    assert!(text.contains(&format!("internal topic \"{topic}")), "{text}");
    assert!(text.contains("found 6 partitions, wanted 12"), "{text}");
    assert!(text.contains("give it a new application.id"), "{text}");
}
