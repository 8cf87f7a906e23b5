//! Notifications in the local mode: the stand-ins for the providers, and a desk that keeps everybody's contacts.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kstreams::kafka::{KafkaClients, OutgoingRecord, StartOffset};
use kstreams::serdes::Encoded;
use kstreams::{Error, Headers, Result};

use crate::events::{Contact, RequestEvent, Serdes, TopicEvent, WorkflowEvent};
use crate::recipients;
use crate::simulate::TopicsReader;

use super::standins::StandIns;

/// Between two looks at new requests.
const LOOK: Duration = Duration::from_millis(50);
/// People whose contacts are remembered as written; then they are written again.
const PEOPLE_MAX: usize = 200_000;

/// See the module; stops when dropped.
pub(super) struct Messages {
    stop: Arc<AtomicBool>,
    desk: Option<JoinHandle<Result<()>>>,
    stand_ins: StandIns,
}

impl Messages {
    /// Begins to keep contacts; `stand_ins` are those that the settings name.
    ///
    /// # Errors
    /// `Fatal` where the system gives no thread.
    pub(super) fn start(
        stand_ins: StandIns,
        clients: Arc<dyn KafkaClients>,
        serdes: Serdes,
    ) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let stopping = stop.clone();
        let desk = std::thread::Builder::new()
            .name("contacts".to_owned())
            .spawn(move || keep_contacts(&*clients, &serdes, &stopping))
            .map_err(|error| Error::fatal("cannot start a thread").with_source(error))?;
        Ok(Self { stop, desk: Some(desk), stand_ins })
    }

    /// One line about what would have been sent.
    pub(super) fn line(&self) -> String {
        let taken = self.stand_ins.taken();
        let last = taken.messages.back().map_or(String::new(), |message| {
            format!("   last: {} to {}: {}", message.channel, message.to, message.title)
        });
        format!("messages sent {:>9}{last}", taken.count)
    }

    /// # Errors
    /// Why the desk has failed.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.desk.as_ref().is_some_and(JoinHandle::is_finished) {
            true => self.end(),
            false => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let Some(desk) = self.desk.take() else { return Ok(()) };
        let ended = desk.join().unwrap_or_else(|_| Err(Error::fatal("it panicked")));
        ended.map_err(|error| error.context("the desk that keeps contacts"))
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "contacts were not kept to the end");
        }
    }
}

/// Writes the contact of everybody who turns up, as the services of a real site do when people sign up.
fn keep_contacts(clients: &dyn KafkaClients, serdes: &Serdes, stop: &AtomicBool) -> Result<()> {
    let topics = [RequestEvent::TOPIC, WorkflowEvent::TOPIC].map(str::to_owned);
    let mut reader = TopicsReader::new(clients, &topics, StartOffset::Beginning)?;
    let mut producer = clients.producer(None)?;
    let contacts = producer.topic("contacts")?;
    let (mut known, mut buffer) = (HashSet::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        reader.wait(LOOK)?;
        let mut new = Vec::new();
        reader.drain(|partition, record| {
            let (topic, value) = (&*partition.topic, record.value.as_ref());
            // What nobody can read is no business of this desk.
            let person = if topic == RequestEvent::TOPIC {
                match serdes.requests.deserializer().deserialize(topic, &record.headers, value) {
                    Ok(RequestEvent::Created(event)) => Some((true, event.customer_id)),
                    _ => None,
                }
            } else {
                match serdes.workflow.deserializer().deserialize(topic, &record.headers, value) {
                    Ok(WorkflowEvent::ContractorAssigned(event)) => {
                        Some((false, event.contractor_id))
                    }
                    _ => None,
                }
            };
            if let Some(person) = person.filter(|person| known.insert(*person)) {
                new.push((contact(person), record.timestamp));
            }
            Ok(())
        })?;
        for (contact, timestamp) in new {
            buffer.clear();
            let serializer = serdes.contacts.serializer();
            if serializer.serialize("contacts", &contact, &mut buffer)? == Encoded::Bytes {
                producer.send(OutgoingRecord {
                    topic: contacts,
                    partition: None,
                    timestamp,
                    key: Some(contact.recipient.as_bytes()),
                    value: Some(&buffer),
                    headers: &Headers::default(),
                })?;
            }
        }
        producer.poll()?;
        if known.len() > PEOPLE_MAX {
            known.clear();
        }
    }
    Ok(())
}

/// Customers have e-mail, some of them a telephone alone; contractors have Telegram. One in four reads English.
fn contact((is_customer, id): (bool, i64)) -> Contact {
    let recipient = if is_customer { recipients::customer(id) } else { recipients::contractor(id) };
    let has_email = is_customer && id % 5 != 0;
    let locale = if id % 4 == 0 { "en" } else { "ru" };
    Contact {
        email: has_email.then(|| format!("{}@example.org", recipient.replace(':', "-"))),
        telegram_chat_id: (!is_customer).then_some(id),
        phone: Some(format!("+7000{id:07}")),
        locale: locale.to_owned(),
        recipient,
    }
}
