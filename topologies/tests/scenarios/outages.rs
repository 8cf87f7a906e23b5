//! What is outside fails: health names it, the rest goes on, and what was left is worked off afterwards.

use std::net::{Ipv4Addr, SocketAddr};

use test_support::{DEADLINE, registry_url, wait_until};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::smtp::SmtpServer;
use crate::stage::{CHAT, CONTRACTOR, FILED, PHONE, Stage};

const REQUEST: i64 = 401;

/// The way to the registry, which can be cut.
struct Wire {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Wire {
    fn new() -> Self {
        let mut wire = Self { address: (Ipv4Addr::LOCALHOST, 0).into(), runtime: None };
        wire.mend();
        wire
    }

    fn url(&self) -> String {
        let path = registry_url();
        let path =
            path.trim_start_matches("http://").split_once('/').map(|(_, path)| path.to_owned());
        format!("http://{}/{}", self.address, path.unwrap_or_default())
    }

    fn cut(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn mend(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let to = registry_url();
        let to = to.trim_start_matches("http://").split('/').next().unwrap().to_owned();
        runtime.spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut here, &mut there).await
                });
            }
        });
        self.runtime = Some(runtime);
    }
}

#[test]
fn every_provider_and_clickhouse_may_be_away_at_once() {
    let mut stage = Stage::new(&[]);
    let smtp = stage.smtp.take().unwrap();
    let (port, mails) = (smtp.port, smtp.mails.clone());
    smtp.kill();
    stage.telegram.stop();
    stage.sms.stop();
    stage.clickhouse.kill();
    stage.introduce();
    stage.verify(1, CONTRACTOR);
    stage.file(2, REQUEST);
    stage.assign(3, REQUEST, CONTRACTOR);
    stage.told.write();
    stage.wait_for_degraded(&[
        "clickhouse-sink",
        "notification-delivery.email",
        "notification-delivery.sms",
        "notification-delivery.telegram",
    ]);
    // The rest goes on, to the documents of work that is done.
    wait_until("access", DEADLINE, || {
        stage.ask(&["get", "request", "401"])["grants"][0]["access"] == "granted"
    });
    stage.complete(4, REQUEST, CONTRACTOR);
    stage.told.write();
    wait_until("the documents", DEADLINE, || {
        stage.about("hr-events", "hr.document_created", REQUEST).len() == 2
    });
    assert_eq!(stage.events("notification-events", |_| true), [serde_json::Value::Null; 0]);
    wait_until("all messages to wait", DEADLINE, || {
        let request = stage.ask(&["get", "request", "401"]);
        let messages = request["notifications"].as_array().unwrap();
        messages.len() == 9 && messages.iter().all(|message| message["state"] == "waiting")
    });

    // Back, one after the other: health says less and less, and the backlog goes out, each message once.
    stage.telegram.restart_telegram();
    wait_until("the telegrams", DEADLINE, || stage.telegram.taken().len() == 2);
    stage.sms.restart_sms();
    wait_until("the SMS", DEADLINE, || stage.sms.taken().len() == 2);
    stage.wait_for_degraded(&["clickhouse-sink", "notification-delivery.email"]);
    stage.smtp = Some(SmtpServer::start(port, &[], mails));
    wait_until("the mails", DEADLINE, || stage.mails().len() == 6);
    stage.clickhouse.restart();
    let sent = "SELECT channel, outcome, sum(notifications) FROM notifications \
                GROUP BY channel, outcome ORDER BY channel";
    wait_until("all of it in ClickHouse", DEADLINE, || {
        stage.value(sent) == "email\tsent\t6\nsms\tsent\t2\ntelegram\tsent\t2"
    });
    stage.wait_for_degraded(&[]);
    assert!(stage.telegram.taken().iter().all(|(chat, _)| chat == CHAT));
    assert!(stage.sms.taken().iter().all(|(number, _)| number == PHONE));
    let events =
        stage.events("audit-events", |event| event["event_type"] != "audit.performance_metric");
    let rows = "SELECT count() FROM audit_events WHERE event_type != 'audit.performance_metric'";
    wait_until("every audit event in ClickHouse", DEADLINE, || {
        stage.value(rows) == events.len().to_string()
    });
    stage.finish();
}

#[test]
fn without_the_registry_known_schemas_go_on_and_new_ones_wait() {
    let mut wire = Wire::new();
    let url = wire.url();
    let mut stage = Stage::new(&[("schema_registry.url", &url)]);
    stage.introduce();
    stage.file(1, REQUEST);
    stage.told.write();
    // To the last effect: then everybody has the schemas of all that follows from a request.
    stage.check_audit(REQUEST, &FILED);
    stage.wait_for_degraded(&[]);

    wire.cut();
    // Nobody has asked for the schema of a verification yet: those who read it wait.
    stage.verify(2, CONTRACTOR);
    stage.file(3, REQUEST + 1);
    stage.told.write();
    stage.wait_for_degraded(&["schema-registry"]);
    stage.mail("customer@example.org", "Заявка №402 принята");
    stage.mail("anna@example.org", "Вам назначена заявка №402 (P1)");
    assert_eq!(stage.events("hr-events", |_| true), [serde_json::Value::Null; 0]);

    wire.mend();
    wait_until("the contract", DEADLINE, || {
        stage.events("hr-events", |event| event["contractor_id"] == CONTRACTOR).len() == 1
    });
    wait_until("the SMS", DEADLINE, || stage.sms.taken().len() == 1);
    stage.wait_for_degraded(&[]);
    stage.finish();
}
