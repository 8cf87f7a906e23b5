//! Joins of two streams within a window of time.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::join_windows::JoinWindows;
use super::plan::{Optimisable, Plan, StreamJoinParts};
use super::stream::KStream;
use super::stream_joined::StreamJoined;
use crate::error::Result;
use crate::nullable::Nullable;
use crate::operators::{
    JoinShape, JoinWindow, LeftSide, Peek, RightSide, StreamSelfJoin, StreamStreamJoin,
    unmatched_key_serde, unmatched_values_serde,
};
use crate::serdes::Serde;
use crate::topology::{StoreBuilder, StoreKind, Stores, Topology};

/// Which streams' records are results without a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

impl<K: Nullable, V: Nullable> KStream<K, V> {
    /// Joins each record with every record of `other` that has the same key and lies in the window; those without one are dropped, as are null keys and
    /// values. A result has the larger of the two timestamps. Source: `KStream.join(KStream)`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kstreams::{JoinWindows, StreamJoined, StreamsBuilder};
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.stream::<String, String>("orders");
    /// let payments = builder.stream::<String, i64>("payments");
    /// let within = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3600));
    /// orders
    ///     .join_stream(
    ///         &payments,
    ///         |_, order, amount| format!("{order} paid with {amount}"),
    ///         within,
    ///         StreamJoined::default(),
    ///     )
    ///     .to("paid");
    /// assert!(builder.build().unwrap().describe().contains("KSTREAM-JOINTHIS-0000000004-store"));
    /// ```
    pub fn join_stream<V2, VO>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&K, &V::NonNull, &V2::NonNull) -> VO + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, VO>
    where
        V2: Nullable,
        VO: Clone + Send + 'static,
    {
        let joiner = move |key: &K, left: Option<&V::NonNull>, right: Option<&V2::NonNull>| {
            let wanted = "an inner join calls only with both values";
            joiner(key, left.expect(wanted), right.expect(wanted))
        };
        self.join_windowed(other, joiner, windows, joined, Kind::Inner)
    }

    /// As [`join_stream`](Self::join_stream); a record of this stream that nothing matches is joined with `None`, once its window and the grace are over. One
    /// with a null key is so at once (KIP-962). Source: `KStream.leftJoin(KStream)`.
    pub fn left_join_stream<V2, VO>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&K, &V::NonNull, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, VO>
    where
        V2: Nullable,
        VO: Clone + Send + 'static,
    {
        let joiner = move |key: &K, left: Option<&V::NonNull>, right: Option<&V2::NonNull>| {
            joiner(key, left.expect("a left join calls only with a left value"), right)
        };
        self.join_windowed(other, joiner, windows, joined, Kind::Left)
    }

    /// As [`left_join_stream`](Self::left_join_stream), for records of both streams. Source: `KStream.outerJoin`.
    pub fn outer_join_stream<V2, VO>(
        &self,
        other: &KStream<K, V2>,
        joiner: impl Fn(&K, Option<&V::NonNull>, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, VO>
    where
        V2: Nullable,
        VO: Clone + Send + 'static,
    {
        self.join_windowed(other, joiner, windows, joined, Kind::Outer)
    }

    /// Source: `KStreamImpl.doJoin`.
    fn join_windowed<V2, VO, J>(
        &self,
        other: &KStream<K, V2>,
        joiner: J,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
        kind: Kind,
    ) -> KStream<K, VO>
    where
        V2: Nullable,
        VO: Clone + Send + 'static,
        J: Fn(&K, Option<&V::NonNull>, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
    {
        let topic = |side: &str| joined.name.as_ref().map(|name| format!("{name}-{side}").into());
        let (key, left) = (joined.key_serde.clone(), joined.value_serde.clone());
        let this = match self.repartition_required {
            true => self.repartition_for_join(topic("left"), Some((key.clone(), left))),
            false => self.clone(),
        };
        let right = joined.other_value_serde.clone();
        let other = match other.repartition_required {
            true => other.repartition_for_join(topic("right"), Some((key, right))),
            false => other.clone(),
        };
        let sources: Rc<[Arc<str>]> =
            this.sources.iter().chain(other.sources.iter()).cloned().collect();
        self.plan.borrow_mut().copartition(sources.to_vec());
        let join = Join::new(&mut self.plan.borrow_mut(), windows, &joined, kind);
        let (name, joiner) = (join.names.merge.clone(), Arc::new(joiner));
        let mut plan = self.plan.borrow_mut();
        let node = join.add::<K, V, V2, VO, J>(&mut plan, this.node, other.node, joiner);
        drop(plan);
        let serdes = (Some(joined.key_serde), None);
        KStream::new(self.plan.clone(), node, name, serdes, sources, false)
    }
}

/// The names of a join's nodes.
struct Names {
    this_windowed: Arc<str>,
    other_windowed: Arc<str>,
    this: Arc<str>,
    other: Arc<str>,
    merge: Arc<str>,
}

/// A join with everything that its nodes need. Source: `KStreamImplJoin`.
struct Join {
    names: Names,
    kind: Kind,
    shape: Arc<JoinShape>,
    this_store: Arc<dyn StoreBuilder>,
    other_store: Arc<dyn StoreBuilder>,
    unmatched_store: Option<Arc<dyn StoreBuilder>>,
}

impl Join {
    fn new<K: Nullable, V1: Nullable, V2: Nullable>(
        plan: &mut Plan,
        windows: JoinWindows,
        joined: &StreamJoined<K, V1, V2>,
        kind: Kind,
    ) -> Self {
        let (this_suffix, this_prefix) = match kind {
            Kind::Outer => ("-outer-this-join", "KSTREAM-OUTERTHIS-"),
            Kind::Inner | Kind::Left => ("-this-join", "KSTREAM-JOINTHIS-"),
        };
        let (other_suffix, other_prefix) = match kind {
            Kind::Inner => ("-other-join", "KSTREAM-JOINOTHER-"),
            Kind::Left | Kind::Outer => ("-outer-other-join", "KSTREAM-OUTEROTHER-"),
        };
        let given = |suffix: &str| -> Option<Arc<str>> {
            joined.name.as_ref().map(|name| format!("{name}{suffix}").into())
        };
        let this_windowed = plan.node_name(given("-this-windowed").as_ref(), "KSTREAM-WINDOWED-");
        let other_windowed = plan.node_name(given("-other-windowed").as_ref(), "KSTREAM-WINDOWED-");
        let (this, other) = (plan.new_name(this_prefix), plan.new_name(other_prefix));
        let merge = plan.node_name(given("-merge").as_ref(), "KSTREAM-MERGE-");
        let store = |suffix: &str, generated: &str| match &joined.store_name {
            Some(name) => format!("{name}{suffix}-store"),
            None => format!("{generated}-store"),
        };
        let number = &this[this_prefix.len()..];
        let unmatched = match kind {
            Kind::Inner => None,
            Kind::Left => Some("-left-shared-join"),
            Kind::Outer => Some("-outer-shared-join"),
        };
        let unmatched =
            unmatched.map(|suffix| store(suffix, &format!("KSTREAM-OUTERSHARED-{number}")));
        let this_store = store(this_suffix, &this);
        let other_store = store(other_suffix, &other);
        let shape = JoinShape {
            name: merge.clone(),
            left_store: this_store.as_str().into(),
            right_store: other_store.as_str().into(),
            unmatched_store: unmatched.as_deref().map(Arc::from),
            before_ms: windows.before_ms,
            after_ms: windows.after_ms,
            grace_ms: windows.grace_ms,
        };
        Self {
            kind,
            shape: Arc::new(shape),
            this_store: window_store(&this_store, windows, joined, joined.value_serde.clone()),
            other_store: window_store(
                &other_store,
                windows,
                joined,
                joined.other_value_serde.clone(),
            ),
            unmatched_store: unmatched.map(|name| unmatched_store(&name, joined)),
            names: Names {
                this_windowed,
                other_windowed,
                this: given(this_suffix).unwrap_or(this),
                other: given(other_suffix).unwrap_or(other),
                merge,
            },
        }
    }

    /// Adds the nodes: two that keep records, and the join with both of its sides.
    fn add<K, V1, V2, VO, J>(
        self,
        plan: &mut Plan,
        this: usize,
        other: usize,
        joiner: Arc<J>,
    ) -> usize
    where
        K: Nullable,
        V1: Nullable,
        V2: Nullable,
        VO: Clone + Send + 'static,
        J: Fn(&K, Option<&V1::NonNull>, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
    {
        let is_self_join: Rc<Cell<bool>> = Rc::default();
        let Names { this_windowed, other_windowed, merge, .. } = &self.names;
        let (this_store, other_store) = (self.this_store.clone(), self.other_store.clone());
        windowed::<K, V1>(plan, this, this_windowed.clone(), this_store, &is_self_join);
        let other_windowed =
            windowed::<K, V2>(plan, other, other_windowed.clone(), other_store, &is_self_join);
        let (merge, kind) = (merge.clone(), self.kind);
        let write = {
            let is_self_join = is_self_join.clone();
            move |topology: &mut Topology, _: &[&str]| match is_self_join.get() {
                true => self.write_self_join::<K, V1, V2, VO, J>(topology, joiner),
                false => self.write::<K, V1, V2, VO, J>(topology, joiner),
            }
        };
        let node = plan.add(merge, &[this, other], Box::new(write));
        let parts = StreamJoinParts { other_windowed, is_self_join };
        plan.mark_optimisable(node, Optimisable::StreamJoin(parts));
        if kind != Kind::Inner {
            plan.mark_relaxed_null_key(node);
        }
        node
    }

    fn write<K, V1, V2, VO, J>(self, topology: &mut Topology, joiner: Arc<J>) -> Result<()>
    where
        K: Nullable,
        V1: Nullable,
        V2: Nullable,
        VO: Clone + Send + 'static,
        J: Fn(&K, Option<&V1::NonNull>, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
    {
        let Self { names, kind, shape, this_store, other_store, unmatched_store } = self;
        let supplier = {
            let (shape, joiner) = (shape.clone(), joiner.clone());
            let outer = kind != Kind::Inner;
            move || {
                StreamStreamJoin::<LeftSide, K, V1, V2, J>::new(
                    shape.clone(),
                    outer,
                    joiner.clone(),
                )
            }
        };
        let parents = [&*names.this_windowed];
        topology.add_processor::<K, V1, K, VO, _>(&names.this, supplier, &parents, &[])?;
        let outer = kind == Kind::Outer;
        let supplier = move || {
            StreamStreamJoin::<RightSide, K, V1, V2, J>::new(shape.clone(), outer, joiner.clone())
        };
        let parents = [&*names.other_windowed];
        topology.add_processor::<K, V2, K, VO, _>(&names.other, supplier, &parents, &[])?;
        for (node, store) in [(&names.this, other_store), (&names.other, this_store)] {
            topology.share_state_store(store, node)?;
            if let Some(store) = &unmatched_store {
                topology.share_state_store(store.clone(), node)?;
            }
        }
        let supplier = || Peek(Arc::new(|_: &K, _: &VO| ()));
        let sides = [&*names.this, &*names.other];
        topology.add_processor::<K, VO, K, VO, _>(&names.merge, supplier, &sides, &[])
    }

    fn write_self_join<K, V1, V2, VO, J>(
        self,
        topology: &mut Topology,
        joiner: Arc<J>,
    ) -> Result<()>
    where
        K: Nullable,
        V1: Nullable,
        V2: Nullable,
        VO: Clone + Send + 'static,
        J: Fn(&K, Option<&V1::NonNull>, Option<&V2::NonNull>) -> VO + Send + Sync + 'static,
    {
        let Self { names, shape, this_store, .. } = self;
        let supplier = move || StreamSelfJoin::<K, V1, V2, J>::new(shape.clone(), joiner.clone());
        let parents = [&*names.this_windowed];
        topology.add_processor::<K, V1, K, VO, _>(&names.merge, supplier, &parents, &[])?;
        topology.share_state_store(this_store, &names.merge)
    }
}

/// Adds the node that keeps a side's records.
fn windowed<K: Nullable, V: Nullable>(
    plan: &mut Plan,
    parent: usize,
    name: Arc<str>,
    store: Arc<dyn StoreBuilder>,
    is_self_join: &Rc<Cell<bool>>,
) -> usize {
    let (is_self_join, node) = (is_self_join.clone(), name.clone());
    let write = move |topology: &mut Topology, parents: &[&str]| {
        let (store_name, is_self_join) = (store.name().clone(), is_self_join.get());
        let supplier =
            move || JoinWindow::<K, V> { store: store_name.clone(), handle: None, is_self_join };
        topology.add_processor::<K, V, K, V, _>(&node, supplier, parents, &[])?;
        topology.share_state_store(store, &node)
    };
    plan.add(name, &[parent], Box::new(write))
}

/// Records are not compacted away: several have one key. Source: `StreamJoinedStoreFactory`.
fn window_store<K: Nullable, V: Nullable, V1, V2>(
    name: &str,
    windows: JoinWindows,
    joined: &StreamJoined<K, V1, V2>,
    value_serde: Serde<V>,
) -> Arc<dyn StoreBuilder> {
    let key_serde = joined.key_serde.clone();
    let (retention, size) = (windows.retention(), windows.size());
    let mut builder = Stores::window_store_with(name, retention, size, key_serde, value_serde)
        .retain_duplicates();
    if joined.kind == StoreKind::InMemory {
        builder = builder.in_memory();
    }
    builder = match joined.logging.clone() {
        Some(mut configs) => {
            configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
            builder.logging_enabled(configs)
        }
        None => builder.logging_disabled(),
    };
    Arc::new(builder)
}

/// Source: `OuterStreamJoinStoreFactory`.
fn unmatched_store<K: Nullable, V1: Nullable, V2: Nullable>(
    name: &str,
    joined: &StreamJoined<K, V1, V2>,
) -> Arc<dyn StoreBuilder> {
    let key_serde = unmatched_key_serde(joined.key_serde.clone());
    let (left, right) = (joined.value_serde.clone(), joined.other_value_serde.clone());
    let value_serde = unmatched_values_serde(left, right);
    let mut builder = Stores::key_value_store_with(name, key_serde, value_serde);
    if joined.kind == StoreKind::InMemory {
        builder = builder.in_memory();
    }
    builder = match joined.logging.clone() {
        Some(configs) => builder.logging_enabled(configs),
        None => builder.logging_disabled(),
    };
    Arc::new(builder)
}
