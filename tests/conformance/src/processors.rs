//! The two processors of the format, on a plain key-value store.

use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::{
    Error, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result, StoreHandle,
    Timestamp,
};
use serde_json::Value as Json;

use crate::build::{BuildError, invalid};
use crate::value::Value;

type Handle = Option<StoreHandle<KeyValueStore<Value, Value>>>;

/// Counts records per key, and forwards all counts at each punctuation.
#[derive(Clone)]
pub(crate) struct CountAndPunctuate {
    store: String,
    kind: PunctuationType,
    interval: Duration,
    clear: bool,
    handle: Handle,
}

impl CountAndPunctuate {
    /// Reads the processor's parameters.
    pub(crate) fn parse(operation: &Json, store: &str) -> std::result::Result<Self, BuildError> {
        let kind = match operation["punctuate"].as_str() {
            Some("stream_time") => PunctuationType::StreamTime,
            Some("wall_clock") => PunctuationType::WallClockTime,
            _ => return Err(invalid(format!("found punctuate {}", operation["punctuate"]))),
        };
        let interval = operation["interval"].as_u64();
        let interval = interval.ok_or_else(|| invalid("count_and_punctuate has no interval"))?;
        Ok(Self {
            store: store.to_owned(),
            kind,
            interval: Duration::from_millis(interval),
            clear: operation["clear"].as_bool().unwrap_or(false),
            handle: None,
        })
    }
}

impl Processor<Value, Value, Value, Value> for CountAndPunctuate {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, Value, Value>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        if self.interval.is_zero() {
            // The engine takes a millisecond.
            return Err(Error::invalid("Kafka Streams schedules every millisecond at most"));
        }
        context.schedule(self.interval, self.kind);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Value, Value>,
        context: &mut ProcessorContext<'_, '_, Value, Value>,
    ) -> Result<()> {
        let store = context.store(self.handle.expect("init looked the store up"));
        let count = match store.get(&record.key)? {
            Some(Value::Integer(count)) => count,
            _ => 0,
        };
        store.put(&record.key, &Value::Integer(count + 1))
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        timestamp: Timestamp,
        context: &mut ProcessorContext<'_, '_, Value, Value>,
    ) -> Result<()> {
        let handle = self.handle.expect("init looked the store up");
        let counts: Vec<_> = context.store(handle).all()?.collect::<Result<_>>()?;
        for (key, count) in counts {
            context.forward(Record::new(key.clone(), count, timestamp))?;
            if self.clear {
                context.store(handle).delete(&key)?;
            }
        }
        Ok(())
    }
}

/// Forwards a record only if its value differs from the key's last.
pub(crate) struct Dedup {
    store: String,
    handle: Handle,
}

impl Dedup {
    /// Keeps the last values in `store`.
    pub(crate) fn new(store: &str) -> Self {
        Self { store: store.to_owned(), handle: None }
    }
}

impl Processor<Value, Value, Value, Value> for Dedup {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, Value, Value>) -> Result<()> {
        self.handle = Some(context.state_store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<Value, Value>,
        context: &mut ProcessorContext<'_, '_, Value, Value>,
    ) -> Result<()> {
        let store = context.store(self.handle.expect("init looked the store up"));
        if store.get(&record.key)?.unwrap_or(Value::Null) == record.value {
            return Ok(());
        }
        store.put(&record.key, &record.value)?;
        context.forward(record)
    }
}
