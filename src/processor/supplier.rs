//! Makers of processors, with the stores they bring along.

use std::sync::Arc;

use super::Processor;
use crate::store::StoreBuilder;

/// Makes a processor for each task. Source: `ProcessorSupplier`.
pub trait ProcessorSupplier<KIn, VIn, KOut, VOut>: Send + Sync + 'static {
    /// The processor's type.
    type Processor: Processor<KIn, VIn, KOut, VOut>;
    /// A new instance.
    fn get(&self) -> Self::Processor;
    /// Stores that are added with the processor and connected to it. Several suppliers may bring the same builder, and so share the store.
    ///
    /// Source: `ConnectedStoreProvider`.
    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        Vec::new()
    }
}

impl<KIn, VIn, KOut, VOut, P, F> ProcessorSupplier<KIn, VIn, KOut, VOut> for F
where
    P: Processor<KIn, VIn, KOut, VOut>,
    F: Fn() -> P + Send + Sync + 'static,
{
    type Processor = P;

    fn get(&self) -> P {
        self()
    }
}

/// A supplier together with the stores that its processors use. Source: `ConnectedStoreProvider`.
///
/// ```
/// use std::sync::Arc;
/// use kstreams::processor::WithStores;
/// use kstreams::store::{KeyValueStore, StoreBuilder};
/// use kstreams::{Processor, ProcessorContext, Record, Result, Stores, StreamsBuilder};
///
/// struct Last;
///
/// impl Processor<String, i64, String, i64> for Last {
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut ProcessorContext<'_, '_, String, i64>,
///     ) -> Result<()> {
///         let handle = context.state_store::<KeyValueStore<String, i64>>("last")?;
///         context.store(handle).put(&record.key, &record.value)
///     }
/// }
///
/// let last: Arc<dyn StoreBuilder> = Arc::new(Stores::key_value_store::<String, i64>("last"));
/// let builder = StreamsBuilder::new();
/// builder
///     .stream::<String, i64>("amounts")
///     .process::<String, i64, _>(WithStores::new(|| Last, [last]), &[]);
/// assert!(builder.build().unwrap().describe().contains("(stores: [last])"));
/// ```
pub struct WithStores<S> {
    supplier: S,
    stores: Vec<Arc<dyn StoreBuilder>>,
}

impl<S> WithStores<S> {
    /// Has `stores` added with the processors of `supplier`.
    pub fn new(supplier: S, stores: impl IntoIterator<Item = Arc<dyn StoreBuilder>>) -> Self {
        Self { supplier, stores: stores.into_iter().collect() }
    }
}

impl<KIn, VIn, KOut, VOut, S> ProcessorSupplier<KIn, VIn, KOut, VOut> for WithStores<S>
where
    S: ProcessorSupplier<KIn, VIn, KOut, VOut>,
{
    type Processor = S::Processor;

    fn get(&self) -> S::Processor {
        self.supplier.get()
    }

    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        self.supplier.stores().into_iter().chain(self.stores.iter().cloned()).collect()
    }
}
