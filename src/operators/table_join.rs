//! Joins of two tables: each side looks the other up, and one node puts the results together.

use std::sync::Arc;

use super::join::{GetterSupplier, ValueGetter};
use super::{Change, TableStore};
use crate::error::Result;
use crate::processor::{Frame, Processor, ProcessorContext};
use crate::record::Record;
use crate::store::PutResult;
use crate::time::Timestamp;

/// Which sides must have a value for a result, seen from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Required {
    pub(crate) own: bool,
    pub(crate) other: bool,
}

impl Required {
    /// The same join, seen from the other side.
    pub(crate) fn reversed(self) -> Self {
        Self { own: self.other, other: self.own }
    }

    fn join<V1, V2, VO>(
        self,
        joiner: &impl Fn(Option<&V1>, Option<&V2>) -> Option<VO>,
        own: Option<&V1>,
        other: Option<&V2>,
    ) -> Option<VO> {
        match (own, other) {
            (None, None) => None,
            (None, _) if self.own => None,
            (_, None) if self.other => None,
            _ => joiner(own, other),
        }
    }
}

/// One side of a join: its changes, looked up in the other table. Source: `KTableKTableInnerJoin`, `…LeftJoin`, `…RightJoin`, `…OuterJoin`.
pub(crate) struct TableTableJoin<K, V2, J> {
    pub(crate) getter: GetterSupplier<K, V2>,
    pub(crate) opened: Option<Box<dyn ValueGetter<K, V2>>>,
    pub(crate) joiner: Arc<J>,
    pub(crate) required: Required,
    /// This side is versioned: its out-of-order changes are dropped (KIP-914).
    pub(crate) is_versioned: bool,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
}

impl<K, V1, V2, VO, J> Processor<K, Change<V1>, K, Change<VO>> for TableTableJoin<K, V2, J>
where
    K: Clone + Send + 'static,
    V1: Clone + Send + 'static,
    V2: 'static,
    VO: Clone + Send + 'static,
    J: Fn(Option<&V1>, Option<&V2>) -> Option<VO> + Send + Sync + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<VO>>) -> Result<()> {
        let node = context.node;
        self.opened = Some((self.getter)(context.frame, node)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V1>>,
        context: &mut ProcessorContext<'_, '_, K, Change<VO>>,
    ) -> Result<()> {
        let Record { key, value: change, mut timestamp, headers } = record;
        if self.is_versioned && !change.is_latest {
            context.drop_record("out_of_order");
            return Ok(());
        }
        let getter = self.opened.as_mut().expect("init opened the getter");
        let found = getter.get(context.frame, &key)?;
        let other = match &found {
            Some((other, at)) => {
                timestamp = timestamp.max(*at);
                Some(other)
            }
            None if self.required.other || (change.new.is_none() && change.old.is_none()) => {
                return Ok(());
            }
            None => None,
        };
        let join = |own: Option<&V1>| self.required.join(&*self.joiner, own, other);
        let new = join(change.new.as_ref());
        let old = if self.send_old { join(change.old.as_ref()) } else { None };
        let value = Change { new, old, is_latest: change.is_latest };
        context.forward(Record { key, value, timestamp, headers })
    }
}

/// The result of a join, kept where it has a store. Source: `KTableKTableJoinMerger`.
pub(crate) struct TableMerge<K, V> {
    pub(crate) store: Option<Arc<str>>,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
    pub(crate) handle: Option<TableStore<K, V>>,
}

impl<K, V> Processor<K, Change<V>, K, Change<V>> for TableMerge<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, K, Change<V>>) -> Result<()> {
        let send_old = self.send_old;
        let opened = self.store.as_ref().map(|name| TableStore::own(context, name, send_old));
        self.handle = opened.transpose()?;
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<K, Change<V>>,
        context: &mut ProcessorContext<'_, '_, K, Change<V>>,
    ) -> Result<()> {
        let Some(store) = self.handle else { return context.forward(record) };
        let at = record.timestamp;
        if store.put_and_forward(context, record, at)? == PutResult::NotPut {
            context.drop_record("older_than_history");
        }
        Ok(())
    }
}

struct JoinGetter<K, V1, V2, J> {
    own: Box<dyn ValueGetter<K, V1>>,
    other: Box<dyn ValueGetter<K, V2>>,
    joiner: Arc<J>,
    required: Required,
}

impl<K, V1, V2, VO, J> ValueGetter<K, VO> for JoinGetter<K, V1, V2, J>
where
    J: Fn(Option<&V1>, Option<&V2>) -> Option<VO> + Send + Sync + 'static,
{
    fn get(&mut self, frame: &mut Frame<'_>, key: &K) -> Result<Option<(VO, Timestamp)>> {
        let own = self.own.get(frame, key)?;
        if own.is_none() && self.required.own {
            return Ok(None);
        }
        let other = self.other.get(frame, key)?;
        let at = own.as_ref().map(|(_, at)| *at).max(other.as_ref().map(|(_, at)| *at));
        let (own, other) = (own.as_ref().map(|(value, _)| value), other.as_ref().map(|(v, _)| v));
        Ok(self.required.join(&*self.joiner, own, other).zip(at))
    }
}

/// Works a join's result out from both tables. Source: `KTableKTableInnerJoinValueGetter` and the like.
pub(crate) fn join_getter<K, V1, V2, VO, J>(
    own: GetterSupplier<K, V1>,
    other: GetterSupplier<K, V2>,
    joiner: Arc<J>,
    required: Required,
) -> GetterSupplier<K, VO>
where
    K: 'static,
    V1: 'static,
    V2: 'static,
    VO: 'static,
    J: Fn(Option<&V1>, Option<&V2>) -> Option<VO> + Send + Sync + 'static,
{
    Arc::new(move |frame, node| {
        let (own, other) = (own(frame, node)?, other(frame, node)?);
        Ok(Box::new(JoinGetter { own, other, joiner: joiner.clone(), required }))
    })
}
