//! Tables and views on two engines that are years apart: Debian's server, and a current one in Python's process (chdb). The same statements
//! run on both, and the views say the same of the same rows.

use std::path::Path;

use serde_json::json;
use test_support::run_python;

use crate::clickhouse_server::Server;

const VIEWS: [&str; 6] = [
    "events",
    "request_times",
    "requests_per_region_and_day",
    "assignment_times",
    "sla_breaches",
    "notifications",
];

/// The statements of `clickhouse/*.sql`.
fn schema() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clickhouse");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).unwrap().replace("{database}", "story");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let text: String = files.iter().map(read).collect();
    text.split(';').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// Rows of one action, for requests 0 to 19: `at` in ms after the first request, keys and values of the details.
fn rows(offset: i64, action: &str, at: &str, keys: &str, values: &str) -> String {
    format!(
        "INSERT INTO story.audit_events (kafka_topic, kafka_partition, kafka_offset, day, timestamp_ms, action, request_id, \
         details.key, details.value) \
         SELECT 'audit-events', 0, {offset} + number, toDate('2026-03-01'), 1772366400000 + {at}, '{action}', \
         toInt64(number), {keys}, {values} FROM (SELECT number FROM system.numbers LIMIT 20)"
    )
}

#[test]
fn the_views_say_the_same_on_engines_years_apart() {
    let region = "concat('region-', toString(number % 3))";
    let filed = rows(0, "request.created", "number", "['region']", &format!("[{region}]"));
    let assigned = rows(
        100,
        "workflow.manager_assigned",
        "number + number % 4 * 500",
        "['region', 'priority', 'sla_deadline']",
        &format!("[{region}, 'P1', toString(1772366400000 + number + 1000)]"),
    );
    let channel = "['email', 'sms'][1 + number % 2]";
    let sent = rows(
        200,
        "notification.email.sent",
        "number",
        "['channel', 'notification_id']",
        &format!("[{channel}, toString(intDiv(number, 2))]"),
    );
    let escalated = rows(300, "workflow.status_changed", "2000", "['to_status']", "['escalated']");
    let mut statements = vec!["CREATE DATABASE story".to_owned()];
    statements.extend(schema());
    // What is there twice is merged.
    statements.extend([filed.clone(), filed, assigned, sent, escalated]);
    let queries = VIEWS.map(|view| format!("SELECT * FROM story.{view}"));

    let server = Server::start();
    statements.iter().for_each(|statement| drop(server.query(statement)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("work.json");
    std::fs::write(&file, json!({"statements": statements, "queries": queries}).to_string())
        .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/in_process.py");
    let there: Vec<String> =
        serde_json::from_str(run_python(&script, &[file]).lines().last().unwrap()).unwrap();

    let sorted = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for ((view, query), there) in VIEWS.iter().zip(&queries).zip(&there) {
        let here = sorted(&server.query(query));
        assert!(!here.is_empty(), "{view} is empty");
        assert_eq!(here, sorted(there), "{view}");
    }
    let count = |view: &str| sorted(&server.query(&format!("SELECT * FROM story.{view}"))).len();
    assert_eq!((count("events"), count("request_times"), count("notifications")), (80, 20, 2));
    assert_eq!(count("sla_breaches"), 20, "all were escalated");
}
