//! contractor-access in the driver.

use std::cell::Cell;
use std::time::Duration;

use aggregator::contractor_access::{add_to, by_contractor, by_request, settings::Settings};
use aggregator::events::*;
use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{StreamsBuilder, Timestamp, Topology};
use uuid::Uuid;

use crate::events::{self, START, id, serdes_for_tests};

/// A running topology.
pub(crate) struct World {
    pub(crate) driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    security: TestInputTopic<String, SecurityEvent>,
    access: TestOutputTopic<String, SecurityEvent>,
    audit: TestOutputTopic<String, AuditEvent>,
    number: Cell<i64>,
}

/// The topology of the tests.
pub(crate) fn topology(settings: &Settings) -> Topology {
    let builder = StreamsBuilder::new();
    add_to(&builder, &serdes_for_tests(), settings).unwrap();
    builder.build().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&Settings::default())
    }

    pub(crate) fn with(settings: &Settings) -> Self {
        let (serdes, text) = (serdes_for_tests(), String::serde);
        let test = TestSettings { start: START, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(topology(settings), test).unwrap();
        Self {
            requests: driver.input_topic_with("request-events", text(), serdes.requests),
            workflow: driver.input_topic_with("workflow-events", text(), serdes.workflow),
            security: driver.input_topic_with("security-events", text(), serdes.security.clone()),
            access: driver.output_topic_with("security-events", text(), serdes.security),
            audit: driver.output_topic_with("audit-events", text(), serdes.audit),
            driver,
            number: Cell::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.driver.now()
    }

    /// Moves the wall clock.
    pub(crate) fn tick(&self, ms: u64) {
        self.driver.advance_wall_clock_time(Duration::from_millis(ms)).unwrap();
    }

    /// An event id of its own.
    fn fresh(&self) -> Uuid {
        self.number.set(self.number.get() + 1);
        id(0xf0, self.number.get())
    }

    pub(crate) fn request(&self, event: RequestEvent) {
        self.requests.pipe(event.key().unwrap(), event).unwrap();
    }

    pub(crate) fn workflow(&self, event: WorkflowEvent) {
        self.workflow.pipe(event.key().unwrap(), event).unwrap();
    }

    pub(crate) fn security(&self, event: SecurityEvent) {
        self.security.pipe(event.key().unwrap(), event).unwrap();
    }

    pub(crate) fn created(&self, request_id: i64, region: &str) {
        self.request(events::created(request_id, region, self.now()));
    }

    pub(crate) fn updated(&self, request_id: i64, revision: i32, region: &str) {
        self.request(events::updated(request_id, revision, region, self.now()));
    }

    pub(crate) fn cancelled(&self, request_id: i64) {
        self.request(events::cancelled(request_id, self.now()));
    }

    /// A new assignment; returns its event's id.
    pub(crate) fn assigned(&self, request_id: i64, contractor_id: i64) -> Uuid {
        self.assigned_after(request_id, contractor_id, 0)
    }

    /// One with a timestamp so many milliseconds away from now.
    pub(crate) fn assigned_after(&self, request_id: i64, contractor_id: i64, ms: i64) -> Uuid {
        let (event_id, at) = (self.fresh(), self.after(ms));
        self.workflow(events::assigned(request_id, contractor_id, event_id, at));
        event_id
    }

    pub(crate) fn completed(&self, request_id: i64, contractor_id: i64) {
        self.workflow(events::completed(request_id, contractor_id, self.fresh(), self.now()));
    }

    pub(crate) fn status(&self, request_id: i64, to: RequestStatus) {
        self.workflow(events::status(request_id, to, self.now()));
    }

    pub(crate) fn verified(&self, contractor_id: i64, regions: &[&str]) -> Uuid {
        self.verified_until(contractor_id, regions, None)
    }

    /// A verification that ends so many milliseconds from now.
    pub(crate) fn verified_until(
        &self,
        contractor_id: i64,
        regions: &[&str],
        ms: Option<i64>,
    ) -> Uuid {
        let (event_id, until) = (self.fresh(), ms.map(|ms| self.after(ms)));
        self.security(events::verified(contractor_id, regions, until, event_id, self.now()));
        event_id
    }

    pub(crate) fn rejected(&self, contractor_id: i64) -> Uuid {
        let event_id = self.fresh();
        self.security(events::rejected(contractor_id, event_id, self.now()));
        event_id
    }

    pub(crate) fn after(&self, ms: i64) -> Timestamp {
        Timestamp::from_millis(self.now().as_millis() + ms)
    }

    /// New decisions with their audit events, of which each has exactly one.
    pub(crate) fn decisions(&self) -> Vec<(SecurityEvent, AuditSystemEvent)> {
        let (access, audit) =
            (self.access.read_records().unwrap(), self.audit.read_records().unwrap());
        assert_eq!(access.len(), audit.len(), "one audit event each: {access:?} {audit:?}");
        let pairs = access.into_iter().zip(audit).map(|(access, audit)| {
            let AuditEvent::SystemEvent(report) = audit.value else { panic!("{audit:?}") };
            let envelope = access.value.envelope().unwrap().clone();
            assert_eq!(report.envelope.causation_id, Some(envelope.event_id));
            assert_eq!(report.envelope.correlation_id, envelope.correlation_id);
            assert_eq!(report.details["event_id"], envelope.event_id.to_string());
            for (record, envelope) in
                [(access.timestamp, &envelope), (audit.timestamp, &report.envelope)]
            {
                assert_eq!(record, envelope.timestamp, "Kafka's timestamp is the envelope's");
            }
            assert_eq!(Some(access.key), access.value.key());
            assert_eq!(audit.key, report.entity);
            (access.value, report)
        });
        pairs.collect()
    }

    /// New decisions as short text.
    pub(crate) fn published(&self) -> Vec<String> {
        let text = |(access, audit): (SecurityEvent, AuditSystemEvent)| {
            let (request_id, contractor_id, reason) = match access {
                SecurityEvent::AccessGranted(e) => (e.request_id, e.contractor_id, e.reason),
                SecurityEvent::AccessRevoked(e) => (e.request_id, e.contractor_id, e.reason),
                other => panic!("{other:?}"),
            };
            let action = audit.action.strip_prefix("access.").unwrap();
            assert_eq!(
                (audit.request_id, audit.contractor_id),
                (Some(request_id), Some(contractor_id))
            );
            assert_eq!(audit.details["reason"], reason.as_str());
            match reason {
                AccessReason::Verified => format!("{request_id}→{contractor_id} {action}"),
                reason => format!("{request_id}→{contractor_id} {action} {reason}"),
            }
        };
        self.decisions().into_iter().map(text).collect()
    }

    /// How many requests and contractors are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        let count =
            |store: &mut KeyValueStore<i64, by_request::RequestEntry>| store.all().unwrap().count();
        let requests = self.driver.with_store("requests", count).unwrap();
        let count = |store: &mut KeyValueStore<i64, by_contractor::ContractorEntry>| {
            store.all().unwrap().count()
        };
        (requests, self.driver.with_store("contractors", count).unwrap())
    }

    /// Open grants as request and contractor.
    pub(crate) fn grants(&self) -> Vec<(i64, i64)> {
        let keys = |store: &mut KeyValueStore<Vec<u8>, by_contractor::Grant>| {
            store.all().unwrap().map(|entry| entry.unwrap().0).collect::<Vec<_>>()
        };
        let keys = self.driver.with_store("grants", keys).unwrap();
        let number = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap()) ^ i64::MIN;
        keys.iter().map(|key| (number(&key[8..]), number(&key[..8]))).collect()
    }

    /// How many entries stores have in which something waits or is due.
    pub(crate) fn pending(&self) -> usize {
        let waiting = |store: &mut KeyValueStore<Vec<u8>, by_contractor::WaitingDecision>| {
            store.all().unwrap().count()
        };
        self.driver.with_store("waiting-decisions", waiting).unwrap()
    }
}
