//! Code around every processor of a topology: what measures, traces, or makes errors for a test (KIP-1112).
//!
//! Hot only where a wrapper is given; without one nothing here is called. Deliberately absent: the types of the wrapped processor, since one
//! wrapper stands around processors of all types.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::context::StoreHandle;
use super::frame::{Frame, NodeIndex};
use super::node::Node;
use super::punctuator::PunctuatorId;
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::record::{Headers, Record};
use crate::store::{StateStore, StoreBuilder};
use crate::time::Timestamp;

/// Decides what stands around each processor of a topology, those of the DSL and one's own alike. Source: `ProcessorWrapper`,
/// `processor.wrapper.class`; processors that feed global and read-only stores are not wrapped, as in Java.
///
/// Deviation: Java's wrapper gets the supplier, with its types, and may replace it by any other. Here it stands around the calls: it may act before and
/// after, change timestamp and headers, leave a call out, turn it into an error, and bring stores; it cannot forward records, or change keys
/// and values. Fixed-key processors are wrapped by the same call.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use kstreams::processor::{Invocation, ProcessorWrapper, WrappedProcessor, WrappedProcessorSupplier};
/// use kstreams::testing::TopologyTestDriver;
/// use kstreams::{Error, Result, StreamsBuilder};
///
/// /// Fails every second record of the processors called so.
/// struct FailEverySecond(&'static str);
///
/// struct Failing(u64);
///
/// impl ProcessorWrapper for FailEverySecond {
///     fn wrap(&self, processor: &str) -> Option<Arc<dyn WrappedProcessorSupplier>> {
///         (processor == self.0).then(|| Arc::new(|| Failing(0)) as Arc<_>)
///     }
/// }
///
/// impl WrappedProcessor for Failing {
///     fn process(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
///         self.0 += 1;
///         if self.0 % 2 == 0 {
///             return Err(Error::bad_record("injected"));
///         }
///         call.proceed()
///     }
/// }
///
/// let builder = StreamsBuilder::with_processor_wrapper(FailEverySecond("KSTREAM-MAPVALUES-0000000001"));
/// builder.stream::<String, i64>("in").map_values(|_, number| number * 10).to("out");
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// for number in 1..=4 {
///     driver.input_topic::<String, i64>("in").pipe("k".into(), number)?;
/// }
/// let out = driver.output_topic::<String, i64>("out").read_key_values()?;
/// assert_eq!(out, [("k".to_owned(), 10), ("k".to_owned(), 30)]);
/// # Ok::<(), Error>(())
/// ```
pub trait ProcessorWrapper: Send + Sync + 'static {
    /// What stands around the processor of this name; `None` leaves it as it is. Called when the processor is added to the topology.
    fn wrap(&self, processor: &str) -> Option<Arc<dyn WrappedProcessorSupplier>>;
}

/// Makes what stands around a processor, for each task. Source: `WrappedProcessorSupplier`, `WrappedFixedKeyProcessorSupplier`.
pub trait WrappedProcessorSupplier: Send + Sync + 'static {
    /// A new instance.
    fn get(&self) -> Box<dyn WrappedProcessor>;
    /// Stores that are added with the processor and connected to it, beside its own. Several processors may bring the same builder, and so share the
    /// store: then they belong to one subtopology.
    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        Vec::new()
    }
}

impl<P: WrappedProcessor, F: Fn() -> P + Send + Sync + 'static> WrappedProcessorSupplier for F {
    fn get(&self) -> Box<dyn WrappedProcessor> {
        Box::new(self())
    }
}

/// Stands around one processor of one task. What a call does belongs to the record in hand: an error undoes it, and goes to the handler of bad
/// records.
pub trait WrappedProcessor: Send + 'static {
    /// Around the processor's `init`: look up stores here.
    fn init(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        call.proceed()
    }

    /// Around the processing of one record, which includes everything below that it is forwarded to.
    fn process(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        call.proceed()
    }

    /// Around a punctuation.
    fn punctuate(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        call.proceed()
    }

    /// Called before the processor's `close`.
    fn close(&mut self) {}
}

/// One call of a wrapped processor.
pub struct Invocation<'c, 'a> {
    frame: &'c mut Frame<'a>,
    index: NodeIndex,
    inner: &'c mut dyn Node,
    call: Call<'c>,
}

enum Call<'c> {
    Init,
    Process(&'c mut dyn AnyRecord),
    Punctuate(PunctuatorId, Timestamp),
    Done,
}

impl Invocation<'_, '_> {
    /// Calls the wrapped processor; a second time does nothing. A call that is never made is left out: its record ends here.
    ///
    /// # Errors
    /// What the processor, or one below, returns; give it back, or the record's effects up to there remain.
    pub fn proceed(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.call, Call::Done) {
            Call::Init => self.inner.init(self.frame, self.index),
            Call::Process(record) => self.inner.process(record.as_any(), self.frame, self.index),
            Call::Punctuate(punctuator, timestamp) => {
                self.inner.punctuate(punctuator, timestamp, self.frame, self.index)
            }
            Call::Done => Ok(()),
        }
    }

    /// The processor's name.
    pub fn processor(&self) -> &Arc<str> {
        &self.frame.nodes[self.index.0].name
    }

    /// The task it belongs to.
    pub fn task_id(&self) -> TaskId {
        self.frame.task.task_id
    }

    /// Wall-clock time.
    pub fn current_system_time(&self) -> Timestamp {
        self.frame.task.clock.now()
    }

    /// The key, where there is a record that has not gone on yet, and its key is a `K`.
    pub fn key<K: 'static>(&self) -> Option<&K> {
        self.record()?.key()?.downcast_ref()
    }

    /// The value, where there is a record that has not gone on yet, and its value is a `V`.
    pub fn value<V: 'static>(&self) -> Option<&V> {
        self.record()?.value()?.downcast_ref()
    }

    /// The record's timestamp, or the punctuation's time; `None` otherwise, and after [`proceed`](Self::proceed).
    pub fn timestamp(&mut self) -> Option<Timestamp> {
        match &mut self.call {
            Call::Process(record) => record.envelope().map(|(timestamp, _)| *timestamp),
            Call::Punctuate(_, timestamp) => Some(*timestamp),
            Call::Init | Call::Done => None,
        }
    }

    /// Timestamp and headers of the record, to be changed before it goes on; `None` where there is no record, or no more.
    pub fn envelope(&mut self) -> Option<(&mut Timestamp, &mut Headers)> {
        match &mut self.call {
            Call::Process(record) => record.envelope(),
            Call::Init | Call::Punctuate(..) | Call::Done => None,
        }
    }

    /// The handle of a store that is connected to the processor.
    ///
    /// # Errors
    /// `Invalid` where the store is not connected or is of another type.
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Result<StoreHandle<S>> {
        self.frame.store_handle(self.index, name)
    }

    /// The store behind a handle. What is written belongs to the record in hand.
    pub fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        self.frame.store(handle)
    }

    fn record(&self) -> Option<&dyn AnyRecord> {
        match &self.call {
            Call::Process(record) => Some(&**record),
            Call::Init | Call::Punctuate(..) | Call::Done => None,
        }
    }
}

/// A record that may have been taken, of types that its reader does not know.
trait AnyRecord {
    fn key(&self) -> Option<&dyn Any>;
    fn value(&self) -> Option<&dyn Any>;
    fn envelope(&mut self) -> Option<(&mut Timestamp, &mut Headers)>;
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<K: 'static, V: 'static> AnyRecord for Option<Record<K, V>> {
    fn key(&self) -> Option<&dyn Any> {
        self.as_ref().map(|record| &record.key as &dyn Any)
    }

    fn value(&self) -> Option<&dyn Any> {
        self.as_ref().map(|record| &record.value as &dyn Any)
    }

    fn envelope(&mut self) -> Option<(&mut Timestamp, &mut Headers)> {
        self.as_mut().map(|record| (&mut record.timestamp, &mut record.headers))
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// A processor node with something around it.
pub(crate) struct WrappedNode<N, K, V> {
    inner: N,
    around: Box<dyn WrappedProcessor>,
    input: PhantomData<fn(K, V)>,
}

impl<N, K, V> WrappedNode<N, K, V> {
    pub(crate) fn new(inner: N, around: Box<dyn WrappedProcessor>) -> Self {
        Self { inner, around, input: PhantomData }
    }
}

impl<N: Node, K: 'static, V: 'static> Node for WrappedNode<N, K, V> {
    fn init(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        let inner = &mut self.inner;
        self.around.init(&mut Invocation { frame, index, inner, call: Call::Init })
    }

    fn process(
        &mut self,
        record: &mut dyn Any,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()> {
        let Some(record) = record.downcast_mut::<Option<Record<K, V>>>() else {
            return Err(Error::fatal("the topology checked the type of this node's records"));
        };
        let inner = &mut self.inner;
        self.around.process(&mut Invocation { frame, index, inner, call: Call::Process(record) })
    }

    fn punctuate(
        &mut self,
        punctuator: PunctuatorId,
        timestamp: Timestamp,
        frame: &mut Frame<'_>,
        index: NodeIndex,
    ) -> Result<()> {
        let (inner, call) = (&mut self.inner, Call::Punctuate(punctuator, timestamp));
        self.around.punctuate(&mut Invocation { frame, index, inner, call })
    }

    fn committed(&mut self) {
        self.inner.committed();
    }

    fn suspend(&mut self, frame: &mut Frame<'_>, index: NodeIndex) -> Result<()> {
        self.inner.suspend(frame, index)
    }

    fn close(&mut self) {
        self.around.close();
        self.inner.close();
    }
}
