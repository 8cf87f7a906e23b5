//! How the changes that record caches hold back are forwarded: from the node that made them, as the record that made them.
//!
//! An operator sets its store's cache up in `init` with a function that knows the store's types; from then on it puts changes there
//! instead of forwarding them. Source: `TimestampedTupleForwarder`, `CachedStateStore.setFlushListener`. Hot path:
//! [`Frame::is_caching`], [`Frame::evict`].

use std::time::Duration;

use super::context::StoreHandle;
use super::frame::{CurrentRecord, Frame, NodeIndex};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Headers;
use crate::store::{CacheBudget, CachedChange, Origin, RecordCache, StateStore};
use crate::time::Timestamp;

/// How long changes are forwarded at once after one that was held back could not be. Bad records rarely come alone, and each would have
/// a commit's worth of input read again.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Forwards one change of a store of a known type.
pub(crate) type ForwardChange = fn(&mut Frame<'_>, CacheOwner, &CachedChange) -> Result<()>;

/// Whose changes a cache holds back.
#[derive(Clone, Copy)]
pub(crate) struct CacheOwner {
    /// Index into the task's stores.
    pub(crate) store: usize,
    pub(crate) node: NodeIndex,
    /// Somebody downstream asked for old values.
    pub(crate) send_old: bool,
    forward: ForwardChange,
}

/// The record caches of a task.
pub(crate) struct Caches {
    budget: CacheBudget,
    /// Whether each store may have one.
    caching: Vec<bool>,
    /// In the order of the nodes, so that what one sends down comes before the next is asked.
    pub(crate) owners: Vec<CacheOwner>,
    /// Until when, by the wall clock, nothing is held back.
    at_once_until: Option<Timestamp>,
    /// Changes of other records were forwarded within the record in hand.
    pub(crate) has_evicted: bool,
    /// The input since the last commit is to be read again.
    pub(crate) wants_input_again: bool,
}

impl Caches {
    pub(crate) fn new(budget: CacheBudget, caching: Vec<bool>) -> Self {
        Self {
            budget,
            caching,
            owners: Vec::new(),
            at_once_until: None,
            has_evicted: false,
            wants_input_again: false,
        }
    }

    /// Whether changes are forwarded at once, because one that was held back failed.
    pub(crate) fn is_at_once(&self) -> bool {
        self.at_once_until.is_some()
    }

    /// After a commit: nothing is held back, so the way may change.
    pub(crate) fn committed(&mut self, now: Timestamp) {
        self.at_once_until = self.at_once_until.filter(|until| now < *until);
    }

    /// What is to be done about a bad record among changes that were held back: which one it is, and of which input, is found by reading
    /// the input since the last commit again, with every change forwarded at once.
    pub(crate) fn find_bad_record(&mut self, error: Error, now: Timestamp) -> Error {
        if error.kind() != ErrorKind::BadRecord {
            return error;
        }
        self.at_once_until = Some(now + AT_ONCE);
        self.wants_input_again = true;
        let text = format!(
            "a change that the record cache held back could not be processed; its input is read again, and for {} s nothing is held back",
            AT_ONCE.as_secs()
        );
        Error::new(ErrorKind::AbortTransaction, text).with_source(error)
    }
}

impl Frame<'_> {
    /// Has the changes of a store held back, where it and the application cache, and forwarded by `forward` from `node`. Without children
    /// there is nothing to forward, and so to hold back: a table that is only looked up costs nothing here.
    ///
    /// Where several nodes share a store, the last one forwards all changes, as in Java.
    pub(crate) fn own_cache<S: StateStore>(
        &mut self,
        handle: StoreHandle<S>,
        node: NodeIndex,
        send_old: bool,
        forward: ForwardChange,
    ) {
        let (store, caches) = (handle.index(), &mut self.task.caches);
        let is_leaf = self.nodes[node.0].children.is_empty();
        if is_leaf || caches.budget.is_zero() || !caches.caching[store] {
            return;
        }
        let Some(cache) = self.stores[store].record_cache() else { return };
        let owner = CacheOwner { store, node, send_old, forward };
        match caches.owners.iter_mut().find(|owner| owner.store == store) {
            Some(known) => *known = owner,
            None => {
                *cache = Some(RecordCache::new(caches.budget.clone()));
                caches.owners.push(owner);
            }
        }
    }

    /// Whether a store's changes are held back.
    pub(crate) fn is_caching<S: StateStore>(&mut self, handle: StoreHandle<S>) -> bool {
        !self.task.caches.is_at_once() && self.cache(handle.index()).is_some()
    }

    /// Forwards what the record cache of a store has no room for any more. Its owner calls this after each `get` and `put`; what others'
    /// reads bring in waits for that.
    pub(crate) fn evict<S: StateStore>(&mut self, handle: StoreHandle<S>) -> Result<()> {
        while let Some(changes) = self.cache(handle.index()).and_then(RecordCache::evict) {
            if !changes.is_empty() {
                self.task.caches.has_evicted = true;
                let owners = &self.task.caches.owners;
                let owner = owners.iter().find(|owner| owner.store == handle.index()).copied();
                let owner = owner.expect("a cache has an owner");
                changes.into_iter().try_for_each(|change| self.forward_change(owner, change))?;
            }
            self.settle(handle.index());
        }
        Ok(())
    }

    /// Forwards the first change of a cache; says whether there was one.
    pub(crate) fn flush_next(&mut self, owner: CacheOwner) -> Result<bool> {
        match self.cache(owner.store).and_then(RecordCache::take_first) {
            Some(change) => self.forward_change(owner, change).map(|()| true),
            None => {
                self.settle(owner.store);
                Ok(false)
            }
        }
    }

    fn forward_change(&mut self, owner: CacheOwner, change: CachedChange) -> Result<()> {
        if change.old.is_none() && change.new.is_none() {
            return Ok(()); // it has come and gone, and nobody was told
        }
        let node = std::mem::replace(&mut self.task.current_node, owner.node);
        let before = self.enter(change.origin.clone());
        (owner.forward)(self, owner, &change)?;
        self.task.current = before;
        self.task.current_node = node;
        Ok(())
    }

    fn cache(&mut self, store: usize) -> Option<&mut RecordCache> {
        self.stores[store].record_cache()?.as_mut()
    }

    fn settle(&mut self, store: usize) {
        if let Some(cache) = self.cache(store) {
            cache.settle();
        }
    }

    /// Where what an operator has in hand came from.
    pub(crate) fn origin(&self, timestamp: Timestamp, headers: Headers) -> Origin {
        let task = &self.task;
        let (topic, partition) = match task.current.partition {
            Some(index) => {
                let source = &task.partitions[index];
                (source.topic.clone(), source.partition)
            }
            None => (std::sync::Arc::from(""), task.task_id.partition),
        };
        Origin { timestamp, offset: task.current.offset, topic, partition, headers }
    }

    /// Makes `origin` the record in hand; returns the one before.
    pub(crate) fn enter(&mut self, origin: Origin) -> CurrentRecord {
        let Origin { timestamp, offset, topic, partition, headers } = origin;
        let mut sources = self.task.partitions.iter();
        let index =
            sources.position(|source| source.partition == partition && source.topic == topic);
        let current = CurrentRecord { partition: index, offset, timestamp, headers, raw: None };
        std::mem::replace(&mut self.task.current, current)
    }
}
