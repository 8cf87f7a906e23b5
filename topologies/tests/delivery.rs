//! Delivery against servers of others: aiosmtpd with encryption and login, an SMTP server that is stopped for a while under load, and two deliverers
//! on the real Kafka, one of which is killed.
#![cfg(feature = "broker-tests")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "broker/site.rs"]
#[allow(dead_code, reason = "shared with the claims about the topologies")]
mod site;
#[path = "common/smtp.rs"]
mod smtp;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregator::delivery::courier::{Courier, Reply, from_settings};
use aggregator::delivery::rules::{Message, Parcel, Reason, Verdict};
use aggregator::delivery::settings::{Encryption, Settings};
use aggregator::delivery::templates::Templates;
use aggregator::delivery::{add_to, courier};
use aggregator::events::{
    Channel, Contact, Envelope, NotificationCommand, NotificationEvent, memory_registry, serdes,
};
use aggregator::recipients::Address;
use kstreams::serdes::{
    DefaultSerde, Encoded, HttpRegistry, RegistryConfig, SchemaCache, Serde, option_serde,
};
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Clock, Headers, MockClock, StreamsBuilder, SystemClock, Timestamp};
use serde_json::{Value, json};
use site::{Instance, Site};
use smtp::{SmtpServer, free_port};
use test_support::{DEADLINE, Follower, Outcome, produce, registry_url, wait_until};
use uuid::Uuid;

fn settings(port: u16) -> Settings {
    let mut settings = Settings::default();
    settings.email.host = "127.0.0.1".to_owned();
    settings.email.port = port;
    settings.email.encryption = Encryption::None;
    settings.email.from = "Service <noreply@example.org>".to_owned();
    settings
}

fn parcel(id: u128, to: &str) -> Parcel {
    Parcel {
        address: Address::Email(to.to_owned()),
        recipient: "customer:1".to_owned(),
        message: Message {
            id: Uuid::from_u128(id),
            template: "request_cancelled".to_owned(),
            parameters: [("request_id", "7"), ("reason", "дорого"), ("title", "Кран")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            locale: "ru".to_owned(),
            request_id: Some(7),
            correlation_id: None,
            command_id: Uuid::nil(),
            trace: None,
        },
        attempt: 1,
    }
}

fn send(settings: &Settings, parcels: Vec<Parcel>) -> BTreeMap<u128, Verdict> {
    let templates = Arc::new(Templates::load("", "ru").unwrap());
    let pool = from_settings(settings, templates).unwrap();
    let (reply_to, replies): (_, Receiver<Reply>) = channel();
    let count = parcels.len();
    parcels.into_iter().for_each(|parcel| pool.submit(parcel, reply_to.clone()));
    let receive = |_| {
        let reply = replies.recv_timeout(DEADLINE).expect("a result comes");
        (reply.id.as_u128(), reply.verdict)
    };
    (0..count).map(receive).collect()
}

#[test]
fn mail_arrives_whole_and_refusals_are_told_apart() {
    let server = SmtpServer::start(free_port(), &[], Arc::default());
    let port = server.port;
    let parcels = vec![
        parcel(1, "a@example.org"),
        parcel(2, "refused@example.org"),
        parcel(3, "busy@example.org"),
    ];
    let verdicts = send(&settings(port), parcels);
    assert!(matches!(&verdicts[&1], Verdict::Sent(Some(_))), "{verdicts:?}");
    assert!(
        matches!(&verdicts[&2], Verdict::Refused(error) if error.contains("no such user")),
        "{verdicts:?}"
    );
    assert!(
        matches!(&verdicts[&3], Verdict::Later { reason: Reason::Message, .. }),
        "{verdicts:?}"
    );
    wait_until("the mail", DEADLINE, || !server.mails.lock().unwrap().is_empty());
    let mails = server.mails.lock().unwrap();
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!(mail["id"], format!("<{}@example.org>", Uuid::from_u128(1)));
    assert_eq!(mail["subject"], "Заявка №7 отменена");
    assert_eq!(mail["auto"], "auto-generated");
    assert!(
        mail["text"].as_str().unwrap().contains("«Кран» отменена.\r\nПричина: дорого."),
        "{mail}"
    );
}

#[test]
fn starttls_and_login_work_and_a_wrong_password_is_nobodys_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let server = SmtpServer::start(free_port(), &[path, "me:right"], Arc::default());
    let mut settings = settings(server.port);
    settings.email.encryption = Encryption::Starttls;
    settings.email.ca_file = folder.path().join("cert.pem").to_str().unwrap().to_owned();
    settings.email.username = "me".to_owned();
    settings.email.password = "right".to_owned();
    let verdicts = send(&settings, vec![parcel(1, "a@example.org")]);
    assert!(matches!(&verdicts[&1], Verdict::Sent(_)), "{verdicts:?}");
    wait_until("the mail", DEADLINE, || !server.mails.lock().unwrap().is_empty());
    assert_eq!(server.mails.lock().unwrap()[0]["tls"], true);
    settings.email.password = "wrong".to_owned();
    let verdicts = send(&settings, vec![parcel(2, "a@example.org")]);
    assert!(
        matches!(&verdicts[&2], Verdict::Later { reason: Reason::Unreachable, .. }),
        "{verdicts:?}"
    );
    settings.email.ca_file.clear();
    let verdicts = send(&settings, vec![parcel(3, "a@example.org")]);
    assert!(
        matches!(&verdicts[&3], Verdict::Later { reason: Reason::Unreachable, .. }),
        "{verdicts:?}"
    );
}

/// An HTTP server that takes Telegram messages.
fn telegram_server() -> (String, Arc<Mutex<u64>>, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener =
        runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::<Mutex<u64>>::default();
    let seen = count.clone();
    let answer = async move || {
        let mut count = seen.lock().unwrap();
        *count += 1;
        json!({"ok": true, "result": {"message_id": *count}}).to_string()
    };
    let routes = axum::Router::new().fallback(answer);
    runtime.spawn(async move { axum::serve(listener, routes).await });
    (url, count, runtime)
}

/// What the topology gets and gives while mail servers come and go.
struct Load {
    driver: TopologyTestDriver,
    contacts: TestInputTopic<String, Option<Contact>>,
    commands: TestInputTopic<String, NotificationCommand>,
    events: TestOutputTopic<String, NotificationEvent>,
    asked: u128,
    sent: BTreeMap<&'static str, Vec<Uuid>>,
}

impl Load {
    fn new(settings: &Settings) -> Self {
        let start = Timestamp::from_millis(1_772_366_400_000);
        let clock: Arc<dyn Clock> = Arc::new(MockClock::new(start));
        let schemas = SchemaCache::new(Arc::new(memory_registry().unwrap()), clock.clone());
        let serdes = serdes(&schemas, &clock).unwrap();
        let builder = StreamsBuilder::new();
        add_to(&builder, &serdes, settings, courier(settings).unwrap()).unwrap();
        let test = TestSettings { start, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), test).unwrap();
        let name = String::serde;
        Self {
            contacts: driver.input_topic_with("contacts", name(), option_serde(serdes.contacts)),
            commands: driver.input_topic_with(
                "notification-commands",
                name(),
                serdes.notification_commands,
            ),
            events: driver.output_topic_with("notification-events", name(), serdes.notifications),
            driver,
            asked: 0,
            sent: BTreeMap::new(),
        }
    }

    /// Asks for one more mail and one more Telegram message, to somebody new.
    fn ask(&mut self) {
        let recipient = format!("customer:{}", self.asked);
        let contact = Contact {
            recipient: recipient.clone(),
            email: Some(format!("c{}@example.org", self.asked)),
            telegram_chat_id: Some(5),
            phone: None,
            locale: "ru".to_owned(),
        };
        self.contacts.pipe(recipient.clone(), Some(contact)).unwrap();
        for (number, channel) in [(0, Channel::Email), (1, Channel::Telegram)] {
            let id = Uuid::from_u128(self.asked * 2 + number);
            let now = self.driver.now();
            let command = NotificationCommand {
                envelope: Envelope::new(id, "notification.command", now, "test", None),
                notification_id: id,
                recipient: recipient.clone(),
                channel,
                template: "request_cancelled".to_owned(),
                parameters: parcel(0, "").message.parameters,
                locale: "ru".to_owned(),
                request_id: None,
            };
            self.commands.pipe(recipient.clone(), command).unwrap();
        }
        self.asked += 1;
    }

    /// Lets time go on, and takes in what was sent.
    fn turn(&mut self, time: Duration) {
        self.driver.advance_wall_clock_time(time).unwrap();
        for record in self.events.read_records().unwrap() {
            let (channel, id) = match record.value {
                NotificationEvent::EmailSent(event) => ("email", event.notification_id),
                NotificationEvent::TelegramSent(event) => ("telegram", event.notification_id),
                other => panic!("wanted a message sent, found {other:?}"),
            };
            self.sent.entry(channel).or_default().push(id);
        }
    }

    fn sent(&self, channel: &str) -> usize {
        self.sent.get(channel).map_or(0, Vec::len)
    }
}

/// The goal: a mail server that is away for a minute under load holds up nobody else, and loses and doubles nothing. The minute is that of the
/// topology's clock; in all of it messages are asked for on both channels, and those by Telegram are sent.
#[test]
fn smtp_is_stopped_for_a_minute_under_load_telegram_goes_on_and_all_mail_arrives_later() {
    const STEP: Duration = Duration::from_millis(20);
    const OUTAGE: Duration = Duration::from_secs(60);
    /// Time between two messages of each kind.
    const PACE: Duration = Duration::from_millis(200);
    let (url, telegrams, _runtime) = telegram_server();
    let port = free_port();
    let mails = Arc::<Mutex<Vec<Value>>>::default();
    let server = SmtpServer::start(port, &[], mails.clone());
    let mut settings = Settings { circuit_open_max_ms: 5_000, ..settings(port) };
    settings.telegram.url = url;
    settings.telegram.token = "t".to_owned();
    let mut load = Load::new(&settings);
    (0..100).for_each(|_| load.ask());
    wait_until("the first mails", DEADLINE, || {
        load.turn(STEP);
        load.sent("email") >= 20
    });
    server.kill();
    let began = load.driver.now();
    // Of those under way some may have been taken, and their answers are still to come.
    let mails_max = load.sent("email") + settings.in_flight_max;
    wait_until("the end of the outage", DEADLINE, || {
        load.ask();
        load.turn(PACE);
        // Each is sent before the next one is asked for: nobody waits for the mail.
        let asked = load.asked as usize;
        wait_until("the telegrams", DEADLINE, || {
            if load.sent("telegram") < asked {
                load.turn(STEP);
            }
            load.sent("telegram") == asked
        });
        load.driver.now().since(began) >= OUTAGE
    });
    let asked = load.asked as usize;
    assert!(load.sent("email") <= mails_max && mails_max < asked, "mail waits");
    assert_eq!(*telegrams.lock().unwrap(), asked as u64);
    let server = SmtpServer::start(port, &[], mails.clone());
    wait_until("all mail", DEADLINE, || {
        load.turn(STEP);
        load.sent("email") == asked
    });
    drop(server);
    let mut ids = load.sent["email"].clone();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), asked, "each once");
    let mut arrived: Vec<String> =
        mails.lock().unwrap().iter().map(|mail| mail["id"].as_str().unwrap().to_owned()).collect();
    let all = arrived.len();
    arrived.sort();
    arrived.dedup();
    assert_eq!(arrived.len(), asked, "every mail is there");
    // Of those under way when the server died, some may have been taken without an answer.
    assert!(all - arrived.len() <= settings.in_flight_max, "{all} mails arrived");
}

/// How many messages a deliverer has sent, by its own figures.
fn delivered(instance: &mut Instance) -> f64 {
    let answer = site::ask(&instance.address(), "/metrics").unwrap_or_default();
    let figures = answer.lines().filter(|line| line.starts_with("svc_delivery_messages_total{"));
    figures.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn frame<T: 'static>(serde: &Serde<T>, topic: &str, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(serde.serializer().serialize(topic, value, &mut bytes).unwrap(), Encoded::Bytes);
    bytes
}

/// The goal: two processes share the work, one is killed, and every message is sent; nothing is sent again but what was under way, and
/// nothing at all after a restart in order.
#[test]
fn two_deliverers_share_the_work_and_one_is_killed() {
    const EACH: u128 = 200;
    let (url, telegrams, _runtime) = telegram_server();
    let mails = Arc::<Mutex<Vec<Value>>>::default();
    let port = free_port();
    let _server = SmtpServer::start(port, &[], mails.clone());
    let port = port.to_string();
    let settings = [
        ("delivery.email.host", "127.0.0.1"),
        ("delivery.email.port", &*port),
        ("delivery.email.encryption", "none"),
        ("delivery.email.from", "noreply@example.org"),
        ("delivery.telegram.url", &*url),
        ("delivery.telegram.token", "5:secret"),
    ];
    let site = Site::new();
    let deliverer = |state: &str| site.start_these(state, &["notification-delivery"], &settings);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
    let serdes = serdes(&SchemaCache::new(Arc::new(registry), clock.clone()), &clock).unwrap();
    // Ids that no other run on this cluster has.
    let base = Uuid::new_v4().as_u128() & !0xffff;
    let run = format!("{:x}", base >> 96);
    let message = |key: &str, value: Vec<u8>| test_support::Message {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value),
        ..test_support::Message::default()
    };
    let (mut contacts, mut commands) = (Vec::new(), Vec::new());
    for number in 0..=EACH * 2 {
        let recipient = format!("customer:{run}{number}");
        let contact = Contact {
            recipient: recipient.clone(),
            email: Some(format!("c{number}@example.org")),
            telegram_chat_id: Some(5),
            phone: None,
            locale: "en".to_owned(),
        };
        contacts.push(message(&recipient, frame(&serdes.contacts, "contacts", &contact)));
        let id = Uuid::from_u128(base + number);
        let command = NotificationCommand {
            envelope: Envelope::new(id, "notification.command", clock.now(), "test", None),
            notification_id: id,
            recipient: recipient.clone(),
            channel: if number % 2 == 0 { Channel::Email } else { Channel::Telegram },
            template: "request_cancelled".to_owned(),
            parameters: parcel(0, "").message.parameters,
            locale: "en".to_owned(),
            request_id: None,
        };
        let topic = "notification-commands";
        commands.push(message(&recipient, frame(&serdes.notification_commands, topic, &command)));
    }
    let last = commands.pop().unwrap();
    produce("contacts", &contacts, Outcome::Committed);
    let (mut first, mut second) = (deliverer("first"), deliverer("second"));
    wait_until("both to have tasks, each its own", DEADLINE, || {
        let (one, two) = (first.running_tasks(), second.running_tasks());
        let apart = one.iter().all(|task| !two.contains(task));
        apart && one.len().min(two.len()) * 2 >= one.len().max(two.len()) && one.len() > 1
    });
    produce("notification-commands", &commands, Outcome::Committed);

    let mut follower = Follower::new("notification-events");
    let mut told: BTreeMap<Uuid, u32> = BTreeMap::new();
    let mut follow = |told: &mut BTreeMap<Uuid, u32>| {
        follower.look(&mut |message| {
            let value = message.value.map(bytes::Bytes::from);
            let event = serdes.notifications.deserializer().deserialize(
                "notification-events",
                &Headers::default(),
                value.as_ref(),
            );
            let id = match event.unwrap() {
                NotificationEvent::EmailSent(event) => event.notification_id,
                NotificationEvent::TelegramSent(event) => event.notification_id,
                other => panic!("wanted a message sent, found {other:?}"),
            };
            if id.as_u128() & !0xffff == base {
                *told.entry(id).or_default() += 1;
            }
        });
        told.len()
    };
    wait_until("messages of both", DEADLINE, || {
        follow(&mut told) >= 40 && delivered(&mut first) > 0.0 && delivered(&mut second) > 0.0
    });
    first.kill();
    assert!(follow(&mut told) < 2 * EACH as usize, "it was killed in the middle of the work");
    wait_until("all messages", DEADLINE, || follow(&mut told) == 2 * EACH as usize);
    second.stop();

    let sent_ids = || -> Vec<String> {
        let mails = mails.lock().unwrap();
        mails.iter().map(|mail| mail["id"].as_str().unwrap().to_owned()).collect()
    };
    let (all_mails, all_telegrams) = (sent_ids().len(), *telegrams.lock().unwrap());
    let mut unique_mails = sent_ids();
    unique_mails.sort();
    unique_mails.dedup();
    assert_eq!(unique_mails.len(), EACH as usize);
    // Three partitions, and eight under way on each.
    let again_max = 3 * Settings::default().in_flight_max;
    assert!(all_mails - EACH as usize <= again_max, "{all_mails} mails");
    assert!(all_telegrams as usize - EACH as usize <= again_max, "{all_telegrams} telegrams");

    let _third = deliverer("second");
    produce("notification-commands", &commands, Outcome::Committed);
    produce("notification-commands", &[last], Outcome::Committed);
    wait_until("the last message", DEADLINE, || follow(&mut told) == 2 * EACH as usize + 1);
    assert_eq!(sent_ids().len(), all_mails + 1, "duplicates after a restart send nothing");
    assert_eq!(*telegrams.lock().unwrap(), all_telegrams);
    assert!(told.values().all(|count| *count == 1), "each is told once");
}
