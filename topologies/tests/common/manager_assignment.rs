//! Events in and out of manager-assignment, in short words.

use std::sync::Arc;
use std::time::Duration;

use aggregator::events::*;
use aggregator::manager_assignment::add_to;
use aggregator::manager_assignment::by_request::RequestEntry;
use aggregator::manager_assignment::settings::Settings;
use kstreams::serdes::{DefaultSerde, SchemaCache, option_serde};
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Clock, MockClock, StreamsBuilder, Timestamp, Topology};
use uuid::Uuid;

pub(crate) use aggregator::events::Priority as P;

const START: Timestamp = Timestamp::from_millis(1_772_366_400_000);

fn serdes_for_tests() -> Serdes {
    let clock: Arc<dyn Clock> = Arc::new(MockClock::new(START));
    let cache = SchemaCache::new(Arc::new(memory_registry().unwrap()), clock.clone());
    serdes(&cache, &clock).unwrap()
}

fn topology_with(serdes: &Serdes) -> Topology {
    let fallback_regions = [("east".to_owned(), "south".to_owned())].into();
    let settings = Settings { fallback_regions, ..Settings::default() };
    let builder = StreamsBuilder::new();
    add_to(&builder, serdes, &settings).unwrap();
    builder.build().unwrap()
}

/// The topology of the tests.
pub(crate) fn topology() -> Topology {
    topology_with(&serdes_for_tests())
}

/// A running topology; "east" falls back on "south".
pub(crate) struct World {
    driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    managers: TestInputTopic<String, Option<Manager>>,
    output: TestOutputTopic<String, WorkflowEvent>,
}

impl World {
    pub(crate) fn new() -> Self {
        let serdes = serdes_for_tests();
        let settings = TestSettings { start: START, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(topology_with(&serdes), settings).unwrap();
        let text = String::serde;
        Self {
            requests: driver.input_topic_with("request-events", text(), serdes.requests.clone()),
            workflow: driver.input_topic_with("workflow-events", text(), serdes.workflow.clone()),
            managers: driver.input_topic_with("managers", text(), option_serde(serdes.managers)),
            output: driver.output_topic_with("workflow-events", text(), serdes.workflow),
            driver,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.driver.now()
    }

    /// Moves the wall clock.
    pub(crate) fn tick(&self, ms: u64) {
        self.driver.advance_wall_clock_time(Duration::from_millis(ms)).unwrap();
    }

    pub(crate) fn created_id(&self, id: i64) -> Uuid {
        Uuid::from_u64_pair(1, id as u64)
    }

    pub(crate) fn correlation_id(&self, id: i64) -> Uuid {
        Uuid::from_u64_pair(2, id as u64)
    }

    fn envelope(
        &self,
        id: i64,
        event_id: Uuid,
        event_type: &'static str,
        at: Timestamp,
    ) -> Envelope {
        Envelope::new(event_id, event_type, at, "test", Some(self.correlation_id(id)))
    }

    pub(crate) fn created(&self, id: i64, region: &str, urgency: &str) {
        self.created_at(id, region, urgency, self.now());
    }

    pub(crate) fn created_at(&self, id: i64, region: &str, urgency: &str, at: Timestamp) {
        let event = RequestCreated {
            envelope: self.envelope(id, self.created_id(id), "request.created", at),
            request_id: id,
            customer_id: 456,
            title: "t".to_owned(),
            description: "d".to_owned(),
            urgency: urgency_of(urgency),
            region: region.to_owned(),
            city: "c".to_owned(),
            address: "a".to_owned(),
            category: None,
            revision: 1,
        };
        self.requests.pipe_at(region.to_owned(), event.into(), at).unwrap();
    }

    pub(crate) fn updated(&self, id: i64, revision: i32, region: &str, urgency: &str) {
        let event_id = Uuid::from_u64_pair(3, (id * 1_000 + i64::from(revision)) as u64);
        let event = RequestUpdated {
            envelope: self.envelope(id, event_id, "request.updated", self.now()),
            request_id: id,
            customer_id: 456,
            title: "t".to_owned(),
            description: "d".to_owned(),
            urgency: urgency_of(urgency),
            region: region.to_owned(),
            city: "c".to_owned(),
            address: "a".to_owned(),
            category: None,
            revision,
        };
        self.requests.pipe(region.to_owned(), event.into()).unwrap();
    }

    pub(crate) fn cancelled(&self, id: i64) {
        let event = RequestCancelled {
            envelope: self.envelope(id, Uuid::nil(), "request.cancelled", self.now()),
            request_id: id,
            customer_id: 456,
            region: "north".to_owned(),
            reason: "r".to_owned(),
            cancelled_by: "customer:456".to_owned(),
        };
        self.requests.pipe("north".to_owned(), event.into()).unwrap();
    }

    pub(crate) fn completed(&self, id: i64) {
        let event = WorkflowWorkCompleted {
            envelope: self.envelope(id, Uuid::nil(), "workflow.work_completed", self.now()),
            request_id: id,
            contractor_id: 9,
            completion_data: CompletionData {
                completed_at: self.now(),
                summary: "s".to_owned(),
                amount: Money::default(),
                currency: "RUB".to_owned(),
                hours: None,
                photos: Vec::new(),
            },
        };
        self.pipe_workflow(id, event.into());
    }

    pub(crate) fn status_rejected(&self, id: i64) {
        self.status(id, RequestStatus::Rejected);
    }

    pub(crate) fn status(&self, id: i64, to_status: RequestStatus) {
        let event = WorkflowStatusChanged {
            envelope: self.envelope(id, Uuid::nil(), "workflow.status_changed", self.now()),
            request_id: id,
            from_status: RequestStatus::Assigned,
            to_status,
            reason: None,
        };
        self.pipe_workflow(id, event.into());
    }

    /// What is piped in is no output of ours, although the topic is the same.
    fn pipe_workflow(&self, id: i64, event: WorkflowEvent) {
        self.workflow.pipe(id.to_string(), event).unwrap();
    }

    pub(crate) fn manager(&self, id: i64, region: &str, capacity: i32) {
        self.manager_is(id, region, capacity, true);
    }

    pub(crate) fn manager_is(&self, id: i64, region: &str, capacity: i32, active: bool) {
        let manager = Manager {
            manager_id: id,
            name: "n".to_owned(),
            email: "e".to_owned(),
            region: region.to_owned(),
            capacity,
            active,
        };
        self.managers.pipe(id.to_string(), Some(manager)).unwrap();
    }

    pub(crate) fn manager_gone(&self, id: i64) {
        self.managers.pipe(id.to_string(), None).unwrap();
    }

    /// New assignments: key, event, Kafka timestamp.
    pub(crate) fn assignments(&self) -> Vec<(String, WorkflowManagerAssigned, Timestamp)> {
        let records = self.output.read_records().unwrap().into_iter();
        let assigned = records.filter_map(|record| match record.value {
            WorkflowEvent::ManagerAssigned(event) => Some((record.key, event, record.timestamp)),
            _ => None,
        });
        assigned.collect()
    }

    /// New events as short text.
    pub(crate) fn published(&self) -> Vec<String> {
        let records = self.output.read_records().unwrap();
        let events = records.into_iter().map(|record| record.value);
        events
            .map(|event| match event {
                WorkflowEvent::ManagerAssigned(e) => {
                    let escalated = if e.escalated { " escalated" } else { "" };
                    format!("{}→{} #{}{escalated}", e.request_id, e.manager_id, e.attempt)
                }
                WorkflowEvent::StatusChanged(e) => {
                    format!("{} {:?}→{:?}", e.request_id, e.from_status, e.to_status)
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// How many requests are remembered, open or closed.
    pub(crate) fn remembered(&self) -> usize {
        let count = |store: &mut KeyValueStore<i64, RequestEntry>| store.all().unwrap().count();
        self.driver.with_store("requests", count).unwrap()
    }
}

fn urgency_of(text: &str) -> Urgency {
    *Urgency::ALL.iter().find(|urgency| urgency.as_str() == text).unwrap()
}
