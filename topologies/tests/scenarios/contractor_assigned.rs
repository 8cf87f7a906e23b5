//! Scenario 2: a contractor gets the job. Access is checked and noted for the audit, the contractor hears of it by Telegram, the customer by mail.

use serde_json::json;
use test_support::{DEADLINE, wait_until};

use crate::providers::Trouble;
use crate::python::{correlation, event_id};
use crate::stage::{CHAT, CONTRACTOR, PHONE, REGION, Stage, check_notifications};

const REQUEST: i64 = 201;
/// Given to a contractor who was rejected.
const REFUSED: i64 = 202;
/// The rejected contractor, who has blocked the bot.
const REJECTED: i64 = 10;
const REJECTED_CHAT: &str = "90010";

#[test]
fn a_contractor_who_gets_the_job_has_access_and_both_sides_know() {
    let mut stage = Stage::new(&[]);
    // Telegram is in a bad mood: too many requests, an error of its own, no answer at all.
    stage.telegram.expect(CHAT, &[Trouble::TooMany(1), Trouble::Broken, Trouble::Silent]);
    stage.introduce();
    stage.verify(1, CONTRACTOR);
    stage.file(2, REQUEST);
    stage.assign(3, REQUEST, CONTRACTOR);
    stage.told.write();
    let mail = stage.mail("customer@example.org", "Для заявки №201 найден исполнитель");
    assert!(
        mail["text"].as_str().unwrap().contains("«Течёт кран» назначен исполнитель №9"),
        "{mail}"
    );
    stage.check_audit(
        REQUEST,
        &[
            ("system_event", "access.granted"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.telegram.sent"),
            ("system_event", "security.access_granted"),
            ("system_event", "workflow.manager_assigned"),
            ("user_action", "request.created"),
            ("user_action", "workflow.contractor_assigned"),
        ],
    );
    check_access(&stage);
    check_messages(&stage);
    refuse_the_rejected(&mut stage);
    stage.finish();
}

fn check_access(stage: &Stage) {
    let granted = stage.only("security-events", "security.access_granted", REQUEST);
    for (name, wanted) in [
        ("contractor_id", json!(CONTRACTOR)),
        ("reason", json!("verified")),
        ("source", json!("contractor-access")),
        ("causation_id", json!(event_id(3))),
        ("correlation_id", json!(correlation(REQUEST))),
    ] {
        assert_eq!(granted[name], wanted, "{granted}");
    }
    let of_access = |event: &serde_json::Value| event["action"] == "access.granted";
    let audit = stage.events("audit-events", of_access);
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(
        (&audit[0]["entity"], &audit[0]["details"]["event_id"]),
        (&json!("contractor:9"), &granted["event_id"])
    );
    let request = stage.ask(&["get", "request", "201"]);
    assert_eq!(
        (&request["status"], &request["grants"][0]["access"]),
        (&json!("assigned"), &json!("granted"))
    );
    let contractor = stage.ask(&["get", "contractor", "9"]);
    assert_eq!(contractor["standing"], "verified", "{contractor}");
    assert_eq!(contractor["grants"][0]["request_id"], REQUEST, "{contractor}");
}

/// The Telegram message came through in the end, once; the contract, which goes by mail to those who have one, came by SMS.
fn check_messages(stage: &Stage) {
    let taken = stage.telegram.taken();
    let [(chat, text)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(chat, CHAT);
    for part in
        ["Вам поручена работа по заявке №201", "«Течёт кран»", "Адрес: Мурманск, Полярная 1."]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(stage.telegram.requests(), 4);
    let sent = stage.only("notification-events", "notification.telegram.sent", REQUEST);
    assert_eq!((&sent["attempts"], &sent["provider_message_id"]), (&json!(4), &json!("1")));
    assert_eq!(
        (&sent["recipient"], &sent["template"]),
        (&json!("contractor:9"), &json!("job_assigned"))
    );

    wait_until("the SMS", DEADLINE, || !stage.sms.taken().is_empty());
    assert_eq!(stage.sms.taken(), [(PHONE.to_owned(), "Ваш договор готов.".to_owned())]);
    let sms = stage.events("notification-events", |event| event["channel"] == "sms");
    assert_eq!(sms.len(), 1, "{sms:?}");
    assert_eq!(
        (&sms[0]["template"], &sms[0]["provider_message_id"]),
        (&json!("contract_generated"), &json!("sms-1"))
    );
    assert_eq!(stage.sms.keys(), [sms[0]["notification_id"].as_str().unwrap()]);
    let contracts =
        stage.events("hr-events", |event| event["event_type"] == "hr.contract_generated");
    assert_eq!((contracts.len(), &contracts[0]["causation_id"]), (1, &json!(event_id(1))));
}

/// Another contractor was rejected: no access, and what cannot be delivered is an error that the audit shows.
fn refuse_the_rejected(stage: &mut Stage) {
    stage.telegram.expect(REJECTED_CHAT, &[Trouble::Blocked, Trouble::Blocked]);
    let contact = json!({
        "recipient": "contractor:10", "email": null, "telegram_chat_id": 90_010, "phone": null,
        "locale": "en",
    });
    stage.told.reference("contacts", "contact", "contractor:10", contact);
    let fields =
        json!({"contractor_id": REJECTED, "reason": "forged papers", "rejected_by": "officer:1"});
    stage.told.event((4, 0), ("security-events", "security.contractor_rejected"), "10", fields);
    stage.file(5, REFUSED);
    stage.assign(6, REFUSED, REJECTED);
    stage.told.write();
    stage.check_audit(
        REFUSED,
        &[
            ("error_occurred", "notification.failed"),
            ("error_occurred", "notification.failed"),
            ("system_event", "access.denied"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "notification.email.sent"),
            ("system_event", "security.access_revoked"),
            ("system_event", "workflow.manager_assigned"),
            ("user_action", "request.created"),
            ("user_action", "workflow.contractor_assigned"),
        ],
    );
    let denied = stage.only("security-events", "security.access_revoked", REFUSED);
    assert_eq!(
        (&denied["reason"], &denied["contractor_id"]),
        (&json!("rejected"), &json!(REJECTED))
    );
    assert_eq!(
        stage.about("security-events", "security.access_granted", REFUSED),
        [json!(null); 0]
    );
    let mut failed = stage.about("notification-events", "notification.failed", REFUSED);
    failed.sort_by_key(|event| event["template"].to_string());
    let templates: Vec<_> =
        failed.iter().map(|event| event["template"].as_str().unwrap()).collect();
    assert_eq!(templates, ["access_revoked", "job_assigned"]);
    assert!(
        failed.iter().all(|event| event["permanent"] == true
            && event["error"].as_str().unwrap().contains("bot was blocked by the user")),
        "{failed:?}"
    );
    assert_eq!(stage.telegram.taken().len(), 1, "to contractor 9 only");
    let request = stage.ask(&["get", "request", "202"]);
    assert_eq!(request["grants"][0]["access"], "none");
    check_notifications(
        &request,
        &[
            "contractor:10 telegram access_revoked failed",
            "contractor:10 telegram job_assigned failed",
            "customer:456 email contractor_found sent",
            "customer:456 email request_created sent",
            "manager:7 email manager_assigned sent",
        ],
    );
    let rejected = stage.ask(&["get", "contractor", "10"]);
    assert_eq!(
        (&rejected["standing"], &rejected["reason"]),
        (&json!("rejected"), &json!("forged papers"))
    );
    assert_eq!(stage.ask(&["waiting", "--region", REGION])["waiting"], json!([]));
    let outcomes = "SELECT channel, outcome, sum(notifications) AS n FROM notifications \
                    GROUP BY channel, outcome ORDER BY channel, outcome";
    wait_until("the figures", DEADLINE, || {
        stage.value(outcomes)
            == "email\tsent\t6\nsms\tsent\t1\ntelegram\tfailed\t2\ntelegram\tsent\t1"
    });
}
