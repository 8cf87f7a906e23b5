//! The rules of audit-fanout on real tasks: events and dead letters in, audit events out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kstreams::serdes::DefaultSerde;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Headers, StreamsBuilder, Timestamp};
use uuid::Uuid;

use super::add_to;
use super::settings::Settings;
use crate::events::*;
use crate::notifications::sample::{self, Input, START, shared_serdes};

pub(super) const LETTERS: &str = "manager-assignment-request-events-dlq";
const OWN_LETTERS: &str = "test-request-events-dlq";

pub(super) struct World {
    pub(super) driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    notifications: TestInputTopic<String, NotificationEvent>,
    security: TestInputTopic<String, SecurityEvent>,
    hr: TestInputTopic<String, HrEvent>,
    audit: TestOutputTopic<String, AuditEvent>,
}

/// The fields that all audit events share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Audit {
    pub(super) kind: &'static str,
    pub(super) entity: String,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) place: (String, i32, i64),
    request_id: Option<i64>,
    contractor_id: Option<i64>,
    details: BTreeMap<String, String>,
    envelope: Envelope,
    /// Name and value of a figure.
    pub(super) figure: Option<(String, f64)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(&Settings::default())
    }

    fn with(settings: &Settings) -> Self {
        let serdes = shared_serdes();
        let builder = StreamsBuilder::new();
        let letters = [LETTERS.to_owned(), OWN_LETTERS.to_owned()];
        add_to(&builder, &serdes, settings, &letters).unwrap();
        let test = TestSettings { start: START, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), test).unwrap();
        let text = String::serde;
        Self {
            requests: driver.input_topic_with("request-events", text(), serdes.requests),
            workflow: driver.input_topic_with("workflow-events", text(), serdes.workflow),
            notifications: driver.input_topic_with(
                "notification-events",
                text(),
                serdes.notifications,
            ),
            security: driver.input_topic_with("security-events", text(), serdes.security),
            hr: driver.input_topic_with("hr-events", text(), serdes.hr),
            audit: driver.output_topic_with("audit-events", text(), serdes.audit),
            driver,
        }
    }

    pub(super) fn tick(&self, ms: u64) {
        self.driver.advance_wall_clock_time(Duration::from_millis(ms)).unwrap();
    }

    pub(super) fn pipe(&self, input: Input) {
        match input {
            Input::Request(event) => self.requests.pipe("k".into(), event),
            Input::Workflow(event) => self.workflow.pipe("k".into(), event),
            Input::Security(event) => self.security.pipe("k".into(), event),
            Input::Hr(event) => self.hr.pipe("k".into(), event),
            Input::Contact(..) | Input::Manager(..) => panic!("no source of audit-fanout"),
        }
        .unwrap();
    }

    pub(super) fn notification(&self, event: NotificationEvent) {
        self.notifications.pipe("k".into(), event).unwrap();
    }

    pub(super) fn letter(&self, topic: &str, headers: &[(&str, &str)], value: Option<&[u8]>) {
        let mut all = Headers::default();
        for (name, text) in headers {
            let name = format!("__streams.errors.{name}");
            all.add(name, Some(Bytes::from((*text).to_owned())));
        }
        all.add("traceparent", Some(Bytes::from_static(b"00-1")));
        self.driver.pipe_raw(topic, None, value, Timestamp::from_millis(3), all).unwrap();
    }

    pub(super) fn audited(&self) -> Vec<Audit> {
        let records = self.audit.read_records().unwrap().into_iter();
        let read = records.map(|record| {
            let audit = audit_of(record.value);
            assert_eq!((&record.key, record.timestamp), (&audit.entity, audit.envelope.timestamp));
            audit
        });
        read.collect()
    }
}

fn audit_of(event: AuditEvent) -> Audit {
    macro_rules! audit {
        ($e:expr, $kind:literal, $figure:expr) => {
            Audit {
                kind: $kind,
                figure: $figure,
                entity: $e.entity,
                actor: $e.actor,
                action: $e.action,
                place: ($e.topic, $e.partition, $e.offset),
                request_id: $e.request_id,
                contractor_id: $e.contractor_id,
                details: $e.details,
                envelope: $e.envelope,
            }
        };
    }
    match event {
        AuditEvent::UserAction(e) => audit!(e, "user", None),
        AuditEvent::SystemEvent(e) => audit!(e, "system", None),
        AuditEvent::ErrorOccurred(e) => audit!(e, "error", None),
        AuditEvent::PerformanceMetric(e) => {
            let figure = (e.name.clone(), e.value);
            audit!(e, "metric", Some(figure))
        }
        AuditEvent::Unknown => panic!("wanted a known audit event"),
    }
}

pub(super) fn failed(number: u64, request_id: Option<i64>) -> NotificationEvent {
    NotificationEvent::Failed(NotificationFailed {
        envelope: sample::envelope::<NotificationFailed>(number),
        notification_id: Uuid::nil(),
        recipient: "contractor:9".into(),
        channel: Channel::Sms,
        template: "job_assigned".into(),
        request_id,
        attempts: 3,
        provider_message_id: None,
        error: "no such number".into(),
        permanent: true,
    })
}

fn sent(number: u64) -> NotificationEvent {
    NotificationEvent::EmailSent(NotificationEmailSent {
        envelope: sample::envelope::<NotificationEmailSent>(number),
        notification_id: Uuid::nil(),
        recipient: "customer:1".into(),
        channel: Channel::Email,
        template: "request_created".into(),
        request_id: Some(1),
        attempts: 1,
        provider_message_id: None,
    })
}

#[test]
fn persons_act_topologies_act_and_failures_are_errors() {
    let signed = |by: &str| {
        Input::Hr(HrEvent::DocumentSigned(HrDocumentSigned {
            envelope: sample::envelope::<HrDocumentSigned>(20),
            document_id: Uuid::nil(),
            signed_by: by.into(),
        }))
    };
    let verified = |by: &str| {
        Input::Security(SecurityEvent::ContractorVerified(SecurityContractorVerified {
            envelope: sample::envelope::<SecurityContractorVerified>(21),
            contractor_id: 9,
            verified_by: by.into(),
            regions: vec![],
            valid_until: None,
        }))
    };
    let rejected = Input::Security(SecurityEvent::ContractorRejected(SecurityContractorRejected {
        envelope: sample::envelope::<SecurityContractorRejected>(22),
        contractor_id: 9,
        reason: "forged papers".into(),
        rejected_by: "officer:1".into(),
    }));
    let granted = Input::Security(SecurityEvent::AccessGranted(SecurityAccessGranted {
        envelope: sample::envelope::<SecurityAccessGranted>(23),
        contractor_id: 9,
        request_id: 1,
        reason: AccessReason::Verified,
        detail: None,
    }));
    let asked = Input::Workflow(WorkflowEvent::SentToContractors(WorkflowSentToContractors {
        envelope: sample::envelope::<WorkflowSentToContractors>(24),
        request_id: 1,
        manager_id: 7,
        contractor_ids: vec![9, 10],
    }));
    let started = Input::Workflow(WorkflowEvent::WorkStarted(WorkflowWorkStarted {
        envelope: sample::envelope::<WorkflowWorkStarted>(25),
        request_id: 1,
        contractor_id: 9,
    }));
    let document = format!("document:{}", Uuid::nil());
    for (input, kind, actor, entity) in [
        (sample::created(1, 1, 5), "user", "customer:5", "request:1"),
        (sample::updated(2, 1, 5, 2), "user", "customer:5", "request:1"),
        (sample::cancelled(3, 1, 5), "user", "customer:1", "request:1"),
        (sample::clarification(4, 1, 5), "user", "manager:7", "request:1"),
        (sample::manager_assigned(5, 1, 7, 1), "system", "service:test", "request:1"),
        (sample::contractor_assigned(6, 1, 9, 7), "user", "manager:7", "request:1"),
        (sample::completed(7, 1, 9), "user", "contractor:9", "request:1"),
        (sample::status(8, 1, RequestStatus::Escalated), "system", "service:test", "request:1"),
        (sample::revoked(9, 9), "system", "service:test", "request:1"),
        (sample::contract(10, 9), "system", "service:test", "contractor:9"),
        (
            sample::document(11, DocumentType::PaymentOrder, 9, 5),
            "system",
            "service:test",
            "request:1",
        ),
        (sample::payment(12, 9), "system", "service:test", "contractor:9"),
        (signed("customer:5"), "user", "customer:5", &document),
        (signed("service:e-sign"), "system", "service:e-sign", &document),
        (rejected, "user", "officer:1", "contractor:9"),
        (granted, "system", "service:test", "request:1"),
        (asked, "user", "manager:7", "request:1"),
        (started, "user", "contractor:9", "request:1"),
        (verified("manager:3"), "user", "manager:3", "contractor:9"),
        (verified(" "), "system", "service:test", "contractor:9"),
    ] {
        let world = World::new();
        world.pipe(input.clone());
        let audited = world.audited();
        let [audit] = &audited[..] else { panic!("{input:?}: {audited:?}") };
        assert_eq!((audit.kind, &*audit.actor, &*audit.entity), (kind, actor, entity), "{input:?}");
        assert_eq!(audit.envelope.timestamp, START);
        assert_eq!(audit.place.1, 0);
        assert!(audit.action.contains('.') && audit.envelope.causation_id.is_some());
    }
    let world = World::new();
    world.notification(sent(1));
    world.notification(failed(2, Some(1)));
    world.notification(failed(3, None));
    let lines: Vec<_> =
        world.audited().into_iter().map(|a| (a.kind, a.entity, a.contractor_id)).collect();
    let line = |kind, entity: &str, contractor| (kind, entity.to_owned(), contractor);
    assert_eq!(
        lines,
        [
            line("system", "request:1", None),
            line("error", "request:1", Some(9)),
            line("error", "contractor:9", Some(9))
        ]
    );
}

/// The columns of `clickhouse/002_views.sql` that come out of `details`.
#[test]
fn the_details_have_what_the_views_of_clickhouse_use() {
    let world = World::new();
    world.pipe(sample::created(1, 1, 5));
    world.pipe(sample::manager_assigned(2, 1, 7, 1));
    world.pipe(sample::status(3, 1, RequestStatus::Escalated));
    world.notification(sent(4));
    let details: Vec<_> = world.audited().into_iter().map(|audit| audit.details).collect();
    assert_eq!(details[0]["region"], "north");
    for (name, value) in [("region", "north"), ("priority", "P2"), ("manager_id", "7")] {
        assert_eq!(details[1][name], value, "{details:?}");
    }
    assert_eq!(details[1]["sla_deadline"], START.as_millis().to_string());
    assert_eq!(details[2]["to_status"], "escalated");
    assert_eq!((&*details[3]["channel"], details[3]["notification_id"].len()), ("email", 36));
}

#[test]
fn a_duplicate_is_audited_at_its_own_place_under_the_same_id() {
    let world = World::new();
    world.pipe(sample::created(1, 1, 5));
    world.pipe(sample::created(1, 1, 5));
    let audited = world.audited();
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[0].envelope.event_id, audited[1].envelope.event_id);
    assert_eq!((audited[0].place.2, audited[1].place.2), (0, 1));
    assert_eq!(audited[0].details["title"], "t1");
}

#[test]
fn every_dead_letter_becomes_one_error_whatever_is_in_it() {
    let world = World::new();
    let headers = [
        ("topic", "request-events"),
        ("offset", "17"),
        ("message", &*"x".repeat(9_000)),
        ("application.id", "manager-assignment"),
        ("timestamp", "1772366400123"),
    ];
    world.letter(LETTERS, &headers, Some(b"anything"));
    world.letter(LETTERS, &[("timestamp", "-5")], None);
    let audited = world.audited();
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[0].kind, "error");
    assert_eq!(
        (&*audited[0].entity, &*audited[0].action),
        ("service:manager-assignment", "dead_lettered")
    );
    assert_eq!(audited[0].place, (LETTERS.to_owned(), 0, 0));
    assert_eq!(audited[0].details["source_offset"], "17");
    assert!(audited[0].details["message"].len() < 2_100);
    assert_eq!(audited[0].envelope.timestamp.as_millis(), 1_772_366_400_123);
    assert_eq!((&*audited[1].entity, audited[1].envelope.timestamp), ("service:unknown", START));
    assert_ne!(audited[0].envelope.event_id, audited[1].envelope.event_id);
}

/// The rows of the domain's table of bad input: a dead letter of this topology is audited by this topology, and that is the end of it.
#[test]
fn bad_input_becomes_an_own_dead_letter_that_is_audited_and_nothing_loops() {
    let world = World::new();
    let at = Timestamp::from_millis(7);
    let bad: [Option<&[u8]>; 3] = [Some(b"no frame"), Some(&[0, 0x7f, 0xff, 0xff, 0xff, 1]), None];
    for value in bad {
        world.driver.pipe_raw("request-events", Some(b"k"), value, at, Headers::default()).unwrap();
    }
    world.pipe(sample::created(1, 1, 5));
    let kinds: Vec<_> = world.audited().into_iter().map(|audit| audit.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "error").count(), 3, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "user").count(), 1, "{kinds:?}");
    let written = world.driver.produced_topics();
    assert!(written.iter().all(|(topic, _)| !topic.ends_with("-dlq-dlq")), "{written:?}");
    for topic in ["workflow-events", "notification-events", "security-events", "hr-events"] {
        world.driver.pipe_raw(topic, Some(b"k"), Some(b"?"), at, Headers::default()).unwrap();
        let letter = world.driver.read_raw(&format!("test-{topic}-dlq"));
        assert_eq!(letter.unwrap().value.unwrap(), &b"?"[..]);
    }
}

fn figures(audited: Vec<Audit>, topic: &str) -> Vec<(String, f64)> {
    let of_topic = audited.into_iter().filter(|audit| audit.place.0 == topic);
    of_topic.filter_map(|audit| audit.figure).collect()
}

#[test]
fn once_a_minute_each_topic_has_its_figures() {
    let world = World::new();
    world.tick(1_000);
    for number in 0..120 {
        world.pipe(sample::created(number, 1, 5));
    }
    world.letter(LETTERS, &[("topic", "request-events")], None);
    world.notification(failed(1, None));
    world.audited();
    world.tick(59_000);
    assert!(world.audited().is_empty(), "the window has just ended");
    world.tick(5_000);
    let audited = world.audited();
    let named = |name: &str, value: f64| (name.to_owned(), value);
    // START is 1 s before arrival.
    let expected = [
        named("events_per_second", 2.0),
        named("age_p50", 992.0),
        named("age_p99", 992.0),
        named("failures", 1.0),
    ];
    assert_eq!(figures(audited.clone(), "request-events"), expected);
    let quiet = [named("events_per_second", 0.0), named("failures", 0.0)];
    assert_eq!(figures(audited.clone(), "hr-events"), quiet);
    assert_eq!(figures(audited, "notification-events").last(), Some(&named("failures", 1.0)));
    world.tick(60_000);
    world.tick(1_000);
    let audited = world.audited();
    assert_eq!(figures(audited.clone(), "request-events"), quiet);
    assert_eq!(audited.len(), 5 * 2, "five topics, and nothing else: {audited:?}");
    assert!(audited.iter().all(|audit| audit.entity.starts_with("topic:")));
}

#[test]
fn a_window_that_an_event_finds_ended_is_reported_too() {
    // The window ends between two looks of the clock.
    let settings = Settings { punctuation_interval_ms: 7_000, ..Settings::default() };
    let world = World::with(&settings);
    world.pipe(sample::created(1, 1, 5));
    (0..8).for_each(|_| world.tick(7_000));
    world.tick(5_000);
    world.pipe(sample::created(2, 1, 5));
    (0..20).for_each(|_| world.tick(7_000));
    let counts = figures(world.audited(), "request-events").into_iter();
    let counts = counts.filter(|(name, _)| name == "events_per_second");
    let counts: Vec<i64> = counts.map(|(_, rate)| (rate * 60.0).round() as i64).collect();
    assert_eq!(counts, [1, 1, 0], "one event in each of the two");
}

#[test]
fn a_part_that_comes_late_counts_in_the_next_window() {
    let world = World::new();
    let part = |window_start_ms: i64, events: u64| {
        let mut figures = super::figures::Figures::empty(window_start_ms);
        (0..events).for_each(|_| figures.add_event(1));
        let mut value = Vec::new();
        let serde = crate::codec::internal::<super::figures::Figures>();
        let _ = serde.serializer().serialize("t", &figures, &mut value).unwrap();
        let topic = "test-figures-repartition";
        let at = world.driver.now();
        world
            .driver
            .pipe_raw(topic, Some(b"elsewhere"), Some(&value), at, Headers::default())
            .unwrap();
    };
    let start_ms = START.as_millis();
    let rates = || -> Vec<(i64, f64)> {
        let reported = figures(world.audited(), "elsewhere").into_iter();
        let rates = reported.filter(|(name, _)| name == "events_per_second");
        rates.map(|(_, value)| ((value * 60.0).round() as i64, value)).collect()
    };
    part(start_ms, 60);
    world.tick(65_000);
    assert_eq!(rates().len(), 1);
    part(start_ms, 30); // of a task that was down
    part(start_ms + 60_000, 60);
    world.tick(59_000);
    assert_eq!(rates().len(), 0);
    world.tick(1_000);
    assert_eq!(rates(), [(90, 1.5)]);
}
