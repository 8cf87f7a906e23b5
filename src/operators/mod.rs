//! The processors that the DSL makes.
//!
//! Each is a plain [`Processor`](crate::processor::Processor): nothing here is known to tasks or to the runtime. Hot path.

mod aggregate;
mod async_map;
mod branch;
mod buffered_join;
mod cached;
mod calls;
mod change_serde;
mod count_windows;
mod deduplicate;
mod expiring;
mod foreign_key;
mod idle;
mod join;
mod outer_join_store;
mod self_join;
mod session_aggregate;
mod sliding_aggregate;
mod stateless;
mod stream_join;
mod suppress;
mod table;
mod table_aggregate;
mod table_join;
mod table_source;
mod table_store;
mod waiting;
mod window_aggregate;
mod window_getter;
mod windows;

pub(crate) use aggregate::{Initializer, KStreamAggregate, Passed};
pub(crate) use async_map::{AsyncMapSpec, AsyncMapValues, AsyncMapper, Room};
pub(crate) use branch::{Branch, BranchPredicate, BranchTo};
pub(crate) use buffered_join::BufferedJoin;
pub(crate) use calls::{Call, CallLimits};
pub(crate) use change_serde::change_serde;
pub(crate) use count_windows::{CountWindowAggregate, counted_serde};
pub(crate) use deduplicate::Deduplicate;
pub(crate) use expiring::{Expiring, TableTtl};
pub(crate) use foreign_key::{
    ForeignTableJoin, Response, ResponseJoin, Subscription, SubscriptionJoin, SubscriptionReceive,
    SubscriptionSend, response_serde, subscription_serde,
};
pub(crate) use join::{GetterSupplier, StreamGlobalTableJoin, StreamTableJoin};
pub(crate) use outer_join_store::{unmatched_key_serde, unmatched_values_serde};
pub(crate) use self_join::StreamSelfJoin;
pub(crate) use session_aggregate::SessionAggregate;
pub(crate) use sliding_aggregate::SlidingAggregate;
pub(crate) use stateless::{
    Filter, FlatMap, FlatMapValues, Map, MapValues, Peek, SelectKey, TableToStream,
};
pub(crate) use stream_join::{JoinShape, JoinWindow, LeftSide, RightSide, StreamStreamJoin};
pub(crate) use suppress::{Bounds, Suppress, SuppressRule, WhenFull, suppress_getter};
pub(crate) use table::{TableStep, step_getter};
pub(crate) use table_aggregate::{TableAggregate, TableRepartitionMap};
pub(crate) use table_join::{Required, TableMerge, TableTableJoin, join_getter};
pub(crate) use table_source::{GlobalTableSource, TableSource, store_getter};
pub(crate) use table_store::TableStore;
pub(crate) use waiting::waiting_serde;
pub(crate) use window_aggregate::{Aggregation, Emit, Steps, WindowAggregate};
pub(crate) use window_getter::{session_getter, window_getter};
pub use windows::{
    EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Windows,
};

/// What a table's change carries on its edges. Source: `Change`.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<V> {
    /// The value after the change; `None`: deleted.
    pub new: Option<V>,
    /// The value before, where somebody downstream asked for it.
    pub old: Option<V>,
    /// Whether no later change of the key is known by timestamp. Always so but for tables in versioned stores, whose
    /// out-of-order updates aggregations and joins skip (KIP-914).
    pub is_latest: bool,
}

impl<V> Change<V> {
    /// The latest change of its key.
    pub fn latest(new: Option<V>, old: Option<V>) -> Self {
        Self { new, old, is_latest: true }
    }
}
