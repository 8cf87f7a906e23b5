//! The simulator's thread: sends what the [`World`] says, and tells it of assignments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kstreams::kafka::{KafkaClients, OutgoingRecord, Producer, StartOffset, TopicHandle};
use kstreams::serdes::{Encoded, Serde};
use kstreams::{Clock, Error, ErrorKind, Headers, RawRecord, Result, Timestamp};

use crate::events::{HrEvent, RequestEvent, SecurityEvent, Serdes, TopicEvent, WorkflowEvent};

use super::reader::TopicsReader;
use super::world::{Message, World, WorldSettings};

/// The topics that the simulator writes.
pub(super) const TOPICS: [&str; 5] =
    [RequestEvent::TOPIC, WorkflowEvent::TOPIC, SecurityEvent::TOPIC, HrEvent::TOPIC, "managers"];
/// Messages between two looks at the assignments.
const BATCH: usize = 1_000;
/// The longest sleep, so that a wish to stop is seen.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// The shortest, so that a high rate is sent in small batches and not with a wake-up for each record.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// A head start of the managers, so that the first requests meet a directory that is known.
const DIRECTORY_FIRST: Duration = Duration::from_secs(1);
/// Until when the last records must be acknowledged.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);

/// What was sent so far.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    requests: AtomicU64,
    records: AtomicU64,
}

impl Sent {
    /// `request.created` records, duplicates and poison included.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// All records.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::SeqCst)
    }
}

/// What the simulator needs of its surroundings.
pub(crate) struct Surroundings {
    /// Clients of the cluster.
    pub(crate) clients: Arc<dyn KafkaClients>,
    /// The contracts, with ids of the registry.
    pub(crate) serdes: Serdes,
    /// Whose time the events carry.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Sends until `stop`, then waits until all is acknowledged.
///
/// # Errors
/// `Invalid` for missing topics, and whatever sending and reading fails with.
pub(crate) fn run(
    surroundings: &Surroundings,
    settings: WorldSettings,
    stop: &AtomicBool,
    sent: &Sent,
) -> Result<()> {
    let Surroundings { clients, serdes, clock } = surroundings;
    let heard = [WorkflowEvent::TOPIC, HrEvent::TOPIC].map(str::to_owned);
    let mut reader = TopicsReader::new(&**clients, &heard, StartOffset::End)?;
    let mut sender = Sender::new(clients.producer(None)?, serdes.clone(), sent)?;
    let mut world = World::new(settings);
    let mut messages = world.directory();
    sender.send_all(&mut messages, clock.now())?;
    sender.producer.flush(FLUSH_WITHIN)?;
    let sent_at = clock.monotonic();
    while clock.monotonic() < sent_at + DIRECTORY_FIRST && !stop.load(Ordering::SeqCst) {
        reader.wait(SLEEP_MAX)?;
    }
    let begin = clock.monotonic();
    while !stop.load(Ordering::SeqCst) {
        let elapsed = clock.monotonic().saturating_sub(begin);
        reader.drain(|partition, record| {
            let topic = &*partition.topic;
            if topic == HrEvent::TOPIC {
                if let Some(HrEvent::DocumentCreated(document)) =
                    heard_of(&serdes.hr, topic, &record)?
                    && world.is_ours(document.request_id)
                {
                    world.documented(document, elapsed);
                }
            } else if let Some(WorkflowEvent::ManagerAssigned(job)) =
                heard_of(&serdes.workflow, topic, &record)?
                && world.is_ours(job.request_id)
            {
                world.assigned(job, elapsed);
            }
            Ok(())
        })?;
        let now = clock.now();
        world.advance(elapsed, now, BATCH, &mut messages);
        let behind = messages.len() == BATCH;
        sender.send_all(&mut messages, now)?;
        if !behind {
            let elapsed = clock.monotonic().saturating_sub(begin);
            let sleep = world.next_due().saturating_sub(elapsed);
            reader.wait(sleep.clamp(SLEEP_MIN, SLEEP_MAX))?;
        }
    }
    sender.producer.flush(FLUSH_WITHIN)
}

/// The event of a record; somebody else's bad record does not stop the simulation.
fn heard_of<T: 'static>(serde: &Serde<T>, topic: &str, record: &RawRecord) -> Result<Option<T>> {
    let value = record.value.as_ref();
    match serde.deserializer().deserialize(topic, &record.headers, value) {
        Ok(event) => Ok(Some(event)),
        Err(error) if error.kind() == ErrorKind::BadRecord => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes messages as a well-behaved producer does.
struct Sender<'a> {
    producer: Box<dyn Producer>,
    serdes: Serdes,
    requests: TopicHandle,
    workflow: TopicHandle,
    managers: TopicHandle,
    security: TopicHandle,
    hr: TopicHandle,
    buffer: Vec<u8>,
    sent: &'a Sent,
}

impl<'a> Sender<'a> {
    fn new(mut producer: Box<dyn Producer>, serdes: Serdes, sent: &'a Sent) -> Result<Self> {
        let requests = producer.topic(RequestEvent::TOPIC)?;
        let workflow = producer.topic(WorkflowEvent::TOPIC)?;
        let managers = producer.topic("managers")?;
        let security = producer.topic(SecurityEvent::TOPIC)?;
        let hr = producer.topic(HrEvent::TOPIC)?;
        let buffer = Vec::new();
        Ok(Self { producer, serdes, requests, workflow, managers, security, hr, buffer, sent })
    }

    fn send_all(&mut self, messages: &mut Vec<Message>, timestamp: Timestamp) -> Result<()> {
        for message in messages.drain(..) {
            let is_request = message.is_request();
            let (topic, key, value) = self.encode(message)?;
            self.producer.send(OutgoingRecord {
                topic,
                partition: None,
                timestamp,
                key: Some(key.as_bytes()),
                value: value.as_deref(),
                headers: &Headers::default(),
            })?;
            self.sent.records.fetch_add(1, Ordering::SeqCst);
            self.sent.requests.fetch_add(u64::from(is_request), Ordering::SeqCst);
        }
        self.producer.poll()
    }

    fn encode(&mut self, message: Message) -> Result<(TopicHandle, String, Option<Bytes>)> {
        let serdes = self.serdes.clone();
        Ok(match message {
            Message::Request(event) => {
                let value = self.frame(&serdes.requests, RequestEvent::TOPIC, &event)?;
                (self.requests, event.key().unwrap_or_default(), Some(value))
            }
            Message::Poison(poison, event) => {
                let event = RequestEvent::Created(event);
                let value = self.frame(&serdes.requests, RequestEvent::TOPIC, &event)?;
                let value = poison.spoil(value.to_vec()).map(Bytes::from);
                (self.requests, event.key().unwrap_or_default(), value)
            }
            Message::Workflow(event) => {
                let value = self.frame(&serdes.workflow, WorkflowEvent::TOPIC, &event)?;
                (self.workflow, event.key().unwrap_or_default(), Some(value))
            }
            Message::Security(event) => {
                let value = self.frame(&serdes.security, SecurityEvent::TOPIC, &event)?;
                (self.security, event.key().unwrap_or_default(), Some(value))
            }
            Message::Hr(contractor_id, event) => {
                let value = self.frame(&serdes.hr, HrEvent::TOPIC, &event)?;
                (self.hr, contractor_id.to_string(), Some(value))
            }
            Message::Manager(id, manager) => {
                let value = manager
                    .map(|manager| self.frame(&serdes.managers, "managers", &manager))
                    .transpose()?;
                (self.managers, id.to_string(), value)
            }
        })
    }

    fn frame<T: 'static>(&mut self, serde: &Serde<T>, topic: &str, value: &T) -> Result<Bytes> {
        self.buffer.clear();
        match serde.serializer().serialize(topic, value, &mut self.buffer)? {
            Encoded::Bytes => Ok(Bytes::copy_from_slice(&self.buffer)),
            Encoded::Null => Err(Error::fatal(format!("an event for \"{topic}\" became null"))),
        }
    }
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
