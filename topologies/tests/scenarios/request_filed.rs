//! Scenario 1: a customer files a request. A manager is assigned, the customer is told that it was received, the manager that it is theirs.

use aggregator::events::derived_id;
use serde_json::json;
use test_support::{DEADLINE, wait_until};

use crate::python::{correlation, event_id};
use crate::stage::{FILED, MANAGER, REGION, Stage, check_notifications};

const REQUEST: i64 = 101;
/// Filed two minutes ago, and due a minute later.
const LATE: i64 = 102;

#[test]
fn a_request_that_is_filed_has_a_manager_and_both_sides_know() {
    let mut stage = Stage::new(&[]);
    stage.introduce();
    let filed_ms = stage.file(1, REQUEST);
    stage.told.write();
    stage.mail("customer@example.org", "Заявка №101 принята");
    stage.mail("anna@example.org", "Вам назначена заявка №101 (P1)");
    stage.check_audit(REQUEST, &FILED);
    check_assignment(&stage, filed_ms);
    check_mails(&stage, filed_ms);
    check_answers(&stage);

    // Filed once more, as another event, and given up: nobody is assigned or told twice.
    stage.file(2, REQUEST);
    let fields = json!({
        "request_id": REQUEST, "customer_id": 456, "region": REGION, "reason": "уже не течёт",
        "cancelled_by": "customer:456",
    });
    stage.told.event((3, REQUEST), ("request-events", "request.cancelled"), REGION, fields);
    stage.told.write();
    let mail = stage.mail("customer@example.org", "Заявка №101 отменена");
    assert!(mail["text"].as_str().unwrap().contains("уже не течёт"), "{mail}");
    wait_until("the manager to be free", DEADLINE, || {
        stage.ask(&["get", "manager", "7"])["open"] == 0
    });
    assert_eq!(stage.ask(&["get", "request", "101"])["status"], "closed");
    stage.only("workflow-events", "workflow.manager_assigned", REQUEST);
    stage.mail("customer@example.org", "Заявка №101 принята");
    assert_eq!(stage.mails().len(), 3, "{:?}", stage.mails());

    // One that reaches us late has breached its SLA, without ever having waited for a manager.
    stage.told.ago_ms = 120_000;
    stage.file(4, LATE);
    stage.told.write();
    stage.mail("anna@example.org", "Вам назначена заявка №102 (P1)");
    check_figures(&stage);
    stage.finish();
}

fn check_assignment(stage: &Stage, filed_ms: i64) {
    let event = stage.only("workflow-events", "workflow.manager_assigned", REQUEST);
    let wanted = json!({
        "event_id": derived_id(event_id(1), "workflow.manager_assigned", "101:1"),
        "event_type": "workflow.manager_assigned",
        "timestamp": event["timestamp"],
        "source": "manager-assignment",
        "version": 1,
        "correlation_id": correlation(REQUEST),
        "causation_id": event_id(1),
        "request_id": REQUEST,
        "manager_id": MANAGER,
        "region": REGION,
        "priority": "P1",
        "sla_deadline": filed_ms + 60_000,
        "attempt": 1,
        "escalated": false,
    });
    assert_eq!(event, wanted);
}

/// Their texts, and the events that say that they were sent.
fn check_mails(stage: &Stage, filed_ms: i64) {
    let received = stage.mail("customer@example.org", "Заявка №101 принята");
    let text = received["text"].as_str().unwrap();
    for part in ["заявку №101 «Течёт кран».", "Город: Мурманск.", "Регион: север."]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let yours = stage.mail("anna@example.org", "Вам назначена заявка №101 (P1)");
    let text = yours["text"].as_str().unwrap();
    let due_seconds = (filed_ms + 60_000) / 1_000;
    let due =
        stage.value(&format!("SELECT formatDateTime(toDateTime({due_seconds}, 'UTC'), '%FT%T')"));
    for part in [
        "«Течёт кран»",
        "Приоритет: P1.",
        "Мурманск, Полярная 1.",
        &format!("Срок назначения: {due}"),
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let mut sent = stage.about("notification-events", "notification.email.sent", REQUEST);
    sent.sort_by_key(|event| event["template"].to_string());
    for (event, (recipient, template, mail)) in sent.iter().zip([
        ("manager:7", "manager_assigned", &yours),
        ("customer:456", "request_created", &received),
    ]) {
        assert_eq!(
            (&event["recipient"], &event["template"]),
            (&json!(recipient), &json!(template))
        );
        assert_eq!(
            (&event["attempts"], &event["correlation_id"]),
            (&json!(1), &json!(correlation(REQUEST)))
        );
        let id = event["notification_id"].as_str().unwrap();
        assert_eq!(mail["id"], format!("<{id}@example.org>"));
    }
    assert_eq!(sent.len(), 2, "{sent:?}");
}

fn check_answers(stage: &Stage) {
    let request = stage.ask(&["get", "request", "101"]);
    for (name, wanted) in [
        ("status", json!("assigned")),
        ("manager_id", json!(MANAGER)),
        ("priority", json!("P1")),
        ("region", json!(REGION)),
        ("assignments", json!(1)),
    ] {
        assert_eq!(request[name], wanted, "{request}");
    }
    check_notifications(
        &request,
        &["customer:456 email request_created sent", "manager:7 email manager_assigned sent"],
    );
    let manager = stage.ask(&["get", "manager", "7"]);
    assert_eq!(
        (&manager["open"], &manager["requests"][0]["request_id"]),
        (&json!(1), &json!(REQUEST))
    );
    assert_eq!(stage.ask(&["waiting"])["waiting"], json!([]));
}

/// What analysts see.
fn check_figures(stage: &Stage) {
    wait_until("the late request in ClickHouse", DEADLINE, || {
        stage.value("SELECT count() FROM sla_breaches") == "1"
    });
    let breach = "SELECT request, region, priority, escalated_ms IS NULL, \
                  late_seconds > 60 AND late_seconds < 120 FROM sla_breaches";
    assert_eq!(stage.value(breach), "102\tсевер\tP1\t1\t1");
    let days = "SELECT region, sum(filed), sum(cancelled) FROM requests_per_region_and_day GROUP BY region";
    assert_eq!(stage.value(days), "север\t2\t1");
    let times = "SELECT region, priority, sum(assigned), max(max_seconds) > 120 FROM assignment_times GROUP BY region, priority";
    assert_eq!(stage.value(times), "север\tP1\t2\t1");
    wait_until("all mails in ClickHouse", DEADLINE, || {
        stage.value("SELECT channel, outcome, sum(notifications) FROM notifications GROUP BY channel, outcome")
            == "email\tsent\t5"
    });
}
