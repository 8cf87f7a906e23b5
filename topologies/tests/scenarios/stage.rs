//! Where the scenarios play: the program with all its topologies, everything around it, and who is there at the beginning.

use std::sync::Arc;

use kstreams::SystemClock;
use kstreams::serdes::{HttpRegistry, RegistryConfig, SchemaCache, decode_json};
use serde_json::{Value, json};
use test_support::{DEADLINE, Process, read_committed, registry_url, wait_until};

use crate::clickhouse_server::Server;
use crate::providers::{Provider, SMS_TOKEN, TOKEN};
use crate::python::Told;
use crate::site::{Instance, Site, get};
use crate::smtp::{SmtpServer, free_port};

/// The region of all requests.
pub(crate) const REGION: &str = "север";
/// The customer of all requests.
pub(crate) const CUSTOMER: i64 = 456;
/// The region's only manager.
pub(crate) const MANAGER: i64 = 7;
/// A contractor with a Telegram chat and a telephone.
pub(crate) const CONTRACTOR: i64 = 9;
/// Chat of the contractor.
pub(crate) const CHAT: &str = "90009";
/// Telephone of the contractor.
pub(crate) const PHONE: &str = "+79990000009";
/// What is audited of a request that is filed and assigned, and of its two mails.
pub(crate) const FILED: [(&str, &str); 4] = [
    ("system_event", "notification.email.sent"),
    ("system_event", "notification.email.sent"),
    ("system_event", "workflow.manager_assigned"),
    ("user_action", "request.created"),
];
/// How long a Telegram request may take.
const TELEGRAM_TIMEOUT_MS: u64 = 500;

/// The whole of it. Fields end in this order: the program before what it talks to.
pub(crate) struct Stage {
    pub(crate) app: Instance,
    pub(crate) telegram: Provider,
    pub(crate) sms: Provider,
    pub(crate) smtp: Option<SmtpServer>,
    pub(crate) clickhouse: Server,
    pub(crate) told: Told,
    address: String,
    schemas: Arc<SchemaCache>,
    pub(crate) site: Site,
}

impl Stage {
    /// Starts everything; returns when all topologies run. `settings` go over those of the scenarios.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let site = Site::new();
        let clickhouse = Server::start();
        let smtp = SmtpServer::start(free_port(), &[], Arc::default());
        let (telegram, sms) = (Provider::telegram(), Provider::sms());
        let url = format!("clickhouse.url=http://127.0.0.1:{}", clickhouse.port());
        let applied = site.command(&["clickhouse", "apply", "--set", &url]).output().unwrap();
        assert!(applied.status.success(), "{applied:?}");
        let mut command = site.command(&["run", "--set", "log.format=json", "--set", &url]);
        for (key, value) in [
            ("clickhouse.batch_interval_ms", "100"),
            ("clickhouse.retry_backoff_max_ms", "500"),
            ("delivery.email.host", "127.0.0.1"),
            ("delivery.email.port", &smtp.port.to_string()),
            ("delivery.email.encryption", "none"),
            ("delivery.email.from", "Service <noreply@example.org>"),
            ("delivery.telegram.url", &telegram.url()),
            ("delivery.telegram.token", TOKEN),
            ("delivery.telegram.timeout_ms", &TELEGRAM_TIMEOUT_MS.to_string()),
            ("delivery.sms.url", &format!("{}/sms", sms.url())),
            ("delivery.sms.token", SMS_TOKEN),
            ("delivery.backoff_min_ms", "100"),
            ("delivery.circuit_open_min_ms", "200"),
            ("delivery.circuit_open_max_ms", "500"),
        ]
        .iter()
        .chain(settings)
        {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut app = Instance { process: Process::start(command) };
        let address = app.address();
        let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
        let schemas = SchemaCache::new(Arc::new(registry), Arc::new(SystemClock::default()));
        let told = Told::new(site.folder());
        let smtp = Some(smtp);
        let stage = Self { app, telegram, sms, smtp, clickhouse, told, address, schemas, site };
        wait_until("all topologies to run", DEADLINE, || stage.health()["ok"] == true);
        stage
    }

    /// Who is there: a manager of the region, a customer with e-mail, a contractor with Telegram and telephone.
    pub(crate) fn introduce(&mut self) {
        let manager = json!({
            "manager_id": MANAGER, "name": "Анна", "email": "anna@example.org", "region": REGION,
            "capacity": 3, "active": true,
        });
        self.told.reference("managers", "manager", &MANAGER.to_string(), manager);
        let contacts = [
            ("customer", CUSTOMER, json!({"email": "customer@example.org"})),
            ("contractor", CONTRACTOR, json!({"telegram_chat_id": 90_009, "phone": PHONE})),
        ];
        for (role, id, channels) in contacts {
            let recipient = format!("{role}:{id}");
            let mut contact = json!({
                "recipient": recipient, "email": null, "telegram_chat_id": null, "phone": null,
                "locale": "ru",
            });
            contact.as_object_mut().unwrap().extend(channels.as_object().unwrap().clone());
            self.told.reference("contacts", "contact", &recipient, contact);
        }
    }

    /// A customer files a request; gives the event's time.
    pub(crate) fn file(&mut self, event: u64, request: i64) -> i64 {
        let fields = json!({
            "request_id": request, "customer_id": CUSTOMER, "title": "Течёт кран",
            "description": "На кухне", "urgency": "critical", "region": REGION, "city": "Мурманск",
            "address": "Полярная 1", "category": "repair", "revision": 1,
        });
        let of_type = ("request-events", "request.created");
        self.told.event((event, request), of_type, REGION, fields)
    }

    /// The security service has verified the contractor, for all regions.
    pub(crate) fn verify(&mut self, event: u64, contractor: i64) {
        let fields = json!({
            "contractor_id": contractor, "verified_by": "officer:1", "regions": [],
            "valid_until": null,
        });
        let of_type = ("security-events", "security.contractor_verified");
        self.told.event((event, 0), of_type, &contractor.to_string(), fields);
    }

    /// The manager gives a contractor the job.
    pub(crate) fn assign(&mut self, event: u64, request: i64, contractor: i64) {
        let fields =
            json!({"request_id": request, "contractor_id": contractor, "manager_id": MANAGER});
        let of_type = ("workflow-events", "workflow.contractor_assigned");
        self.told.event((event, request), of_type, &request.to_string(), fields);
    }

    /// The contractor has done the work, for 1234.50; gives the event's time.
    pub(crate) fn complete(&mut self, event: u64, request: i64, contractor: i64) -> i64 {
        let completion = json!({
            "completed_at": 1_772_366_400_000_i64, "summary": "Кран заменён", "amount": 1234.50,
            "currency": "RUB", "hours": null, "photos": ["https://example.org/1.jpg"],
        });
        let fields = json!({
            "request_id": request, "contractor_id": contractor, "completion_data": completion,
        });
        let of_type = ("workflow-events", "workflow.work_completed");
        self.told.event((event, request), of_type, &request.to_string(), fields)
    }

    /// Every committed event of a topic, decoded with the registry's schemas, that `select` takes.
    pub(crate) fn events(&self, topic: &str, select: impl Fn(&Value) -> bool) -> Vec<Value> {
        let decode = |message: test_support::Message| {
            let frame = decode_json(&self.schemas, &message.value.unwrap()).unwrap();
            let time = message.timestamp_ms.unwrap();
            assert_eq!(frame.value["timestamp"], time, "Kafka's timestamp is the event's");
            assert_eq!(frame.trailing_bytes, 0);
            frame.value
        };
        read_committed(topic).into_iter().map(decode).filter(select).collect()
    }

    /// Events of one type about one request.
    pub(crate) fn about(&self, topic: &str, event_type: &str, request: i64) -> Vec<Value> {
        self.events(topic, |event| {
            event["event_type"] == event_type && event["request_id"] == request
        })
    }

    /// The only one of them.
    #[track_caller]
    pub(crate) fn only(&self, topic: &str, event_type: &str, request: i64) -> Value {
        let mut found = self.about(topic, event_type, request);
        assert_eq!(found.len(), 1, "{event_type} of request {request}: {found:?}");
        found.remove(0)
    }

    /// The mails taken so far.
    pub(crate) fn mails(&self) -> Vec<Value> {
        self.smtp.as_ref().map(|smtp| smtp.mails.lock().unwrap().clone()).unwrap_or_default()
    }

    /// The mail to somebody with this subject, once it has come; there must be one only.
    #[track_caller]
    pub(crate) fn mail(&self, to: &str, subject: &str) -> Value {
        let fits = |mail: &Value| mail["to"] == to && mail["subject"] == subject;
        wait_until(&format!("the mail \"{subject}\""), DEADLINE, || self.mails().iter().any(fits));
        let mut found: Vec<Value> = self.mails().into_iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// What the program says of its health.
    pub(crate) fn health(&self) -> Value {
        get(&self.address, "/health/ready").unwrap()
    }

    /// Waits until exactly these parts are degraded.
    pub(crate) fn wait_for_degraded(&self, parts: &[&str]) {
        wait_until(&format!("{parts:?} to be degraded"), DEADLINE, || {
            let health = self.health();
            assert_eq!(health["ok"], true, "a degraded program is ready all the same: {health}");
            health["degraded"].as_object().unwrap().keys().eq(parts)
        });
    }

    /// The answer of `aggregator …`, as JSON; it must be whole. Null where nobody knows anything yet.
    pub(crate) fn ask(&self, question: &[&str]) -> Value {
        let arguments = [question, &["--json", "--instance", &self.address]].concat();
        let output = self.site.command(&arguments).output().unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("found nothing about") {
            return Value::Null;
        }
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A query's only value in ClickHouse.
    pub(crate) fn value(&self, query: &str) -> String {
        self.clickhouse.query(query).trim_end().to_owned()
    }

    /// Waits until ClickHouse has as many audit events of a request as the topic, and those are `wanted`: pairs of kind and action,
    /// sorted.
    #[track_caller]
    pub(crate) fn check_audit(&self, request: i64, wanted: &[(&str, &str)]) {
        let query = format!(
            "SELECT event_type, action FROM audit_events FINAL WHERE request_id = {request} ORDER BY event_type, action"
        );
        let rows = || -> Vec<(String, String)> {
            let answer = self.clickhouse.query(&query);
            let row = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
            answer.lines().filter_map(row).collect()
        };
        wait_until("the rows in ClickHouse", DEADLINE, || rows().len() >= wanted.len());
        let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        let mut topic: Vec<(String, String)> = self
            .events("audit-events", |event| event["request_id"] == request)
            .iter()
            .map(|event| (text(event, "event_type"), text(event, "action")))
            .collect();
        topic.sort();
        let wanted: Vec<(String, String)> = wanted
            .iter()
            .map(|(kind, action)| (format!("audit.{kind}"), (*action).into()))
            .collect();
        assert_eq!(topic, wanted);
        assert_eq!(rows(), wanted);
    }

    /// Nothing was refused on the way; then the end, in order.
    pub(crate) fn finish(mut self) {
        let letters = self.site.command(&["dlq", "list"]).output().unwrap();
        assert_eq!(String::from_utf8(letters.stdout).unwrap(), "0 dead letters\n");
        self.app.stop();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program's last lines:\n{}", self.app.process.tail());
        }
    }
}

/// What a request's answer says of the messages about it, sorted: to whom, channel, template, state.
#[track_caller]
pub(crate) fn check_notifications(request: &Value, wanted: &[&str]) {
    let text = |row: &Value| {
        ["recipient", "channel", "template", "state"]
            .map(|name| row[name].as_str().unwrap().to_owned())
            .join(" ")
    };
    let mut found: Vec<String> =
        request["notifications"].as_array().unwrap().iter().map(text).collect();
    found.sort();
    assert_eq!(found, wanted, "{request}");
}
