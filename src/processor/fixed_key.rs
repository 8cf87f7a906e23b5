//! Processors that cannot change the key, so that what follows needs no repartitioning.

use std::sync::Arc;
use std::time::Duration;

use super::Processor;
use super::context::{ChildHandle, ProcessorContext, StoreHandle};
use super::punctuator::{PunctuationType, PunctuatorId};
use crate::error::Result;
use crate::ids::TaskId;
use crate::record::{Headers, Record, RecordMetadata};
use crate::store::{StateStore, StoreBuilder};
use crate::time::Timestamp;

/// A record whose key is fixed: made by the engine only, and passed on with another value, timestamp or headers.
///
/// Source: `FixedKeyRecord`.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedKeyRecord<K, V> {
    key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp: Timestamp,
    /// Headers, shared between copies.
    pub headers: Headers,
}

impl<K, V> FixedKeyRecord<K, V> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> FixedKeyRecord<K, V2> {
        let Self { key, timestamp, headers, .. } = self;
        FixedKeyRecord { key, value, timestamp, headers }
    }

    /// The same record with another timestamp.
    pub fn with_timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp, ..self }
    }

    fn into_record(self) -> Record<K, V> {
        let Self { key, value, timestamp, headers } = self;
        Record { key, value, timestamp, headers }
    }
}

/// Processes records without changing their keys. Source: `FixedKeyProcessor`.
///
/// ```
/// use kstreams::{FixedKeyProcessor, FixedKeyProcessorContext, FixedKeyRecord, Result, StreamsBuilder};
///
/// struct Length;
///
/// impl FixedKeyProcessor<String, String, i64> for Length {
///     fn process(
///         &mut self,
///         record: FixedKeyRecord<String, String>,
///         context: &mut FixedKeyProcessorContext<'_, '_, '_, String, i64>,
///     ) -> Result<()> {
///         let length = i64::try_from(record.value.len()).unwrap_or(i64::MAX);
///         context.forward(record.with_value(length))
///     }
/// }
///
/// let builder = StreamsBuilder::new();
/// builder.stream::<String, String>("words").process_values(|| Length, &[]).to("lengths");
/// assert!(builder.build().unwrap().describe().contains("KSTREAM-PROCESSVALUES-0000000001"));
/// ```
pub trait FixedKeyProcessor<K, VIn, VOut>: Send + 'static {
    /// Called once, before the first record: look up stores, schedule punctuations.
    fn init(&mut self, context: &mut FixedKeyProcessorContext<'_, '_, '_, K, VOut>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one record.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn process(
        &mut self,
        record: FixedKeyRecord<K, VIn>,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, K, VOut>,
    ) -> Result<()>;

    /// Called when a punctuation is due. Only records that were kept can be forwarded here, since no other can be made.
    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, K, VOut>,
    ) -> Result<()> {
        let _ = (punctuator, timestamp, context);
        Ok(())
    }

    /// As [`Processor::committed`].
    fn committed(&mut self) {}

    /// As [`Processor::suspend`]; only records that were kept can be forwarded.
    ///
    /// # Errors
    /// As [`Processor::suspend`].
    fn suspend(
        &mut self,
        context: &mut FixedKeyProcessorContext<'_, '_, '_, K, VOut>,
    ) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called once, when the task is closed; nothing can be forwarded any more.
    fn close(&mut self) {}
}

/// Makes a fixed-key processor for each task. Source: `FixedKeyProcessorSupplier`.
pub trait FixedKeyProcessorSupplier<K, VIn, VOut>: Send + Sync + 'static {
    /// The processor's type.
    type Processor: FixedKeyProcessor<K, VIn, VOut>;
    /// A new instance.
    fn get(&self) -> Self::Processor;
    /// Stores that are added with the processor and connected to it. Source: `ConnectedStoreProvider`.
    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        Vec::new()
    }
}

impl<K, VIn, VOut, P, F> FixedKeyProcessorSupplier<K, VIn, VOut> for F
where
    P: FixedKeyProcessor<K, VIn, VOut>,
    F: Fn() -> P + Send + Sync + 'static,
{
    type Processor = P;

    fn get(&self) -> P {
        self()
    }
}

/// The access of a fixed-key processor to its task. Source: `FixedKeyProcessorContext`.
pub struct FixedKeyProcessorContext<'c, 'f, 'a, K, V>(&'c mut ProcessorContext<'f, 'a, K, V>);

impl<K, V> FixedKeyProcessorContext<'_, '_, '_, K, V> {
    /// As [`ProcessorContext::state_store`].
    ///
    /// # Errors
    /// `Invalid` where the store is not connected or is of another type.
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Result<StoreHandle<S>> {
        self.0.state_store(name)
    }

    /// The store behind a handle. What is written belongs to the record in hand.
    pub fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        self.0.store(handle)
    }

    /// As [`ProcessorContext::schedule`].
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> PunctuatorId {
        self.0.schedule(interval, kind)
    }

    /// As [`ProcessorContext::schedule_from`].
    pub fn schedule_from(
        &mut self,
        start: Timestamp,
        interval: Duration,
        kind: PunctuationType,
    ) -> PunctuatorId {
        self.0.schedule_from(start, interval, kind)
    }

    /// As [`ProcessorContext::schedule_by`].
    pub fn schedule_by(
        &mut self,
        rule: impl FnMut(Timestamp) -> Option<Timestamp> + Send + 'static,
        kind: PunctuationType,
    ) -> PunctuatorId {
        self.0.schedule_by(rule, kind)
    }

    /// Ends a schedule.
    pub fn cancel(&mut self, punctuator: PunctuatorId) {
        self.0.cancel(punctuator);
    }

    /// The task this processor belongs to.
    pub fn task_id(&self) -> TaskId {
        self.0.task_id()
    }

    /// The application's id.
    pub fn application_id(&self) -> &Arc<str> {
        self.0.application_id()
    }

    /// Where the record in hand came from; `None` in a punctuation.
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        self.0.record_metadata()
    }

    /// The headers of the record in hand.
    pub fn headers(&self) -> &Headers {
        self.0.headers()
    }

    /// The highest timestamp that the task has seen; `None` before the first record.
    pub fn current_stream_time(&self) -> Option<Timestamp> {
        self.0.current_stream_time()
    }

    /// Wall-clock time.
    pub fn current_system_time(&self) -> Timestamp {
        self.0.current_system_time()
    }

    /// Asks for a commit soon, rather than at the end of the commit interval.
    pub fn commit(&mut self) {
        self.0.commit();
    }

    /// The handle of a child node by name, for [`forward_to`](Self::forward_to).
    ///
    /// # Errors
    /// `Invalid` where no child has this name.
    pub fn child(&self, name: &str) -> Result<ChildHandle> {
        self.0.child(name)
    }
}

impl<K: Clone + 'static, V: Clone + 'static> FixedKeyProcessorContext<'_, '_, '_, K, V> {
    /// Gives `record` to every child node; returns when all of them, and all below, are done with it.
    pub fn forward(&mut self, record: FixedKeyRecord<K, V>) -> Result<()> {
        self.0.forward(record.into_record())
    }

    /// Gives `record` to one child node.
    pub fn forward_to(&mut self, child: ChildHandle, record: FixedKeyRecord<K, V>) -> Result<()> {
        self.0.forward_to(child, record.into_record())
    }
}

/// Runs a [`FixedKeyProcessor`] as a [`Processor`].
pub(crate) struct FixedKey<P>(pub(crate) P);

impl<K, VIn, VOut, P: FixedKeyProcessor<K, VIn, VOut>> Processor<K, VIn, K, VOut> for FixedKey<P> {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, VOut>) -> Result<()> {
        self.0.init(&mut FixedKeyProcessorContext(context))
    }

    fn process(
        &mut self,
        record: Record<K, VIn>,
        context: &mut ProcessorContext<'_, '_, K, VOut>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let record = FixedKeyRecord { key, value, timestamp, headers };
        self.0.process(record, &mut FixedKeyProcessorContext(context))
    }

    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        context: &mut ProcessorContext<'_, '_, K, VOut>,
    ) -> Result<()> {
        self.0.punctuate(punctuator, timestamp, &mut FixedKeyProcessorContext(context))
    }

    fn committed(&mut self) {
        self.0.committed();
    }

    fn suspend(&mut self, context: &mut ProcessorContext<'_, '_, K, VOut>) -> Result<()> {
        self.0.suspend(&mut FixedKeyProcessorContext(context))
    }

    fn close(&mut self) {
        self.0.close();
    }
}
