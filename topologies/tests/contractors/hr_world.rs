//! hr-documents in the driver.

use std::cell::Cell;
use std::time::Duration;

use aggregator::events::*;
use aggregator::hr_documents::{add_to, by_document, by_request, settings::Settings};
use kstreams::dlq::ErrorHeaders;
use kstreams::serdes::DefaultSerde;
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{RawRecord, StreamsBuilder, Timestamp, Topology};
use uuid::Uuid;

use crate::events::{self, START, id, serdes_for_tests};

/// A running topology.
pub(crate) struct World {
    pub(crate) driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    security: TestInputTopic<String, SecurityEvent>,
    hr: TestInputTopic<String, HrEvent>,
    output: TestOutputTopic<String, HrEvent>,
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
            security: driver.input_topic_with("security-events", text(), serdes.security),
            hr: driver.input_topic_with("hr-events", text(), serdes.hr.clone()),
            output: driver.output_topic_with("hr-events", text(), serdes.hr),
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
    pub(crate) fn fresh(&self) -> Uuid {
        self.number.set(self.number.get() + 1);
        id(0xf1, self.number.get())
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

    pub(crate) fn hr(&self, event: HrEvent) {
        self.hr.pipe("9".to_owned(), event).unwrap();
    }

    pub(crate) fn created(&self, request_id: i64) {
        self.request(events::created(request_id, "north", self.now()));
    }

    pub(crate) fn cancelled(&self, request_id: i64) {
        self.request(events::cancelled(request_id, self.now()));
    }

    pub(crate) fn assigned(&self, request_id: i64, contractor_id: i64) {
        self.assigned_after(request_id, contractor_id, 0);
    }

    /// An assignment with a timestamp so many milliseconds away from now.
    pub(crate) fn assigned_after(&self, request_id: i64, contractor_id: i64, ms: i64) {
        let at = Timestamp::from_millis(self.now().as_millis() + ms);
        self.workflow(events::assigned(request_id, contractor_id, self.fresh(), at));
    }

    /// A completion; returns its event's id.
    pub(crate) fn completed(&self, request_id: i64, contractor_id: i64) -> Uuid {
        let event_id = self.fresh();
        self.workflow(events::completed(request_id, contractor_id, event_id, self.now()));
        event_id
    }

    pub(crate) fn verified(&self, contractor_id: i64) -> Uuid {
        let event_id = self.fresh();
        self.security(events::verified(contractor_id, &[], None, event_id, self.now()));
        event_id
    }

    pub(crate) fn signed(&self, document_id: Uuid) {
        self.hr(events::signed(document_id, self.fresh(), self.now()));
    }

    pub(crate) fn paid(&self, document_id: Uuid, contractor_id: i64, status: &str) {
        self.hr(events::paid(document_id, contractor_id, status, self.fresh(), self.now()));
    }

    /// New events.
    pub(crate) fn events(&self) -> Vec<HrEvent> {
        let records = self.output.read_records().unwrap().into_iter();
        let check = |record: kstreams::testing::TestRecord<String, HrEvent>| {
            assert_eq!(Some(record.key), record.value.key());
            assert_eq!(record.timestamp, record.value.envelope().unwrap().timestamp);
            record.value
        };
        records.map(check).collect()
    }

    /// New events as short text.
    pub(crate) fn published(&self) -> Vec<String> {
        let text = |event| match event {
            HrEvent::DocumentCreated(e) => {
                format!("{}→{} {}", e.request_id, e.contractor_id, e.document_type)
            }
            HrEvent::ContractGenerated(e) => format!("contract {}", e.contractor_id),
            other => panic!("{other:?}"),
        };
        self.events().into_iter().map(text).collect()
    }

    /// New dead letters of a topic.
    pub(crate) fn letters(&self, topic: &str) -> Vec<RawRecord> {
        let topic = format!("test-{topic}-dlq");
        std::iter::from_fn(|| self.driver.read_raw(&topic)).collect()
    }

    /// Why they were refused.
    pub(crate) fn reasons(&self, topic: &str) -> Vec<String> {
        let reason = |letter: RawRecord| {
            ErrorHeaders::read(&letter.headers).get("message").unwrap().to_owned()
        };
        self.letters(topic).into_iter().map(reason).collect()
    }

    /// Requests whose paperwork is open.
    pub(crate) fn open(&self) -> Vec<i64> {
        let keys = |store: &mut KeyValueStore<i64, by_request::Paperwork>| {
            store.all().unwrap().map(|entry| entry.unwrap().0).collect()
        };
        self.driver.with_store("paperwork", keys).unwrap()
    }

    /// How many requests and documents are remembered.
    pub(crate) fn remembered(&self) -> (usize, usize) {
        let count =
            |store: &mut KeyValueStore<i64, by_request::RequestEntry>| store.all().unwrap().count();
        let requests = self.driver.with_store("requests", count).unwrap();
        let count = |store: &mut KeyValueStore<Vec<u8>, by_document::DocumentEntry>| {
            store.all().unwrap().count()
        };
        (requests, self.driver.with_store("documents", count).unwrap())
    }
}
