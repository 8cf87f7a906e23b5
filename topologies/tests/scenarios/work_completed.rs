//! Scenario 3: the work is done. The act and the payment order are made, the customer is told, the manager has a report; signature and payment
//! close the paperwork.

use serde_json::{Value, json};
use test_support::{DEADLINE, wait_until};

use crate::python::{correlation, event_id};
use crate::stage::{CHAT, CONTRACTOR, CUSTOMER, PHONE, Stage, check_notifications};

const REQUEST: i64 = 301;

#[test]
fn work_that_is_done_has_its_documents_and_everybody_knows() {
    let mut stage = Stage::new(&[]);
    stage.introduce();
    stage.verify(1, CONTRACTOR);
    stage.file(2, REQUEST);
    stage.assign(3, REQUEST, CONTRACTOR);
    stage.told.write();
    wait_until("access", DEADLINE, || {
        stage.ask(&["get", "request", "301"])["grants"][0]["access"] == "granted"
    });
    stage.complete(4, REQUEST, CONTRACTOR);
    // Told twice: one act, one order, one mail each.
    stage.complete(4, REQUEST, CONTRACTOR);
    stage.told.write();
    stage.mail("customer@example.org", "Акт по заявке №301 ждёт вашей подписи");
    let twice = ("user_action", "workflow.work_completed");
    stage.check_audit(
        REQUEST,
        &[
            ("system_event", "access.granted"),
            ("system_event", "access.revoked"),
            ("system_event", "hr.document_created"),
            ("system_event", "hr.document_created"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.sms.sent"),
            ("system_event", "notification.telegram.sent"),
            ("system_event", "notification.telegram.sent"),
            ("system_event", "security.access_granted"),
            ("system_event", "security.access_revoked"),
            ("system_event", "workflow.manager_assigned"),
            ("user_action", "request.created"),
            ("user_action", "workflow.contractor_assigned"),
            twice,
            twice,
        ],
    );
    let [act, order] = documents(&stage);
    check_messages(&stage, &act);
    check_answers(&stage, &act);
    close_the_paperwork(&mut stage, &act, &order);
    stage.finish();
}

/// The act and the order, as they stand on the topic.
fn documents(stage: &Stage) -> [Value; 2] {
    let mut found = stage.about("hr-events", "hr.document_created", REQUEST);
    found.sort_by_key(|event| event["document_type"].to_string());
    let [act, order]: [Value; 2] = found.try_into().unwrap();
    for (event, document_type) in [(&act, "completion_act"), (&order, "payment_order")] {
        for (name, wanted) in [
            ("document_type", json!(document_type)),
            ("contractor_id", json!(CONTRACTOR)),
            ("customer_id", json!(CUSTOMER)),
            ("amount", json!("1234.50")),
            ("currency", json!("RUB")),
            ("causation_id", json!(event_id(4))),
            ("correlation_id", json!(correlation(REQUEST))),
        ] {
            assert_eq!(event[name], wanted, "{event}");
        }
    }
    let revoked = stage.only("security-events", "security.access_revoked", REQUEST);
    assert_eq!(revoked["reason"], "request_completed", "{revoked}");
    [act, order]
}

fn check_messages(stage: &Stage, act: &Value) {
    let document = format!("Документ: {}.", act["document_id"].as_str().unwrap());
    for (to, subject, parts) in [
        (
            "customer@example.org",
            "Работа по заявке №301 выполнена",
            vec![
                "«Течёт кран» выполнена 2026-03-01T12:00:00",
                "Что сделано: Кран заменён",
                "Стоимость: 1234.50 RUB.",
            ],
        ),
        (
            "anna@example.org",
            "Отчёт о работе по заявке №301",
            vec!["Исполнитель: 9.", "Сумма: 1234.50 RUB.", "Что сделано: Кран заменён"],
        ),
        (
            "customer@example.org",
            "Акт по заявке №301 ждёт вашей подписи",
            vec![document.as_str(), "Сумма: 1234.50 RUB."],
        ),
    ] {
        let mail = stage.mail(to, subject);
        let text = mail["text"].as_str().unwrap();
        for part in parts {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
    assert_eq!(stage.mails().len(), 6, "{:?}", stage.mails());
    let telegrams = stage.telegram.taken();
    let [job, closed] = &telegrams[..] else { panic!("{telegrams:?}") };
    assert!(job.0 == CHAT && job.1.contains("Вам поручена работа по заявке №301"), "{telegrams:?}");
    assert!(
        closed.0 == CHAT && closed.1.contains("Ваш доступ к заявке №301 закрыт."),
        "{telegrams:?}"
    );
    // The contractor has no e-mail.
    let sms = stage.sms.taken();
    let texts = ["Ваш договор готов.", "Поручение по заявке №301: 1234.50 RUB."];
    assert_eq!(sms, texts.map(|text| (PHONE.to_owned(), text.to_owned())));
}

fn check_answers(stage: &Stage, act: &Value) {
    let request = stage.ask(&["get", "request", "301"]);
    assert_eq!(
        (&request["status"], &request["paperwork"]),
        (&json!("closed"), &json!("open")),
        "{request}"
    );
    assert_eq!(request["grants"][0]["access"], "none", "{request}");
    let act_row = json!({
        "document_type": "completion_act", "document_id": act["document_id"], "state": "to be signed",
    });
    assert_eq!(request["documents"][0], act_row);
    check_notifications(
        &request,
        &[
            "contractor:9 sms payment_order sent",
            "contractor:9 telegram access_revoked sent",
            "contractor:9 telegram job_assigned sent",
            "customer:456 email completion_act sent",
            "customer:456 email contractor_found sent",
            "customer:456 email request_created sent",
            "customer:456 email work_completed sent",
            "manager:7 email manager_assigned sent",
            "manager:7 email work_report sent",
        ],
    );
    let open = stage.ask(&["paperwork", "--open"]);
    let row = &open["paperwork"][0];
    assert_eq!(
        (&row["request_id"], &row["amount"]),
        (&json!(REQUEST), &json!("1234.50 RUB")),
        "{open}"
    );
}

fn close_the_paperwork(stage: &mut Stage, act: &Value, order: &Value) {
    let signed = json!({"document_id": act["document_id"], "signed_by": "customer:456"});
    stage.told.event((5, REQUEST), ("hr-events", "hr.document_signed"), "9", signed);
    let paid = json!({
        "document_id": order["document_id"], "contractor_id": CONTRACTOR, "amount": 1234.5,
        "currency": "RUB", "status": "processed",
    });
    stage.told.event((6, REQUEST), ("hr-events", "hr.payment_processed"), "9", paid);
    stage.told.write();
    wait_until("the paperwork to be closed", DEADLINE, || {
        stage.ask(&["get", "request", "301"])["paperwork"] == "closed"
    });
    assert_eq!(stage.ask(&["paperwork", "--open"])["paperwork"], json!([]));
    assert_eq!(stage.ask(&["paperwork"])["paperwork"][0]["paid"], true);
    wait_until("the word of the payment", DEADLINE, || stage.sms.taken().len() == 3);
    assert_eq!(stage.sms.taken()[2].1, "Платёж обработан: processed, 1234.50 RUB.");
    let query = "SELECT action, entity, actor FROM audit_events FINAL \
                 WHERE action IN ('hr.document_signed', 'hr.payment_processed') ORDER BY action";
    let document = act["document_id"].as_str().unwrap();
    let wanted = format!(
        "hr.document_signed\tdocument:{document}\tcustomer:456\nhr.payment_processed\tcontractor:9\tservice:web"
    );
    wait_until("both in ClickHouse", DEADLINE, || stage.value(query) == wanted);
}
