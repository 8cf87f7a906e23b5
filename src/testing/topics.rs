//! Typed ends of the driver: what a test pipes in and reads out.

use std::cell::RefCell;
use std::rc::Rc;

use super::driver::Inner;
use crate::error::{Error, Result};
use crate::record::{Headers, Record};
use crate::serdes::{Encoded, Serde, Serializer};
use crate::time::Timestamp;

/// A record as tests see it.
pub type TestRecord<K, V> = Record<K, V>;

/// Pipes typed records into a topic. Source: `TestInputTopic`.
pub struct TestInputTopic<K, V> {
    pub(super) driver: Rc<RefCell<Inner>>,
    pub(super) topic: String,
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V>,
}

impl<K, V> TestInputTopic<K, V> {
    /// Pipes a record with the driver's wall-clock time as its timestamp.
    pub fn pipe(&self, key: K, value: V) -> Result<()> {
        let now = self.driver.borrow().now();
        self.pipe_at(key, value, now)
    }

    /// Pipes a record with a timestamp.
    pub fn pipe_at(&self, key: K, value: V, timestamp: Timestamp) -> Result<()> {
        self.pipe_record(Record::new(key, value, timestamp))
    }

    /// Pipes a record.
    ///
    /// # Errors
    /// `Invalid` for a negative timestamp, which no producer sends.
    pub fn pipe_record(&self, record: TestRecord<K, V>) -> Result<()> {
        if record.timestamp < Timestamp::from_millis(0) {
            return Err(Error::invalid(format!(
                "piping a record into \"{}\": found timestamp {}, wanted one that is not negative",
                self.topic,
                record.timestamp.as_millis()
            )));
        }
        let key = encode(self.key_serde.serializer(), &self.topic, &record.key)?;
        let value = encode(self.value_serde.serializer(), &self.topic, &record.value)?;
        let mut driver = self.driver.borrow_mut();
        driver.pipe(&self.topic, key, value, record.timestamp, record.headers)
    }
}

fn encode<T>(serializer: &dyn Serializer<T>, topic: &str, value: &T) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    Ok(match serializer.serialize(topic, value, &mut bytes)? {
        Encoded::Bytes => Some(bytes),
        Encoded::Null => None,
    })
}

/// Reads what was written to a topic, in order. Source: `TestOutputTopic`.
pub struct TestOutputTopic<K, V> {
    pub(super) driver: Rc<RefCell<Inner>>,
    pub(super) topic: String,
    pub(super) key_serde: Serde<K>,
    pub(super) value_serde: Serde<V>,
}

impl<K, V> TestOutputTopic<K, V> {
    /// The next record, `None` when there is none.
    pub fn read_record(&self) -> Result<Option<TestRecord<K, V>>> {
        let Some(raw) = self.driver.borrow_mut().read(&self.topic) else { return Ok(None) };
        let headers: Headers = raw.headers;
        let key = self.key_serde.deserializer();
        let key = key.deserialize(&self.topic, &headers, raw.key.as_ref())?;
        let value = self.value_serde.deserializer();
        let value = value.deserialize(&self.topic, &headers, raw.value.as_ref())?;
        Ok(Some(Record { key, value, timestamp: raw.timestamp, headers }))
    }

    /// All records that have not been read yet.
    pub fn read_records(&self) -> Result<Vec<TestRecord<K, V>>> {
        std::iter::from_fn(|| self.read_record().transpose()).collect()
    }

    /// Keys and values of all records that have not been read yet.
    pub fn read_key_values(&self) -> Result<Vec<(K, V)>> {
        let records = self.read_records()?;
        Ok(records.into_iter().map(|record| (record.key, record.value)).collect())
    }
}
