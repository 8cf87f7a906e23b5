//! Joins of a stream with a global table.

use std::marker::PhantomData;
use std::sync::Arc;

use super::global_table::GlobalKTable;
use super::params::Named;
use super::stream::KStream;
use crate::nullable::Nullable;
use crate::operators::StreamGlobalTableJoin;

/// Whether records without a partner are dropped, and the node's name.
enum Kind<'a> {
    Inner(&'a Named),
    Left(&'a Named),
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Joins each record with the global table's value of the selected key; records without one are dropped.
    pub fn join_global<KS, VG, VO>(
        &self,
        table: &GlobalKTable<KS::NonNull, VG>,
        key_selector: impl Fn(&K, &V) -> KS + Send + Sync + 'static,
        joiner: impl Fn(&K, V, VG) -> VO + Send + Sync + 'static,
    ) -> KStream<K, VO>
    where
        V: Nullable,
        KS: Nullable,
        VG: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        self.join_global_named(table, key_selector, joiner, &Named::default())
    }

    /// As [`join_global`](Self::join_global), with the node named.
    pub fn join_global_named<KS, VG, VO>(
        &self,
        table: &GlobalKTable<KS::NonNull, VG>,
        key_selector: impl Fn(&K, &V) -> KS + Send + Sync + 'static,
        joiner: impl Fn(&K, V, VG) -> VO + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K, VO>
    where
        V: Nullable,
        KS: Nullable,
        VG: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        let joiner = move |key: &K, value: V, found: Option<VG>| {
            joiner(key, value, found.expect("an inner join calls only with a value"))
        };
        self.join_global_table(table, key_selector, joiner, Kind::Inner(named))
    }

    /// Joins each record with the global table's value of the selected key, or `None`.
    pub fn left_join_global<KS, VG, VO>(
        &self,
        table: &GlobalKTable<KS::NonNull, VG>,
        key_selector: impl Fn(&K, &V) -> KS + Send + Sync + 'static,
        joiner: impl Fn(&K, V, Option<VG>) -> VO + Send + Sync + 'static,
    ) -> KStream<K, VO>
    where
        V: Nullable,
        KS: Nullable,
        VG: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        self.left_join_global_named(table, key_selector, joiner, &Named::default())
    }

    /// As [`left_join_global`](Self::left_join_global), with the node named.
    pub fn left_join_global_named<KS, VG, VO>(
        &self,
        table: &GlobalKTable<KS::NonNull, VG>,
        key_selector: impl Fn(&K, &V) -> KS + Send + Sync + 'static,
        joiner: impl Fn(&K, V, Option<VG>) -> VO + Send + Sync + 'static,
        named: &Named,
    ) -> KStream<K, VO>
    where
        V: Nullable,
        KS: Nullable,
        VG: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        self.join_global_table(table, key_selector, joiner, Kind::Left(named))
    }

    fn join_global_table<KS, VG, VO>(
        &self,
        table: &GlobalKTable<KS::NonNull, VG>,
        key_selector: impl Fn(&K, &V) -> KS + Send + Sync + 'static,
        joiner: impl Fn(&K, V, Option<VG>) -> VO + Send + Sync + 'static,
        kind: Kind<'_>,
    ) -> KStream<K, VO>
    where
        V: Nullable,
        KS: Nullable,
        VG: Clone + Send + 'static,
        VO: Clone + Send + 'static,
    {
        let (left, named) = match kind {
            Kind::Inner(named) => (false, named),
            Kind::Left(named) => (true, named),
        };
        let (store_name, key_selector) =
            (table.store.clone(), Arc::new((key_selector, PhantomData)));
        let joiner = Arc::new(joiner);
        let supplier = move || StreamGlobalTableJoin {
            store_name: store_name.clone(),
            store: None,
            key_selector: key_selector.clone(),
            joiner: joiner.clone(),
            left,
        };
        let serdes = (self.serdes.0.clone(), None);
        // Both kinds are called LEFTJOIN, as in Java.
        let repartition = self.repartition_required;
        let result = self.then("KSTREAM-LEFTJOIN-", named, supplier, serdes, repartition);
        if left {
            self.plan.borrow_mut().mark_relaxed_null_key(result.node);
        }
        result
    }
}
