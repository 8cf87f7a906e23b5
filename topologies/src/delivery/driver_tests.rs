//! The rules of delivery on real tasks: commands in, parcels to a courier that the test plays, events out.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kstreams::serdes::{DefaultSerde, option_serde};
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Headers, StreamsBuilder, Timestamp};
use uuid::Uuid;

use super::add_to;
use super::courier::{Courier, Reply};
use super::rules::{Fate, Parcel, Reason, Shown, Verdict};
use super::settings::Settings;
use crate::events::*;
use crate::notifications::cases::Case;
use crate::notifications::sample::{START, envelope, shared_serdes};

/// A courier whose results the test decides.
#[derive(Default)]
pub(super) struct Played(Mutex<Vec<(Parcel, Sender<Reply>)>>);

impl Courier for Played {
    fn submit(&self, parcel: Parcel, reply_to: Sender<Reply>) {
        self.0.lock().unwrap().push((parcel, reply_to));
    }
}

impl Played {
    /// What was handed over and not answered yet, by recipient and channel.
    pub(super) fn under_way(&self) -> Vec<String> {
        let held = self.0.lock().unwrap();
        let line = |(parcel, _): &(Parcel, _)| {
            format!(
                "{} {} {}",
                parcel.message.id.as_u128(),
                parcel.recipient,
                parcel.address.channel()
            )
        };
        held.iter().map(line).collect()
    }

    pub(super) fn parcels(&self) -> Vec<Parcel> {
        self.0.lock().unwrap().iter().map(|(parcel, _)| parcel.clone()).collect()
    }

    pub(super) fn answer(&self, id: u128, verdict: Verdict) {
        let mut held = self.0.lock().unwrap();
        let place = held.iter().position(|(parcel, _)| parcel.message.id.as_u128() == id);
        let (parcel, reply_to) = held.remove(place.expect("the message is under way"));
        let _ = reply_to.send(Reply { id: parcel.message.id, verdict });
    }

    fn answer_all(&self, verdict: &Verdict) {
        let ids = self.parcels().into_iter().map(|parcel| parcel.message.id.as_u128());
        ids.for_each(|id| self.answer(id, verdict.clone()));
    }
}

pub(super) struct World {
    pub(super) driver: TopologyTestDriver,
    pub(super) courier: Arc<Played>,
    commands: TestInputTopic<String, NotificationCommand>,
    contacts: TestInputTopic<String, Option<Contact>>,
    managers: TestInputTopic<String, Option<Manager>>,
    events: TestOutputTopic<String, NotificationEvent>,
}

pub(super) fn settings() -> Settings {
    let mut settings = Settings { drain_timeout_ms: 2_000, ..Settings::default() };
    settings.email.host = "mail".to_owned();
    settings.telegram.token = "t".to_owned();
    settings.sms.url = "http://sms".to_owned();
    settings
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let courier = Arc::<Played>::default();
        let (serdes, text) = (shared_serdes(), String::serde);
        let builder = StreamsBuilder::new();
        add_to(&builder, &serdes, settings, courier.clone()).unwrap();
        let test = TestSettings { start: START, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), test).unwrap();
        Self {
            commands: driver.input_topic_with(
                "notification-commands",
                text(),
                serdes.notification_commands,
            ),
            contacts: driver.input_topic_with("contacts", text(), option_serde(serdes.contacts)),
            managers: driver.input_topic_with("managers", text(), option_serde(serdes.managers)),
            events: driver.output_topic_with("notification-events", text(), serdes.notifications),
            driver,
            courier,
        }
    }

    /// A world where everybody has every channel.
    fn reachable() -> Self {
        let world = Self::new(&settings());
        (1..=9).for_each(|who| world.contact(who, "ets"));
        world
    }

    pub(super) fn contact(&self, who: u64, channels: &str) {
        let (recipient, has) = (format!("customer:{who}"), |channel| channels.contains(channel));
        let contact = Contact {
            recipient: recipient.clone(),
            email: has('e').then(|| format!("{who}@example.org")),
            telegram_chat_id: has('t').then_some(who as i64),
            phone: has('s').then(|| format!("+{who}")),
            locale: "en".to_owned(),
        };
        self.contacts.pipe(recipient, Some(contact)).unwrap();
    }

    pub(super) fn command(&self, id: u128, who: u64, channel: Channel) {
        let command = NotificationCommand {
            envelope: envelope::<NotificationCommand>(id as u64),
            notification_id: Uuid::from_u128(id),
            recipient: format!("customer:{who}"),
            channel,
            template: Case::RequestCreated.template().to_owned(),
            parameters: [("request_id".to_owned(), "1".to_owned())].into(),
            locale: "en".to_owned(),
            request_id: Some(1),
        };
        self.commands.pipe(command.recipient.clone(), command).unwrap();
    }

    pub(super) fn tick(&self, ms: u64) {
        self.driver.advance_wall_clock_time(Duration::from_millis(ms)).unwrap();
    }

    pub(super) fn events(&self) -> Vec<NotificationEvent> {
        self.events.read_records().unwrap().into_iter().map(|record| record.value).collect()
    }

    /// What was published since the last call.
    pub(super) fn told(&self) -> Vec<String> {
        let line = |event: NotificationEvent| match event {
            NotificationEvent::EmailSent(e) => sent("email", e.notification_id, e.attempts),
            NotificationEvent::TelegramSent(e) => sent("telegram", e.notification_id, e.attempts),
            NotificationEvent::SmsSent(e) => sent("sms", e.notification_id, e.attempts),
            NotificationEvent::Failed(e) => {
                let how = if e.permanent { "for good" } else { "for now" };
                format!(
                    "{} failed {how} after {}: {}",
                    e.notification_id.as_u128(),
                    e.attempts,
                    e.error
                )
            }
            NotificationEvent::Unknown => panic!("wanted a known event"),
        };
        self.events().into_iter().map(line).collect()
    }
}

fn sent(channel: &str, id: Uuid, attempts: i32) -> String {
    format!("{} sent by {channel} at attempt {attempts}", id.as_u128())
}

fn later(reason: Reason) -> Verdict {
    Verdict::Later { reason, error: "not now".to_owned(), retry_after_ms: None }
}

const OK: Verdict = Verdict::Sent(None);
use Channel::{Email, Sms, Telegram};

#[test]
fn a_command_is_sent_once_and_told() {
    let world = World::reachable();
    for _ in 0..3 {
        world.command(1, 1, Email);
    }
    world.tick(20);
    assert_eq!(world.courier.under_way(), ["1 customer:1 email"]);
    world.command(1, 1, Email);
    world.courier.answer(1, Verdict::Sent(Some("p-1".to_owned())));
    world.tick(20);
    let events = world.events();
    let [NotificationEvent::EmailSent(event)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.provider_message_id.as_deref(), Some("p-1"));
    assert_eq!((event.attempts, event.request_id), (1, Some(1)));
    let id = derived_id(Uuid::from_u128(1), "notification.email.sent", "");
    assert_eq!(event.envelope.event_id, id);
    assert_eq!(event.envelope.causation_id, Some(Uuid::from_u64_pair(1, 1)));
    world.command(1, 1, Email);
    world.tick(7 * 24 * 3_600_000 - 1_000);
    assert_eq!((world.courier.under_way().len(), world.told().len()), (0, 0));
    world.tick(2_000);
    world.command(1, 1, Email);
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 1, "the id was forgotten");
}

#[test]
fn a_request_shows_what_became_of_its_messages_until_they_are_forgotten() {
    let world = World::reachable();
    let shown = || {
        let look = |store: &mut KeyValueStore<Vec<u8>, Shown>| -> Vec<(Channel, Fate)> {
            store
                .all()
                .unwrap()
                .map(|entry| entry.unwrap().1)
                .map(|s| (s.channel, s.fate))
                .collect()
        };
        world.driver.with_store(super::stores::REQUESTS, look).unwrap()
    };
    // Redirected, for want of an e-mail address.
    world.contact(9, "s");
    world.command(1, 1, Email);
    world.command(2, 9, Email);
    world.tick(20);
    assert_eq!(shown(), [(Email, Fate::Waiting), (Sms, Fate::Waiting)]);
    world.tick(20);
    world.courier.answer(1, OK);
    world.courier.answer(2, Verdict::Refused("550 no".to_owned()));
    world.tick(20);
    assert_eq!(shown(), [(Email, Fate::Sent), (Sms, Fate::Failed("550 no".to_owned()))]);
    world.tick(7 * 24 * 3_600_000 - 1_000);
    assert_eq!(shown().len(), 2);
    world.tick(2_000);
    assert_eq!(shown(), []);
}

#[test]
fn messages_of_a_recipient_keep_their_order_on_each_channel() {
    let world = World::reachable();
    for (id, who, channel) in
        [(1, 1, Email), (2, 1, Email), (3, 1, Telegram), (4, 2, Email), (5, 1, Email)]
    {
        world.command(id, who, channel);
    }
    world.tick(20);
    let under_way = world.courier.under_way();
    assert_eq!(under_way, ["1 customer:1 email", "4 customer:2 email", "3 customer:1 telegram"]);
    world.courier.answer(1, later(Reason::Message));
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 2, "2 waits for 1");
    world.tick(1_000);
    world.courier.answer(1, OK);
    world.tick(20);
    assert!(world.courier.under_way().contains(&"2 customer:1 email".to_owned()));
    assert_eq!(world.told(), ["1 sent by email at attempt 2"]);
}

#[test]
fn no_more_are_under_way_than_the_limit() {
    let world = World::reachable();
    for id in 1..=20 {
        world.contact(id as u64, "es");
        world.command(id, id as u64, Email);
    }
    world.command(99, 1, Sms);
    world.tick(20);
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 8 + 1);
    world.courier.answer_all(&OK);
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 8);
}

#[test]
fn a_refusal_is_final_and_temporary_errors_end_after_the_last_attempt() {
    let world = World::reachable();
    world.command(1, 1, Email);
    world.command(2, 2, Sms);
    world.tick(20);
    world.courier.answer(1, Verdict::Refused("550 no such user".to_owned()));
    for attempt in 1..=8 {
        assert_eq!(world.courier.parcels().last().unwrap().attempt, attempt);
        world.courier.answer(2, later(Reason::Message));
        world.tick(20);
        world.tick(300_000);
    }
    assert_eq!(
        world.told(),
        ["1 failed for good after 1: 550 no such user", "2 failed for now after 8: not now"]
    );
    assert_eq!(world.courier.under_way().len(), 0);
}

#[test]
fn a_dead_provider_uses_up_no_attempts_and_holds_up_nobody_else() {
    let world = World::reachable();
    (1..=9).for_each(|id| world.command(id, id as u64, Email));
    world.tick(20);
    world.courier.answer_all(&later(Reason::Unreachable));
    world.tick(20);
    world.tick(400_000);
    for probe in 0..20 {
        assert_eq!(world.courier.under_way().len(), 1, "probe {probe}");
        world.courier.answer_all(&later(Reason::Unreachable));
        world.tick(20);
        assert_eq!(world.courier.under_way().len(), 0, "the circuit is open");
        world.command(100 + probe, 1, Telegram);
        world.tick(20);
        assert_eq!(world.courier.under_way().len(), 1, "telegram goes on");
        world.courier.answer(100 + probe, OK);
        world.tick(400_000);
    }
    assert_eq!(world.told().len(), 20, "only telegrams so far");
    world.courier.answer_all(&OK);
    for _ in 0..4 {
        world.tick(20);
        world.courier.answer_all(&OK);
    }
    world.tick(20);
    let told = world.told();
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().all(|line| line.contains("sent by email")));
}

#[test]
fn a_throttling_provider_is_left_alone_for_as_long_as_it_says() {
    let world = World::reachable();
    world.command(1, 1, Telegram);
    world.command(2, 2, Telegram);
    world.tick(20);
    let flood = Verdict::Later {
        reason: Reason::Throttled,
        error: "429".to_owned(),
        retry_after_ms: Some(30_000),
    };
    world.courier.answer(1, flood);
    world.courier.answer(2, OK);
    world.command(3, 3, Telegram);
    world.tick(20);
    world.tick(29_900);
    assert_eq!(world.courier.under_way().len(), 0);
    world.tick(200);
    assert_eq!(world.courier.under_way(), ["3 customer:3 telegram", "1 customer:1 telegram"]);
}

#[test]
fn what_cannot_be_sent_for_a_day_is_given_up() {
    let world = World::reachable();
    world.command(1, 1, Email);
    world.command(2, 1, Email);
    world.tick(20);
    world.courier.answer(1, later(Reason::Unreachable));
    world.tick(20);
    world.tick(24 * 3_600_000);
    let told = world.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("failed for now") && told[0].contains("given up after"), "{told:?}");
    assert!(told[1].contains("never tried"), "{told:?}");
    world.command(3, 1, Email);
    world.tick(20);
    assert_eq!(world.courier.under_way(), ["3 customer:1 email"]);
}

#[test]
fn a_recipient_without_the_channel_gets_it_on_the_next_one() {
    let world = World::new(&settings());
    world.contact(1, "t");
    world.command(1, 1, Email);
    world.command(2, 1, Channel::Unknown);
    world.tick(20);
    world.tick(20);
    assert_eq!(world.courier.under_way(), ["1 customer:1 telegram"]);
    world.courier.answer(1, OK);
    world.tick(20);
    world.courier.answer(2, OK);
    world.tick(20);
    assert_eq!(
        world.told(),
        ["1 sent by telegram at attempt 1", "2 sent by telegram at attempt 1"]
    );
}

#[test]
fn a_channel_that_is_switched_off_is_no_channel() {
    let mut settings = settings();
    settings.email.host.clear();
    let world = World::new(&settings);
    world.contact(1, "es");
    world.contact(2, "e");
    world.command(1, 1, Email);
    world.command(2, 2, Email);
    world.tick(20);
    world.tick(20);
    assert_eq!(world.courier.under_way(), ["1 customer:1 sms"]);
    world.tick(61_000);
    assert!(world.told()[0].starts_with("2 failed for good"), "nothing else reaches 2");
    settings.telegram.token.clear();
    settings.sms.url.clear();
    let world = World::new(&settings);
    world.contact(1, "ets");
    world.command(1, 1, Email);
    world.tick(3_600_000);
    assert_eq!(world.told(), [""; 0], "with no channel at all, messages wait for one");
}

#[test]
fn an_unknown_recipient_is_waited_for() {
    let world = World::new(&settings());
    world.command(1, 1, Email);
    world.command(2, 2, Email);
    world.tick(59_000);
    world.contact(1, "e");
    world.tick(1_000);
    assert_eq!(world.courier.under_way(), ["1 customer:1 email"]);
    world.tick(2_000);
    let told = world.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("2 failed for good after 0"), "{told:?}");
}

#[test]
fn a_manager_is_reached_through_the_directory() {
    let world = World::new(&settings());
    let manager = Manager {
        manager_id: 7,
        name: "n".into(),
        email: "desk@example.org".into(),
        region: "north".into(),
        capacity: 1,
        active: true,
    };
    world.managers.pipe("7".into(), Some(manager)).unwrap();
    let command = NotificationCommand {
        envelope: envelope::<NotificationCommand>(1),
        notification_id: Uuid::from_u128(1),
        recipient: "manager:7".into(),
        channel: Email,
        template: "manager_assigned".into(),
        parameters: Default::default(),
        locale: "ru".into(),
        request_id: None,
    };
    world.commands.pipe("manager:7".into(), command).unwrap();
    world.tick(20);
    assert_eq!(world.courier.under_way(), ["1 manager:7 email"]);
}

#[test]
fn a_task_that_is_given_up_fetches_its_results_in() {
    let world = World::reachable();
    world.command(1, 1, Email);
    world.command(2, 2, Email);
    world.tick(20);
    let courier = world.courier.clone();
    let answering = std::thread::spawn(move || courier.answer_all(&OK));
    world.driver.suspend().unwrap();
    answering.join().unwrap();
    let mut told = world.told();
    told.sort();
    assert_eq!(told, ["1 sent by email at attempt 1", "2 sent by email at attempt 1"]);
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 0);
}

#[test]
fn a_result_that_does_not_come_in_time_comes_later() {
    let world = World::new(&Settings { drain_timeout_ms: 1, ..settings() });
    world.contact(1, "e");
    world.command(1, 1, Email);
    world.tick(20);
    world.driver.suspend().unwrap();
    world.tick(20);
    assert_eq!(world.courier.under_way().len(), 1, "the task goes on, and sends nothing twice");
    world.courier.answer(1, OK);
    world.tick(20);
    assert_eq!(world.told(), ["1 sent by email at attempt 1"]);
}

#[test]
fn bad_input_is_dead_lettered_and_processing_goes_on() {
    for topic in ["notification-commands", "contacts", "managers"] {
        let world = World::reachable();
        let at = Timestamp::from_millis(7);
        let bad: [&[u8]; 2] = [b"no frame", &[0, 0x7f, 0xff, 0xff, 0xff, 1]];
        for value in bad {
            let pipe =
                world.driver.pipe_raw(topic, Some(b"1"), Some(value), at, Headers::default());
            pipe.unwrap();
        }
        let null_is_bad = topic == "notification-commands";
        if null_is_bad {
            world.driver.pipe_raw(topic, Some(b"1"), None, at, Headers::default()).unwrap();
        }
        let letters = format!("test-{topic}-dlq");
        let count = std::iter::from_fn(|| world.driver.read_raw(&letters)).count();
        assert_eq!(count, 2 + usize::from(null_is_bad), "{topic}");
        world.command(1, 1, Email);
        world.tick(20);
        assert_eq!(world.courier.under_way().len(), 1, "{topic}");
    }
}
