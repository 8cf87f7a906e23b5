//! Writes a difference to its topic: all of it, or nothing.

use std::time::Duration;

use kstreams::kafka::{KafkaClients, OutgoingRecord, Producer};
use kstreams::serdes::{Encoded, Serde};
use kstreams::{Error, Headers, Result, Timestamp};

use super::difference::{Change, Difference};
use super::entries::Entry;

/// Writes every change in one transaction, removals as tombstones.
///
/// `transactional_id` is the import's own, so that an import that was cut off leaves nothing open.
///
/// # Errors
/// Those of the cluster and the registry; then nothing was written.
pub fn write<T: Entry>(
    clients: &dyn KafkaClients,
    serde: &Serde<T>,
    difference: &Difference<T>,
    transactional_id: &str,
    (now, timeout): (Timestamp, Duration),
) -> Result<()> {
    let mut producer = clients.producer(Some(transactional_id))?;
    producer.init_transactions(timeout)?;
    producer.begin_transaction()?;
    let sent = send_all(&mut *producer, serde, difference, now);
    match sent.and_then(|()| producer.commit_transaction(timeout)) {
        Ok(()) => Ok(()),
        Err(error) => {
            if let Err(worse) = producer.abort_transaction(timeout) {
                // The transaction ends by its time-out then.
                tracing::warn!(error = ?worse, "the import's transaction could not be aborted");
            }
            Err(error.context(format!("writing to topic \"{}\"; nothing was written", T::TOPIC)))
        }
    }
}

fn send_all<T: Entry>(
    producer: &mut dyn Producer,
    serde: &Serde<T>,
    difference: &Difference<T>,
    timestamp: Timestamp,
) -> Result<()> {
    let topic = producer.topic(T::TOPIC)?;
    let mut bytes = Vec::new();
    for (key, change) in &difference.changes {
        let value = match change {
            Change::Remove => None,
            Change::Add(entry) | Change::Change(_, entry) => {
                bytes.clear();
                match serde.serializer().serialize(T::TOPIC, entry, &mut bytes)? {
                    Encoded::Bytes => Some(bytes.as_slice()),
                    Encoded::Null => {
                        return Err(Error::fatal(format!("{} \"{key}\" became null", T::NAME)));
                    }
                }
            }
        };
        producer.send(OutgoingRecord {
            topic,
            partition: None,
            timestamp,
            key: Some(key.as_bytes()),
            value,
            headers: &Headers::default(),
        })?;
    }
    producer.poll()
}
