//! The property of [`properties`](super::properties) again, through the whole topology: Avro in, real tasks and stores, Avro out.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kstreams::serdes::{DefaultSerde, SchemaCache, option_serde};
use kstreams::store::KeyValueStore;
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Clock, MockClock, StreamsBuilder, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::add_to;
use super::model::{Event, Model, Published};
use super::properties::{CASES, START_MS, events, settings, steps};
use super::region_state::Held;
use super::rules::{Priority, RequestId, Submission};
use super::settings::Settings;
use crate::events::{
    CompletionData, Envelope, Manager, Money, RequestCancelled, RequestCreated, RequestEvent,
    RequestStatus, RequestUpdated, Serdes, Urgency, WorkflowEvent, WorkflowStatusChanged,
    WorkflowWorkCompleted, memory_registry, serdes,
};

/// Parsed once: parsing 28 schemas takes longer than a case.
fn shared_serdes() -> Serdes {
    static SERDES: OnceLock<Serdes> = OnceLock::new();
    let parse = || {
        let start = Timestamp::from_millis(i64::MAX / 2); // no event lies in the future
        let clock: Arc<dyn Clock> = Arc::new(MockClock::new(start));
        let cache = SchemaCache::new(Arc::new(memory_registry().unwrap()), clock.clone());
        serdes(&cache, &clock).unwrap()
    };
    SERDES.get_or_init(parse).clone()
}

struct World {
    driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    managers: TestInputTopic<String, Option<Manager>>,
    output: TestOutputTopic<String, WorkflowEvent>,
}

impl World {
    fn new(settings: &Settings) -> Self {
        let (serdes, text) = (shared_serdes(), String::serde);
        let builder = StreamsBuilder::new();
        add_to(&builder, &serdes, settings).unwrap();
        let start = Timestamp::from_millis(START_MS);
        let test = TestSettings { start, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), test).unwrap();
        Self {
            requests: driver.input_topic_with("request-events", text(), serdes.requests),
            workflow: driver.input_topic_with("workflow-events", text(), serdes.workflow.clone()),
            managers: driver.input_topic_with("managers", text(), option_serde(serdes.managers)),
            output: driver.output_topic_with("workflow-events", text(), serdes.workflow),
            driver,
        }
    }

    fn pipe(&self, event: Event) {
        match event {
            Event::Created(s) => self.pipe_request(s.region.clone(), created(s).into()),
            Event::Updated(s) => self.pipe_request(s.region.clone(), updated(s).into()),
            Event::Closed(id) if id % 3 == 0 => {
                let region = format!("r{}", id % 2);
                self.pipe_request(region.clone(), cancelled(id, region).into());
            }
            Event::Closed(id) => {
                let event = if id % 3 == 1 { completed(id) } else { finished(id) };
                self.workflow.pipe(id.to_string(), event).unwrap();
            }
            Event::Manager(id, entry) => {
                let manager = entry.map(|entry| Manager {
                    manager_id: id,
                    name: String::new(),
                    email: String::new(),
                    region: entry.region,
                    capacity: entry.capacity as i32,
                    active: entry.active,
                });
                self.managers.pipe(id.to_string(), manager).unwrap();
            }
            Event::Punctuated => {}
        }
    }

    fn pipe_request(&self, region: String, event: RequestEvent) {
        self.requests.pipe(region, event).unwrap();
    }

    fn published(&self) -> Vec<Published> {
        let records = self.output.read_records().unwrap();
        let published = records.into_iter().map(|record| match record.value {
            WorkflowEvent::ManagerAssigned(event) => Published::Assigned {
                request_id: event.request_id,
                manager_id: event.manager_id,
                region: event.region,
                attempt: event.attempt as u32,
                escalated: event.escalated,
                sla_deadline_ms: event.sla_deadline.as_millis(),
            },
            WorkflowEvent::StatusChanged(event) => {
                assert_eq!(event.to_status, RequestStatus::Escalated);
                let was_assigned = event.from_status == RequestStatus::Assigned;
                Published::Escalated { request_id: event.request_id, was_assigned }
            }
            other => panic!("wanted an assignment or an escalation, found {other:?}"),
        });
        published.collect()
    }
}

fn envelope(event_type: &'static str, s: Option<&Submission>) -> Envelope {
    let timestamp = Timestamp::from_millis(s.map_or(START_MS, |s| s.timestamp_ms));
    let event_id = s.map_or(Uuid::nil(), |s| s.event_id);
    Envelope::new(event_id, event_type, timestamp, "test", s.and_then(|s| s.correlation_id))
}

fn urgency(priority: Priority) -> Urgency {
    match priority {
        Priority::P1 => Urgency::Critical,
        Priority::P2 => Urgency::High,
        Priority::P3 => Urgency::Medium,
        Priority::P4 => Urgency::Low,
    }
}

fn created(s: Submission) -> RequestCreated {
    RequestCreated {
        envelope: envelope("request.created", Some(&s)),
        request_id: s.request_id,
        customer_id: 1,
        title: String::new(),
        description: String::new(),
        urgency: urgency(s.priority),
        region: s.region,
        city: String::new(),
        address: String::new(),
        category: None,
        revision: s.revision,
    }
}

fn updated(s: Submission) -> RequestUpdated {
    RequestUpdated {
        envelope: envelope("request.updated", Some(&s)),
        request_id: s.request_id,
        customer_id: 1,
        title: String::new(),
        description: String::new(),
        urgency: urgency(s.priority),
        region: s.region,
        city: String::new(),
        address: String::new(),
        category: None,
        revision: s.revision,
    }
}

fn cancelled(request_id: RequestId, region: String) -> RequestCancelled {
    RequestCancelled {
        envelope: envelope("request.cancelled", None),
        request_id,
        customer_id: 1,
        region,
        reason: String::new(),
        cancelled_by: String::new(),
    }
}

fn completed(request_id: RequestId) -> WorkflowEvent {
    let completion_data = CompletionData {
        completed_at: Timestamp::from_millis(START_MS),
        summary: String::new(),
        amount: Money::default(),
        currency: String::new(),
        hours: None,
        photos: Vec::new(),
    };
    let envelope = envelope("workflow.work_completed", None);
    WorkflowWorkCompleted { envelope, request_id, contractor_id: 1, completion_data }.into()
}

fn finished(request_id: RequestId) -> WorkflowEvent {
    WorkflowStatusChanged {
        envelope: envelope("workflow.status_changed", None),
        request_id,
        from_status: RequestStatus::InProgress,
        to_status: RequestStatus::Closed,
        reason: None,
    }
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn the_topology_equals_the_plain_model(steps in steps(), settings in settings()) {
        // Due at every step, so that the model knows when.
        let settings = Settings { punctuation_interval_ms: 1, ..settings };
        let world = World::new(&settings);
        let mut model = Model::new(settings);
        model.now_ms = START_MS;
        for (now_ms, event) in events(&steps) {
            let passed_ms = (now_ms - model.now_ms) as u64;
            model.now_ms = now_ms;
            world.driver.advance_wall_clock_time(Duration::from_millis(passed_ms)).unwrap();
            model.apply(&Event::Punctuated);
            if event != Event::Punctuated {
                model.apply(&event);
                world.pipe(event);
            }
            prop_assert_eq!(world.published(), std::mem::take(&mut model.published));
        }
        let held = |store: &mut KeyValueStore<RequestId, Held>| {
            store.all().unwrap().map(|entry| entry.unwrap().1).collect::<Vec<_>>()
        };
        let held = world.driver.with_store("region-requests", held).unwrap();
        let held: Vec<_> = held
            .into_iter()
            .map(|held| (held.ticket.request_id, held.region, held.manager_id))
            .collect();
        let open = model.cards.into_iter().filter(|(_, card)| !card.closed);
        let open: Vec<_> = open.map(|(id, card)| (id, card.region, card.manager_id)).collect();
        prop_assert_eq!(held, open);
    }
}
