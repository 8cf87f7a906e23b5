//! Cogrouped streams in windows and sessions.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::cogrouped::{CogroupedKStream, Member, MemberSpec, Merger, SharedStoreSpec};
use super::expiring::TtlSpec;
use super::params::{Materialized, Named};
use super::plan::{Plan, Write};
use super::session_windowed::session_store;
use super::table::{KTable, TableSpec, always_old_values};
use super::windowed::WindowedBy;
use super::windowed_build::Kind;
use crate::nullable::Nullable;
use crate::operators::{EmitStrategy, Initializer, SessionWindows, session_getter, window_getter};
use crate::serdes::{DefaultSerde, WindowedSerdes};
use crate::windowed::Windowed;

impl<K, VA> CogroupedKStream<K, VA> {
    /// Aggregates in windows or sessions.
    pub fn windowed_by<W: WindowedBy>(&self, windows: W) -> W::Cogrouped<K, VA> {
        windows.window_cogrouped(self.clone())
    }
}

/// Grouped streams that will share one aggregate per key and window. Source: `TimeWindowedCogroupedKStream`.
pub struct TimeWindowedCogroupedKStream<K, VA> {
    cogrouped: CogroupedKStream<K, VA>,
    kind: Kind,
}

/// Grouped streams that will share one aggregate per key and session. Source: `SessionWindowedCogroupedKStream`.
pub struct SessionWindowedCogroupedKStream<K, VA> {
    cogrouped: CogroupedKStream<K, VA>,
    windows: SessionWindows,
}

impl<K, VA> TimeWindowedCogroupedKStream<K, VA> {
    pub(super) fn new(cogrouped: CogroupedKStream<K, VA>, kind: Kind) -> Self {
        Self { cogrouped, kind }
    }
}

impl<K, VA> SessionWindowedCogroupedKStream<K, VA> {
    pub(super) fn new(cogrouped: CogroupedKStream<K, VA>, windows: SessionWindows) -> Self {
        Self { cogrouped, windows }
    }
}

/// The prefix of an unnamed store.
const STORE: &str = "COGROUPKSTREAM-AGGREGATE-STATE-STORE-";

impl<K, VA> TimeWindowedCogroupedKStream<K, VA>
where
    K: Nullable<NonNull = K>,
    VA: Clone + Send + 'static,
{
    /// Folds the values of each key and window over all streams, from `initializer`'s value on. Every update is sent on; each
    /// stream has a stream time of its own, which decides what is late in it.
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: DefaultSerde,
    {
        let Self { cogrouped, kind } = self;
        let store = cogrouped.plan.borrow_mut().name_or(materialized.name.as_ref(), STORE);
        let (key_serde, value_serde) = cogrouped.serdes(&materialized);
        let strategy = EmitStrategy::OnWindowUpdate;
        let builder = kind.store(&store, &materialized, strategy, &key_serde, &value_serde);
        let shared = Shared::new(initializer, SharedStoreSpec::new(&store, builder));
        let write = |member: &dyn Member<K, VA>, name: &Arc<str>| {
            member.write_windows(shared.spec(name), kind.clone())
        };
        let grace = kind.grace();
        let (node, name, sources) = cogrouped.write_windowed(named, &store, write, grace);
        KTable::new(TableSpec {
            plan: cogrouped.plan.clone(),
            node,
            name,
            key_serde: Some(WindowedSerdes::time_windowed(key_serde, kind.size())),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&shared.sends_old),
            getter: window_getter(store),
        })
    }
}

impl<K, VA> SessionWindowedCogroupedKStream<K, VA>
where
    K: Nullable<NonNull = K>,
    VA: Clone + Send + 'static,
{
    /// Folds the values of each key and session over all streams, from `initializer`'s value on; `merger` makes one aggregate of two
    /// sessions' that a record has brought together.
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> VA + Send + Sync + 'static,
        merger: impl Fn(&K, VA, VA) -> VA + Send + Sync + 'static,
        named: &Named,
        materialized: Materialized<K, VA>,
    ) -> KTable<Windowed<K>, VA>
    where
        VA: DefaultSerde,
    {
        let Self { cogrouped, windows } = self;
        let store = cogrouped.plan.borrow_mut().name_or(materialized.name.as_ref(), STORE);
        let serdes = cogrouped.serdes(&materialized);
        let strategy = EmitStrategy::OnWindowUpdate;
        let builder = session_store(*windows, strategy, &store, &materialized, &serdes);
        let shared = Shared::new(initializer, SharedStoreSpec::new(&store, builder));
        let merger: Merger<K, VA> = Arc::new(merger);
        let write = |member: &dyn Member<K, VA>, name: &Arc<str>| {
            member.write_sessions(shared.spec(name), *windows, merger.clone())
        };
        let grace = windows.gap.saturating_add(windows.grace);
        let (node, name, sources) = cogrouped.write_windowed(named, &store, write, grace);
        let (key_serde, value_serde) = serdes;
        KTable::new(TableSpec {
            plan: cogrouped.plan.clone(),
            node,
            name,
            key_serde: Some(WindowedSerdes::session(key_serde)),
            value_serde: Some(value_serde),
            sources,
            stores: Rc::new([store.clone()]),
            materialise: Rc::new(|| ()),
            enable_old_values: always_old_values(&shared.sends_old),
            getter: session_getter(store),
        })
    }
}

/// What the nodes of all members share.
struct Shared<VA> {
    initializer: Initializer<VA>,
    sends_old: Rc<Cell<bool>>,
    store: SharedStoreSpec,
}

impl<VA> Shared<VA> {
    fn new(initializer: impl Fn() -> VA + Send + Sync + 'static, store: SharedStoreSpec) -> Self {
        Self { initializer: Arc::new(initializer), sends_old: Rc::default(), store }
    }

    fn spec(&self, name: &Arc<str>) -> MemberSpec<VA> {
        MemberSpec {
            name: name.clone(),
            initializer: self.initializer.clone(),
            sends_old: self.sends_old.clone(),
            store: self.store.clone(),
            ttl: TtlSpec::default(),
        }
    }
}

impl<K, VA> CogroupedKStream<K, VA>
where
    K: Nullable<NonNull = K>,
    VA: Clone + Send + 'static,
{
    fn serdes(&self, materialized: &Materialized<K, VA>) -> Serdes<K, VA>
    where
        VA: DefaultSerde,
    {
        let given = materialized.serdes.clone();
        given.unwrap_or_else(|| (self.key_serde.clone(), VA::serde()))
    }

    fn write_windowed(
        &self,
        named: &Named,
        store: &Arc<str>,
        write: impl Fn(&dyn Member<K, VA>, &Arc<str>) -> Write,
        grace: std::time::Duration,
    ) -> (usize, Arc<str>, Rc<[Arc<str>]>) {
        let mark = |plan: &mut Plan, node: usize| {
            plan.set_output_versioned(node, false);
            plan.mark_grace(node, grace);
        };
        self.write_members::<Windowed<K>>(named, store, write, mark)
    }
}

type Serdes<K, VA> = (crate::serdes::Serde<K>, crate::serdes::Serde<VA>);
