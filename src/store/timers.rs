//! Durable timers by key, kept in a key-value store: they survive crashes and belong to the record's transaction.
//!
//! A processor schedules them and takes those that are due in its punctuation. The store's keys are the time (8 bytes big-endian,
//! the sign bit flipped, so that bytes sort as times do) and the key.

use bytes::{Buf, Bytes};

use super::KeyValueStore;
use crate::error::{Error, Result};
use crate::record::Headers;
use crate::serdes::{Deserializer, Encoded, Serde, Serializer};
use crate::time::Timestamp;

const SIGN: u64 = 1 << 63;

/// When something is due, and for which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer<K> {
    /// When.
    pub at: Timestamp,
    /// For which key.
    pub key: K,
}

/// A store of timers, each with a payload; made by
/// [`Stores::timer_store`](crate::topology::Stores::timer_store). Kafka Streams has none.
pub type TimerStore<K, V> = KeyValueStore<Timer<K>, V>;

struct TimerSerde<K>(Serde<K>);

/// The serde of timers whose keys have this one.
pub(crate) fn timer_serde<K: 'static>(keys: Serde<K>) -> Serde<Timer<K>> {
    Serde::from_both(TimerSerde(keys))
}

impl<K> Serializer<Timer<K>> for TimerSerde<K> {
    fn serialize(&self, topic: &str, timer: &Timer<K>, out: &mut Vec<u8>) -> Result<Encoded> {
        let sortable = timer.at.as_millis().cast_unsigned() ^ SIGN;
        out.extend_from_slice(&sortable.to_be_bytes());
        // A null key is written as no bytes: one timer for all.
        let _ = self.0.serializer().serialize(topic, &timer.key, out)?;
        Ok(Encoded::Bytes)
    }
}

impl<K> Deserializer<Timer<K>> for TimerSerde<K> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Timer<K>> {
        let wrong = || Error::bad_record(format!("found {data:?}, wanted a timer"));
        let mut rest = data.cloned().ok_or_else(wrong)?;
        let at = (rest.try_get_u64().map_err(|_| wrong())? ^ SIGN).cast_signed();
        let key = self.0.deserializer().deserialize(topic, headers, Some(&rest))?;
        Ok(Timer { at: Timestamp::from_millis(at), key })
    }
}

impl<K: Clone + 'static, V: 'static> TimerStore<K, V> {
    /// Sets the timer of `key` at a time; one that is there for both gets the new payload. A key may have any number of timers.
    ///
    /// # Errors
    /// What the serdes return.
    pub fn schedule(&mut self, key: &K, at: Timestamp, payload: &V) -> Result<()> {
        self.put(&Timer { at, key: key.clone() }, payload)
    }

    /// Removes the timer of `key` at a time; returns its payload where there was one.
    ///
    /// # Errors
    /// What the serdes return; `TaskCorrupted` for a damaged engine, `Fatal` where it cannot be read.
    pub fn cancel(&mut self, key: &K, at: Timestamp) -> Result<Option<V>> {
        self.delete(&Timer { at, key: key.clone() })
    }

    /// Takes the timers that are due at `now`, itself included, `limit` at most; earliest first, and by the bytes of their keys.
    /// Call it in [`Processor::punctuate`](crate::Processor::punctuate): if that fails, they come again.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn take_due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<(Timer<K>, V)>> {
        let mut due = Vec::new();
        for entry in self.all()?.take(limit) {
            let (timer, payload) = entry?;
            if timer.at > now {
                break;
            }
            due.push((timer, payload));
        }
        for (timer, _) in &due {
            self.delete(timer)?;
        }
        Ok(due)
    }
}
