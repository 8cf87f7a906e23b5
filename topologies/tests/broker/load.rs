//! Seeded input: managers, requests, duplicates, closings and poison, as bytes ready to be written.

use std::sync::Arc;

use aggregator::events::*;
use kstreams::serdes::{Encoded, HttpRegistry, RegistryConfig, SchemaCache, Serde};
use kstreams::{Clock, SystemClock, Timestamp};
use test_support::{Message, registry_url};
use uuid::Uuid;

/// Regions that requests come from; each has [`MANAGERS_EACH`] managers.
pub(crate) const REGIONS: usize = 24;
/// Managers of a region.
pub(crate) const MANAGERS_EACH: i64 = 8;
/// Far above what a region gets, so that every request can be assigned.
const CAPACITY: i32 = 1_000_000;
/// No schema has this id.
const UNKNOWN_SCHEMA: u32 = 0x7fff_fff0;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// A request as it was filed; the first filing counts.
#[derive(Debug, Clone)]
pub(crate) struct Filed {
    pub(crate) event_id: Uuid,
    pub(crate) correlation_id: Uuid,
    pub(crate) region: usize,
    pub(crate) urgency: Urgency,
    pub(crate) timestamp_ms: i64,
}

/// The name of a region.
pub(crate) fn region(number: usize) -> String {
    format!("регион-{number}")
}

/// The home region of a manager.
pub(crate) fn home_of(manager_id: i64) -> usize {
    usize::try_from(manager_id / MANAGERS_EACH).unwrap()
}

/// The serdes of all events, on the real registry.
pub(crate) fn registered_serdes() -> Serdes {
    let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let schemas = SchemaCache::new(Arc::new(registry), clock.clone());
    serdes(&schemas, &clock).unwrap()
}

/// Makes messages; the same for the same seed but for the clock.
pub(crate) struct Load {
    pub(crate) random: Random,
    serdes: Serdes,
    clock: SystemClock,
    /// Request 1 is the first entry.
    pub(crate) filed: Vec<Filed>,
    pub(crate) closed: Vec<bool>,
    pub(crate) poison: Vec<Message>,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            serdes: registered_serdes(),
            clock: SystemClock::default(),
            filed: Vec::new(),
            closed: Vec::new(),
            poison: Vec::new(),
        }
    }

    /// Every manager of every region.
    pub(crate) fn managers(&self) -> Vec<Message> {
        let all = 0..MANAGERS_EACH * REGIONS as i64;
        let message = |manager_id: i64| {
            let manager = Manager {
                manager_id,
                name: format!("Manager {manager_id}"),
                email: format!("m{manager_id}@example.org"),
                region: region(home_of(manager_id)),
                capacity: CAPACITY,
                active: true,
            };
            let value = bytes(&self.serdes.managers, "managers", &manager);
            let key = manager_id.to_string().into_bytes();
            Message { key: Some(key), value: Some(value), ..Message::default() }
        };
        all.map(message).collect()
    }

    /// `count` new requests, 1 % of them filed twice or more, and 0.1 % poison, shuffled in.
    pub(crate) fn requests(&mut self, count: usize) -> Vec<Message> {
        // The place decides the order; a request stands at an even one, what is shuffled in at an odd one.
        let mut placed: Vec<(usize, Message)> = Vec::with_capacity(count + count / 50);
        let known = self.filed.len();
        for at in 0..count {
            let filed = Filed {
                event_id: self.random.uuid(),
                correlation_id: self.random.uuid(),
                region: self.random.below(REGIONS),
                urgency: Urgency::ALL[self.random.below(Urgency::ALL.len())],
                timestamp_ms: self.clock.now().as_millis(),
            };
            let message = self.created(known + at + 1, &filed);
            placed.push((at * 2, message));
            self.filed.push(filed);
            self.closed.push(false);
        }
        for number in 0..count / 100 {
            // One of these, or of an earlier time: closed ones come back too.
            let request = self.random.below(known + count);
            let first = request.saturating_sub(known);
            let again = match number % 2 {
                0 => self.filed[request].clone(),
                // The service sent it again as another event.
                _ => Filed { event_id: self.random.uuid(), ..self.filed[request].clone() },
            };
            let place = first + self.random.below(count - first);
            placed.push((place * 2 + 1, self.created(request + 1, &again)));
        }
        for number in 0..count.div_ceil(1000) {
            let poison = self.poison(self.poison.len(), number);
            placed.push((self.random.below(count) * 2 + 1, poison.clone()));
            self.poison.push(poison);
        }
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, message)| message).collect()
    }

    /// Closings of about a third of the requests up to now, a few of them twice; they must have been
    /// assigned. To `request-events` and to `workflow-events`.
    pub(crate) fn closings(&mut self) -> (Vec<Message>, Vec<Message>) {
        self.closings_of(|_| true)
    }

    /// As [`closings`](Self::closings), of those requests only that have been assigned, by their ids.
    pub(crate) fn closings_of(
        &mut self,
        is_assigned: impl Fn(i64) -> bool,
    ) -> (Vec<Message>, Vec<Message>) {
        let (mut cancelled, mut finished) = (Vec::new(), Vec::new());
        for request in 0..self.filed.len() {
            let is_open = !self.closed[request] && is_assigned(request as i64 + 1);
            if !is_open || self.random.below(3) > 0 {
                continue;
            }
            self.closed[request] = true;
            let request_id = request as i64 + 1;
            let repeats = 1 + usize::from(self.random.below(20) == 0);
            for _ in 0..repeats {
                match self.random.below(3) {
                    0 => cancelled.push(self.cancelled(request_id, &self.filed[request].clone())),
                    1 => finished.push(self.completed(request_id)),
                    _ => finished.push(self.rejected(request_id)),
                }
            }
        }
        (cancelled, finished)
    }

    fn envelope(&mut self, event_type: &'static str) -> Envelope {
        Envelope::new(self.random.uuid(), event_type, self.clock.now(), "load", None)
    }

    fn created(&self, request_id: usize, filed: &Filed) -> Message {
        let event = RequestEvent::Created(request_created(request_id as i64, filed));
        let headers = vec![("traceparent".to_owned(), Some(filed.event_id.as_bytes().to_vec()))];
        Message { headers, ..self.request_event(filed, &event) }
    }

    fn request_event(&self, filed: &Filed, event: &RequestEvent) -> Message {
        Message {
            key: Some(region(filed.region).into_bytes()),
            value: Some(bytes(&self.serdes.requests, "request-events", event)),
            timestamp_ms: Some(filed.timestamp_ms),
            ..Message::default()
        }
    }

    fn cancelled(&mut self, request_id: i64, filed: &Filed) -> Message {
        let event = RequestEvent::Cancelled(RequestCancelled {
            envelope: self.envelope("request.cancelled"),
            request_id,
            customer_id: request_id,
            region: region(filed.region),
            reason: "changed my mind".into(),
            cancelled_by: format!("customer:{request_id}"),
        });
        self.request_event(filed, &event)
    }

    fn completed(&mut self, request_id: i64) -> Message {
        let envelope = self.envelope("workflow.work_completed");
        let completion_data = CompletionData {
            completed_at: envelope.timestamp,
            summary: "done".into(),
            amount: Money::from_hundredths(request_id * 100 + 50).unwrap(),
            currency: "EUR".into(),
            hours: Some(1.5),
            photos: Vec::new(),
        };
        let event =
            WorkflowWorkCompleted { envelope, request_id, contractor_id: 1, completion_data };
        self.workflow_event(request_id, &WorkflowEvent::WorkCompleted(event))
    }

    fn rejected(&mut self, request_id: i64) -> Message {
        let event = WorkflowEvent::StatusChanged(WorkflowStatusChanged {
            envelope: self.envelope("workflow.status_changed"),
            request_id,
            from_status: RequestStatus::Assigned,
            to_status: RequestStatus::Rejected,
            reason: None,
        });
        self.workflow_event(request_id, &event)
    }

    fn workflow_event(&self, request_id: i64, event: &WorkflowEvent) -> Message {
        Message {
            key: Some(request_id.to_string().into_bytes()),
            value: Some(bytes(&self.serdes.workflow, "workflow-events", event)),
            timestamp_ms: event.envelope().map(|envelope| envelope.timestamp.as_millis()),
            ..Message::default()
        }
    }

    /// A record that must be set aside; its headers tell it from all others.
    fn poison(&mut self, number: usize, kind: usize) -> Message {
        let filed = Filed {
            event_id: self.random.uuid(),
            correlation_id: self.random.uuid(),
            region: self.random.below(REGIONS),
            urgency: Urgency::Low,
            timestamp_ms: self.clock.now().as_millis(),
        };
        let good = request_created(number as i64, &filed);
        let frame = |event| bytes(&self.serdes.requests, "request-events", &event);
        let frame = |event: RequestCreated| frame(RequestEvent::Created(event));
        let mut valid = frame(good.clone());
        let value = match kind % 7 {
            0 => {
                let length = 1 + self.random.below(200);
                let mut garbage = self.random.bytes(length);
                garbage[0] |= 1; // no frame begins so
                Some(garbage)
            }
            1 => {
                valid[1..5].copy_from_slice(&UNKNOWN_SCHEMA.to_be_bytes());
                Some(valid)
            }
            2 => {
                valid.truncate(1 + self.random.below(valid.len() - 1));
                Some(valid)
            }
            3 => {
                let count = 1 + self.random.below(3);
                valid.extend(self.random.bytes(count));
                Some(valid)
            }
            4 => None,
            5 => Some(frame(RequestCreated { request_id: -1 - number as i64, ..good })),
            _ => Some(frame(RequestCreated { region: String::new(), ..good })),
        };
        Message {
            key: (!number.is_multiple_of(5)).then(|| self.random.bytes(9)),
            value,
            timestamp_ms: Some(filed.timestamp_ms),
            headers: vec![
                ("poison".to_owned(), Some(number.to_string().into_bytes())),
                ("empty".to_owned(), None),
            ],
            ..Message::default()
        }
    }
}

fn request_created(request_id: i64, filed: &Filed) -> RequestCreated {
    let timestamp = Timestamp::from_millis(filed.timestamp_ms);
    let correlation = Some(filed.correlation_id);
    RequestCreated {
        envelope: Envelope::new(filed.event_id, "request.created", timestamp, "load", correlation),
        request_id,
        customer_id: request_id,
        title: "Leaking tap".into(),
        description: "In the kitchen, since yesterday".into(),
        urgency: filed.urgency,
        region: region(filed.region),
        city: "Riga".into(),
        address: format!("Brīvības {request_id}"),
        category: Some("repair".into()),
        revision: 1,
    }
}

fn bytes<T>(serde: &Serde<T>, topic: &str, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(serde.serializer().serialize(topic, value, &mut out).unwrap(), Encoded::Bytes);
    out
}
