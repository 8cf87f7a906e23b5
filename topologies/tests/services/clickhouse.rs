//! The sink on a real ClickHouse: kills on both sides in mid-batch, and the table is the topic.

use std::collections::BTreeMap;

use aggregator::events::{AuditEvent, AuditSystemEvent, Envelope};
use kstreams::serdes::Encoded;
use kstreams::{Clock as _, Headers, SystemClock, Timestamp};
use serde_json::Value;
use test_support::{DEADLINE, Message, Outcome, Process, produce, read_committed, wait_until};
use uuid::Uuid;

use crate::clickhouse_server::Server;
use crate::load::registered_serdes;
use crate::proxy::{Hold, Proxy};
use crate::site::{Instance, Site};

const TOPIC: &str = "audit-events";
const EVENTS: i64 = 12_000;

/// Event `n`: request n / 3 is filed, assigned, and told of.
fn event(n: i64, base_ms: i64) -> AuditEvent {
    let request = n / 3;
    let text = |pairs: &[(&str, String)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let region = ("region", format!("регион-{}", request % 5));
    let (action, at, details) = match n % 3 {
        0 => (
            "request.created",
            base_ms + request,
            text(&[region, ("title", "a\t\"b\"\n\\".into())]),
        ),
        1 => {
            let deadline = base_ms + request + 1_000;
            let priority = ("priority", "P1".to_owned());
            let assigned = base_ms + request + 500 * (request % 4);
            let details = text(&[region, priority, ("sla_deadline", deadline.to_string())]);
            ("workflow.manager_assigned", assigned, details)
        }
        _ => {
            let pairs =
                [("channel", "email".to_owned()), ("notification_id", format!("n{request}"))];
            ("notification.email.sent", base_ms + request, text(&pairs))
        }
    };
    AuditEvent::from(AuditSystemEvent {
        envelope: Envelope {
            event_id: Uuid::from_u128(n.unsigned_abs().into()),
            event_type: "audit.system_event".into(),
            timestamp: Timestamp::from_millis(at),
            source: "audit-fanout".into(),
            version: 1,
            correlation_id: (n % 2 == 0).then(|| Uuid::from_u128(7)),
            causation_id: None,
        },
        entity: format!("request:{request}"),
        actor: "service:test".into(),
        action: action.into(),
        topic: "request-events".into(),
        partition: 1,
        offset: n,
        request_id: Some(request),
        contractor_id: None,
        details,
    })
}

fn messages(numbers: std::ops::Range<i64>, base_ms: i64) -> Vec<Message> {
    let serde = registered_serdes().audit;
    let message = |n: i64| {
        let mut value = Vec::new();
        let event = event(n, base_ms);
        let written = serde.serializer().serialize(TOPIC, &event, &mut value).unwrap();
        assert_eq!(written, Encoded::Bytes);
        Message {
            key: Some(format!("request:{}", n / 3).into_bytes()),
            value: Some(value),
            ..Message::default()
        }
    };
    numbers.map(message).collect()
}

struct Sink<'a> {
    site: &'a Site,
    url: String,
}

impl Sink<'_> {
    fn start(&self) -> Instance {
        let mut command =
            self.site.command(&["run", "clickhouse-sink", "--set", "log.format=json"]);
        for setting in [
            &format!("clickhouse.url={}", self.url),
            "clickhouse.batch_rows=300",
            "clickhouse.batch_interval_ms=100",
            "clickhouse.request_timeout_ms=3000",
            "clickhouse.retry_backoff_max_ms=500",
            "kafka.group_instance_id=sink",
        ] {
            command.arg("--set").arg(setting);
        }
        Instance { process: Process::start(command) }
    }
}

fn rows(server: &Server) -> usize {
    server.query("SELECT count() FROM audit_events").trim().parse().unwrap()
}

fn ready(instance: &mut Instance) -> Value {
    let line = instance.process.wait_for_line("serving /metrics", DEADLINE);
    let line: Value = serde_json::from_str(&line).unwrap();
    crate::queries::ask(line["address"].as_str().unwrap(), "/health/ready")
}

#[test]
fn the_table_is_the_topic_whoever_is_killed_in_mid_batch() {
    let site = Site::new();
    let mut server = Server::start();
    let proxy = Proxy::start(server.port());
    let sink = Sink { site: &site, url: proxy.url() };
    let apply = |wanted: &str| {
        let url = format!("clickhouse.url={}", proxy.url());
        let output = site.command(&["clickhouse", "apply", "--set", &url]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.lines().all(|line| line.ends_with(wanted)),
            "{text}"
        );
    };
    apply("applied");
    apply("was there");

    let base_ms = SystemClock::default().now().as_millis() - 3_600_000;
    produce(TOPIC, &messages(0..EVENTS / 2, base_ms), Outcome::Plain);
    let poison =
        Message { key: Some(b"k".to_vec()), value: Some(b"\xff".to_vec()), ..Message::default() };
    produce(TOPIC, &[poison], Outcome::Plain);
    produce(TOPIC, &messages(EVENTS..EVENTS + 50, base_ms), Outcome::Aborted);
    // ClickHouse dies when it has half of a batch: the sink waits and says so, and goes on afterwards.
    proxy.hold(Hold::Request, 4);
    let mut instance = sink.start();
    proxy.wait();
    let before = rows(&server);
    assert!((1..EVENTS as usize / 2).contains(&before), "{before} rows, in the middle");
    server.kill();
    proxy.release();
    wait_until("the sink to say so", DEADLINE, || {
        let health = ready(&mut instance);
        health["ok"] == true && health["degraded"]["clickhouse-sink"].is_string()
    });
    server.restart();
    wait_until("more rows", DEADLINE, || rows(&server) > before);
    wait_until("health", DEADLINE, || {
        ready(&mut instance)["degraded"].as_object().unwrap().is_empty()
    });

    // The sink dies when ClickHouse has half of a batch, and once more when it has all of one, which the sink does not know.
    for hold in [Hold::Request, Hold::Answer] {
        proxy.hold(hold, 3);
        let part = EVENTS / 2 + if hold == Hold::Answer { EVENTS / 4 } else { 0 };
        produce(TOPIC, &messages(part..part + EVENTS / 4, base_ms), Outcome::Committed);
        proxy.wait();
        assert!(rows(&server) < EVENTS as usize, "in the middle");
        instance.kill();
        proxy.release();
        instance = sink.start();
    }
    instance.process.wait_for_line("rows are written already", DEADLINE);
    let topic = read_committed(TOPIC);
    assert_eq!(topic.len(), EVENTS as usize + 1);
    wait_until("every row", DEADLINE, || {
        server.query("SELECT count() FROM audit_events FINAL").trim() == topic.len().to_string()
    });
    instance.stop();
    check_contents(&server, &topic);
    check_views(&server);
}

/// Row by row; and what was inserted twice, for lack of an answer, was not: the engine had nothing to merge.
fn check_contents(server: &Server, topic: &[Message]) {
    assert_eq!(rows(server), topic.len());
    let answer = server.query(
        "SELECT kafka_partition, kafka_offset, event_id, event_type, action, timestamp_ms, correlation_id, \
         request_id, contractor_id, details.key, details.value, toString(day) AS day \
         FROM audit_events FORMAT JSONEachRow",
    );
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let mut found: BTreeMap<(i64, i64), Value> = BTreeMap::new();
    for line in answer.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let place =
            (number(&row["kafka_partition"]).unwrap(), number(&row["kafka_offset"]).unwrap());
        assert!(found.insert(place, row).is_none(), "{place:?} twice");
    }
    let serde = registered_serdes().audit;
    for message in topic {
        let place = (i64::from(message.partition.unwrap()), message.offset);
        let row = found.remove(&place).unwrap_or_else(|| panic!("{place:?} is missing"));
        let value = message.value.clone().map(Into::into);
        let read = serde.deserializer().deserialize(TOPIC, &Headers::default(), value.as_ref());
        let Ok(AuditEvent::SystemEvent(event)) = read else {
            assert_eq!(row["event_type"], "unreadable");
            continue;
        };
        assert_eq!(row["event_id"], event.envelope.event_id.to_string());
        assert_eq!(row["action"], event.action);
        assert_eq!(number(&row["timestamp_ms"]), Some(event.envelope.timestamp.as_millis()));
        let correlation = event.envelope.correlation_id.map(|id| id.to_string());
        assert_eq!(row["correlation_id"], correlation.unwrap_or_default());
        assert_eq!(number(&row["request_id"]), event.request_id);
        assert!(row["contractor_id"].is_null());
        let list =
            |name: &str| -> Vec<String> { serde_json::from_value(row[name].clone()).unwrap() };
        let details: BTreeMap<_, _> =
            list("details.key").into_iter().zip(list("details.value")).collect();
        assert_eq!(details, event.details);
    }
    assert!(found.is_empty(), "{} rows too many", found.len());
}

fn check_views(server: &Server) {
    let requests = EVENTS / 3;
    let one = |query: &str| server.query(query).trim().to_owned();
    assert_eq!(one("SELECT sum(filed) FROM requests_per_region_and_day"), requests.to_string());
    assert_eq!(one("SELECT uniqExact(region) FROM requests_per_region_and_day"), "5");
    assert_eq!(one("SELECT sum(assigned) FROM assignment_times"), requests.to_string());
    assert_eq!(one("SELECT max(max_seconds) FROM assignment_times"), "1.5");
    // Every fourth was assigned 1.5 s after it was filed, with a deadline after 1 s.
    assert_eq!(
        one("SELECT count(), max(late_seconds) FROM sla_breaches"),
        format!("{}\t0.5", requests / 4)
    );
    let sent = one(
        "SELECT channel, outcome, sum(notifications) FROM notifications GROUP BY channel, outcome",
    );
    assert_eq!(sent, format!("email\tsent\t{requests}"));
}
