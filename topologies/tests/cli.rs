//! The command `aggregator` from outside, as far as it needs no service.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with nothing of our own environment in its settings.
fn aggregator(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
    command.env_clear().envs(environment.iter().copied()).args(arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line of a failure.
#[track_caller]
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].strip_prefix("error: ").unwrap().to_owned()
}

#[test]
fn config_shows_every_layer_and_hides_secrets() {
    let environment =
        [("KAFKA_CLIENT_SASL_PASSWORD", "hunter2"), ("KAFKA_NUM_STREAM_THREADS", "2")];
    let flags = ["--config", "config/local.toml", "--set", "log.format=json", "config"];
    let text = told(&aggregator(&flags, &environment));
    for line in [
        "num_stream_threads = 2 # environment KAFKA_NUM_STREAM_THREADS",
        "close_timeout_ms = 10000 # file config/local.toml",
        "format = \"json\" # flag",
        "commit_interval_ms = 100 # default",
        "\"sasl.password\" = \"********\" # environment KAFKA_CLIENT_SASL_PASSWORD",
    ] {
        assert!(text.lines().any(|found| found == line), "no \"{line}\" in {text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_is_wrong_is_one_line_that_says_what_to_do() {
    let text = error(&aggregator(&["run", "--set", "kafka.comit_interval_ms=1"], &[]));
    assert!(text.contains("did you mean kafka.commit_interval_ms?"), "{text}");
    let text = error(&aggregator(&["run"], &[("KAFKA_BOOTSTRAP_SERVER", "a:1")]));
    assert!(text.contains("such as KAFKA_BOOTSTRAP_SERVERS;"), "{text}");
    let text = error(&aggregator(&["run", "--config", "nowhere.toml"], &[]));
    assert!(text.contains("file \"nowhere.toml\""), "{text}");
    let text = error(&aggregator(&["run", "manager-asignment"], &[]));
    assert!(text.contains("wanted one of: manager-assignment"), "{text}");
    let text = error(&aggregator(&["run", "--set", "consumer.group.id=mine"], &[]));
    assert!(text.contains("consumer.group.id"), "{text}");
    let text = error(&aggregator(&["config", "--set", "log.level=loud,,x=y=z"], &[]));
    assert!(text.starts_with("setting log.level: found \"loud,,x=y=z\""), "{text}");
}

#[test]
fn describe_is_the_graph_alone() {
    let text = told(&aggregator(&["describe", "manager-assignment"], &[]));
    assert!(text.starts_with("Topologies:\n   Sub-topology: 0\n"), "{text}");
    assert!(told(&aggregator(&["describe"], &[])).starts_with(&text), "all begin with the first");
}

#[test]
fn contracts_are_checked_offline() {
    let text = told(&aggregator(&["schemas", "check", "--folder", "avro"], &[]));
    assert_eq!(text, "29 schemas, 0 findings\n");
}

#[test]
fn the_table_of_topics_is_printed() {
    let text = told(&aggregator(&["topics", "list"], &[]));
    assert!(text.contains("| request-events | region | 6 | 3 | 7 d | request.created,"), "{text}");
    let letters = "| manager-assignment-managers-dlq | the record's own | 3 | 3 | 30 d |";
    assert!(text.contains(letters), "{text}");
}

#[test]
fn a_missing_broker_is_named() {
    // Bound and closed again: nobody answers there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let flags = ["--set", "kafka.default_api_timeout_ms=300", "--set", "log.level=off"];
    for command in [&["run"][..], &["topics", "diff"], &["dlq", "list"]] {
        let line = [command, &flags, &["--bootstrap-servers", &address]].concat();
        let text = error(&aggregator(&line, &[]));
        assert!(text.contains(&format!("no broker answered at \"{address}\"")), "{text}");
        assert!(text.contains("check bootstrap.servers"), "{text}");
    }
}
