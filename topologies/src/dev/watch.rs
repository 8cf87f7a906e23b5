//! The independent reader of the local mode: a consumer of its own that feeds the tally.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kstreams::dlq::ErrorHeaders;
use kstreams::kafka::{KafkaClients, StartOffset};
use kstreams::serdes::Serde;
use kstreams::{Clock, Error, ErrorKind, RawRecord, Result, TopicPartition};

use crate::catalog::CATALOG;
use crate::events::{
    AuditEvent, Envelope, Event as _, HrEvent, NotificationCommand, NotificationEvent,
    RequestEvent, SecurityEvent, Serdes, TopicEvent, WorkflowEvent,
};
use crate::manager_assignment;
use crate::simulate::TopicsReader;

use super::tally::Tally;

/// The longest sleep, so that a wish to stop is seen.
const SLEEP_MAX: Duration = Duration::from_millis(200);
const MANAGERS: &str = "managers";
/// Topics of which only the topologies' own events are counted.
const OTHERS: [&str; 5] = [
    SecurityEvent::TOPIC,
    HrEvent::TOPIC,
    NotificationCommand::TOPIC,
    NotificationEvent::TOPIC,
    AuditEvent::TOPIC,
];

/// The reader's thread and what it has made of the topics.
pub(super) struct Watch {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Watch {
    /// Reads the topologies' topics and these dead-letter topics (and whose they are) from their beginning.
    ///
    /// # Errors
    /// `Invalid` for a missing topic, `Fatal` where the system gives no thread.
    pub(super) fn start(
        clients: &dyn KafkaClients,
        dead_letters: Vec<(String, String)>,
        serdes: Serdes,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let own = [RequestEvent::TOPIC, WorkflowEvent::TOPIC, MANAGERS].map(str::to_owned);
        let letters: BTreeMap<String, String> = dead_letters.into_iter().collect();
        let mut topics: Vec<String> = letters.keys().cloned().collect();
        topics.extend(own.into_iter().chain(OTHERS.map(str::to_owned)));
        let mut reader = TopicsReader::new(clients, &topics, StartOffset::Beginning)?;
        let wake = reader.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::<Mutex<Tally>>::default();
        let (stopping, counting) = (stop.clone(), tally.clone());
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                while !stopping.load(Ordering::SeqCst) {
                    reader.wait(SLEEP_MAX)?;
                    reader.drain(|partition, record| {
                        let tally = &mut lock(&counting);
                        match letters.get(&*partition.topic) {
                            Some(whose) => count_letter(tally, &serdes, whose, &record),
                            None => count(tally, &serdes, &*clock, partition, &record),
                        }
                    })?;
                }
                Ok(())
            })
            .map_err(|error| Error::fatal("cannot start the reader").with_source(error))?;
        Ok(Self { tally, stop, wake, thread: Some(thread) })
    }

    /// What was counted so far.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Whether the reader has failed; [`stop`](Self::stop) then says why.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// What the reading had failed with.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        (self.wake)();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let outcome = thread.join().unwrap_or_else(|_| Err(Error::fatal("it panicked")));
        outcome.map_err(|error| error.context("the reader of the local mode"))
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(
    tally: &mut Tally,
    serdes: &Serdes,
    clock: &dyn Clock,
    partition: &TopicPartition,
    record: &RawRecord,
) -> Result<()> {
    let topic = &*partition.topic;
    match topic {
        RequestEvent::TOPIC => {
            let event = read(&serdes.requests, topic, record)?;
            tally.request((partition.partition, record.offset), event);
        }
        WorkflowEvent::TOPIC => {
            let event = read(&serdes.workflow, topic, record)?;
            count_own(tally, event.as_ref().and_then(TopicEvent::envelope));
            tally.workflow(event, clock.now());
        }
        MANAGERS => {
            let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            let Some(id) = key.and_then(|key| key.parse().ok()) else { return Ok(()) };
            match record.value {
                None => tally.manager(id, None),
                // One that nobody can read changes nothing, and comes back as a dead letter.
                Some(_) => {
                    if let Some(manager) = read(&serdes.managers, topic, record)? {
                        tally.manager(id, Some(manager));
                    }
                }
            }
        }
        _ => count_other(tally, serdes, topic, record)?,
    }
    Ok(())
}

/// Counts what topologies publish on other topics than manager-assignment's.
fn count_other(tally: &mut Tally, serdes: &Serdes, topic: &str, record: &RawRecord) -> Result<()> {
    fn of<E: TopicEvent>(event: &Option<E>) -> Option<&Envelope> {
        event.as_ref().and_then(TopicEvent::envelope)
    }
    match topic {
        SecurityEvent::TOPIC => count_own(tally, of(&read(&serdes.security, topic, record)?)),
        HrEvent::TOPIC => count_own(tally, of(&read(&serdes.hr, topic, record)?)),
        NotificationEvent::TOPIC => {
            count_own(tally, of(&read(&serdes.notifications, topic, record)?));
        }
        AuditEvent::TOPIC => count_own(tally, of(&read(&serdes.audit, topic, record)?)),
        NotificationCommand::TOPIC => {
            let command = read(&serdes.notification_commands, topic, record)?;
            count_own(tally, command.as_ref().map(NotificationCommand::envelope));
        }
        _ => {}
    }
    Ok(())
}

/// Counts an event whose source is a topology.
fn count_own(tally: &mut Tally, envelope: Option<&Envelope>) {
    let Some(envelope) = envelope else { return };
    if CATALOG.iter().any(|spec| spec.name == envelope.source) {
        let what = envelope.event_type.rsplit('.').next().unwrap_or_default();
        tally.published(&envelope.source, what);
    }
}

/// Counts a dead letter; those of manager-assignment account for requests.
fn count_letter(tally: &mut Tally, serdes: &Serdes, whose: &str, record: &RawRecord) -> Result<()> {
    if whose != manager_assignment::NAME {
        tally.published(whose, "dead_letters");
        return Ok(());
    }
    let headers = ErrorHeaders::read(&record.headers);
    let number = |name| headers.get(name).and_then(|text| text.parse::<i64>().ok());
    let source = (headers.get("topic"), number("partition"), number("offset"));
    match source {
        (Some(RequestEvent::TOPIC), Some(source), Some(offset)) => {
            let source = i32::try_from(source).unwrap_or(-1);
            let event = read(&serdes.requests, RequestEvent::TOPIC, record)?;
            tally.request_letter((source, offset), event);
        }
        _ => tally.other_letter(),
    }
    Ok(())
}

/// The event of a record; `None` where nobody can read it. The registry's outage is another matter.
fn read<T: 'static>(serde: &Serde<T>, topic: &str, record: &RawRecord) -> Result<Option<T>> {
    let value = record.value.as_ref();
    match serde.deserializer().deserialize(topic, &record.headers, value) {
        Ok(event) => Ok(Some(event)),
        Err(error) if error.kind() == ErrorKind::BadRecord => Ok(None),
        Err(error) => Err(error),
    }
}
