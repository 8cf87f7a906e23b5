//! Processors of the user's own within a stream.

use std::sync::Arc;

use super::params::Named;
use super::plan::Changes;
use super::stream::KStream;
use crate::processor::{FixedKey, FixedKeyProcessorSupplier, ProcessorSupplier};
use crate::store::StoreBuilder;

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Runs a processor of your own, connected to `stores` and to those that its supplier brings; it may change the key, so that a later
    /// key-based operator repartitions.
    pub fn process<K2, V2, S>(&self, supplier: S, stores: &[&str]) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, K2, V2>,
    {
        self.process_named(supplier, &Named::default(), stores)
    }

    /// As [`process`](Self::process), with the node named.
    pub fn process_named<K2, V2, S>(
        &self,
        supplier: S,
        named: &Named,
        stores: &[&str],
    ) -> KStream<K2, V2>
    where
        K2: Clone + Send + 'static,
        V2: Clone + Send + 'static,
        S: ProcessorSupplier<K, V, K2, V2>,
    {
        let name = self.process_name(named, "KSTREAM-PROCESSOR-");
        // Deviation: Kafka Streams takes these two for operators that change nothing, unless an internal setting says otherwise, and so moves a
        // repartition that they need to a place above them.
        self.then_called(name, supplier, owned(stores), (None, None), true)
            .changing(Changes::Anything)
    }

    /// Runs a processor of your own that cannot change the key, so that nothing has to be repartitioned. Source: `processValues`.
    pub fn process_values<V2, S>(&self, supplier: S, stores: &[&str]) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        S: FixedKeyProcessorSupplier<K, V, V2>,
    {
        self.process_values_named(supplier, &Named::default(), stores)
    }

    /// As [`process_values`](Self::process_values), with the node named.
    pub fn process_values_named<V2, S>(
        &self,
        supplier: S,
        named: &Named,
        stores: &[&str],
    ) -> KStream<K, V2>
    where
        V2: Clone + Send + 'static,
        S: FixedKeyProcessorSupplier<K, V, V2>,
    {
        let name = self.process_name(named, "KSTREAM-PROCESSVALUES-");
        let (serdes, stores) = ((self.serdes.0.clone(), None), owned(stores));
        self.then_called(name, AnyKey(supplier), stores, serdes, self.repartition_required)
            .changing(Changes::Value)
    }
}

impl<K, V> KStream<K, V> {
    /// A given name uses no number up here, other than with every other operator. Source: `KStreamImpl.process`.
    fn process_name(&self, named: &Named, prefix: &str) -> Arc<str> {
        self.plan.borrow_mut().name_or(named.0.as_ref(), prefix)
    }
}

/// A supplier of fixed-key processors as one of processors.
struct AnyKey<S>(S);

impl<K, VIn, VOut, S> ProcessorSupplier<K, VIn, K, VOut> for AnyKey<S>
where
    S: FixedKeyProcessorSupplier<K, VIn, VOut>,
{
    type Processor = FixedKey<S::Processor>;

    fn get(&self) -> Self::Processor {
        FixedKey(self.0.get())
    }

    fn stores(&self) -> Vec<Arc<dyn StoreBuilder>> {
        self.0.stores()
    }
}

fn owned(stores: &[&str]) -> Vec<String> {
    stores.iter().map(|store| (*store).to_owned()).collect()
}
