//! The record cache: changes of a table's rows that are still to be forwarded, each key's once.
//!
//! It holds back results, not writes: those are in the layers below at once, and every read sees them. The life of a change: an operator
//! puts it → another one of the same key replaces it, but what the row was when it was last forwarded stays → it is forwarded, as
//! the record that put it last, when the task commits ([`take_first`](RecordCache::take_first)) or when the cache is too large
//! ([`evict`](RecordCache::evict)). Keys that were read or forwarded stay as *clean* entries without a value, for their place in the
//! order of use and their size alone, so that the same changes are evicted as in Kafka Streams.
//!
//! A record that fails leaves no trace, and an abort drops everything: its input is read again. Owned by its store; hot path:
//! `put`, `read`. Source: `NamedCache`, `ThreadCache`, `LRUCacheEntry`. Deliberately absent: who forwards.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hashbrown::HashTable;

use super::{Origin, StateStore};
use crate::error::Result;
use crate::time::Timestamp;

/// What an entry costs beside its key, value, topic and headers. Source: `NamedCache.LRUNode.size` and
/// `ProcessorRecordContext.residentMemorySizeEstimate`: three references, a flag, timestamp, offset and partition.
const ENTRY_OVERHEAD_BYTES: usize = 3 * 8 + 1 + 8 + 8 + 4;

type SlotId = u32;
const NONE: SlotId = SlotId::MAX;

/// A store whose changes a [`RecordCache`] can hold back.
pub(crate) trait CachingStore: StateStore {
    /// A row's key, as it is forwarded.
    type Key;
    /// A row's value.
    type Value;
    /// The key of a change.
    fn read_key(&self, key: &Bytes) -> Result<Self::Key>;
    /// A value of a change.
    fn read_value(&self, value: &Bytes) -> Result<Self::Value>;
}

/// The bytes that all caches of a stream thread may take together (`statestore.cache.max.bytes`). Source: `ThreadCache`.
#[derive(Debug, Clone)]
pub(crate) struct CacheBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl CacheBudget {
    /// A budget of `bytes_max`; 0: nothing is held back.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Budget { bytes_max, bytes: AtomicUsize::new(0) }))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.bytes_max == 0
    }

    fn is_exceeded(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) > self.0.bytes_max
    }

    fn replace(&self, before: usize, now: usize) {
        self.0.bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed); // wraps back where it shrinks
    }
}

/// A change that is to be forwarded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CachedChange {
    pub(crate) key: Bytes,
    /// The row as it was last forwarded.
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
    /// What it is forwarded with.
    pub(crate) timestamp: Timestamp,
    /// The record that made it.
    pub(crate) origin: Origin,
}

/// What has happened since this was asked last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    hits: u64,
    misses: u64,
    evictions: u64,
}

#[derive(Debug, Clone)]
struct Content {
    bytes: usize,
    /// With its number, by which changes are ordered; `None`: the entry is clean.
    change: Option<(u64, CachedChange)>,
}

struct Slot {
    key: Bytes,
    hash: u64,
    content: Content,
    newer: SlotId,
    older: SlotId,
}

/// The record cache of one store.
pub struct RecordCache {
    budget: CacheBudget,
    /// What the budget knows of.
    accounted: usize,
    bytes: usize,
    slots: Vec<Slot>,
    vacant: Vec<SlotId>,
    index: HashTable<SlotId>,
    hasher: foldhash::fast::RandomState,
    /// Ends of the order of use.
    newest: SlotId,
    oldest: SlotId,
    /// Entries with a change, by its number: the key put last comes last.
    dirty: BTreeMap<u64, SlotId>,
    next_number: u64,
    /// Deleted keys that are being forwarded; their entries go afterwards.
    deleted: Vec<Bytes>,
    /// What entries held before the record in hand.
    journal: Vec<(Bytes, Option<Content>)>,
    figures: Figures,
}

impl RecordCache {
    pub(crate) fn new(budget: CacheBudget) -> Self {
        Self {
            budget,
            accounted: 0,
            bytes: 0,
            slots: Vec::new(),
            vacant: Vec::new(),
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            newest: NONE,
            oldest: NONE,
            dirty: BTreeMap::new(),
            next_number: 0,
            deleted: Vec::new(),
            journal: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Holds a change back, in the place of an earlier one of its key. `extra_bytes` is what Java's keys and values have that these have not.
    pub(super) fn put(&mut self, mut change: CachedChange, extra_bytes: usize) {
        let origin = &change.origin;
        let headers = origin
            .headers
            .iter()
            .map(|header| header.key.len() + header.value.as_ref().map_or(0, Bytes::len));
        let bytes = ENTRY_OVERHEAD_BYTES
            + change.key.len()
            + change.new.as_ref().map_or(0, Bytes::len)
            + extra_bytes
            + origin.topic.len()
            + headers.sum::<usize>();
        let key = change.key.clone();
        let found = self.find(&key);
        let before = found.map(|id| self.slots[id as usize].content.clone());
        if let Some((_, earlier)) = before.as_ref().and_then(|before| before.change.as_ref()) {
            change.old.clone_from(&earlier.old);
        }
        let content = Content { bytes, change: Some((self.next_number, change)) };
        self.next_number += 1;
        self.journal.push((key.clone(), before));
        self.set(&key, content);
        self.account();
    }

    /// Notes that a row was read: a key that is not here gets a clean entry, if it has a value, of `value_bytes`.
    pub(super) fn read(&mut self, key: &[u8], value_bytes: Option<usize>) {
        if self.touch(key) {
            return;
        }
        if let Some(value_bytes) = value_bytes {
            let bytes = ENTRY_OVERHEAD_BYTES + key.len() + value_bytes;
            self.set(&Bytes::copy_from_slice(key), Content { bytes, change: None });
            self.account();
            self.evict_clean();
        }
    }

    /// Drops entries that need not be forwarded, as far as the thread's caches are too large.
    fn evict_clean(&mut self) {
        while self.oldest != NONE && self.budget.is_exceeded() {
            let Slot { key, content, .. } = &self.slots[self.oldest as usize];
            if content.change.is_some() {
                return;
            }
            self.figures.evictions += 1;
            self.remove(&key.clone());
            self.account();
        }
    }

    /// Notes that a row was looked for; says whether its key is here.
    pub(super) fn touch(&mut self, key: &[u8]) -> bool {
        let Some(id) = self.find(key) else {
            self.figures.misses += 1;
            return false;
        };
        self.figures.hits += 1;
        self.unlink(id);
        self.link_newest(id);
        true
    }

    /// Takes the change that was put first; its entry stays, clean.
    pub(crate) fn take_first(&mut self) -> Option<CachedChange> {
        let (_, id) = self.dirty.pop_first()?;
        let slot = &mut self.slots[id as usize];
        self.journal.push((slot.key.clone(), Some(slot.content.clone())));
        let (_, change) = slot.content.change.take().expect("dirty lists entries with a change");
        if change.new.is_none() {
            self.deleted.push(slot.key.clone());
        }
        Some(change)
    }

    /// Where the thread's caches are too large, drops the entry of this one that was used least recently; `None` where they are not, or
    /// this one is empty. A dropped change is handed out with all others after it, since the order of changes would be lost otherwise.
    pub(crate) fn evict(&mut self) -> Option<Vec<CachedChange>> {
        if self.oldest == NONE || !self.budget.is_exceeded() {
            return None;
        }
        self.figures.evictions += 1;
        let key = self.slots[self.oldest as usize].key.clone();
        let content = self.remove(&key);
        self.journal.push((key, content.clone()));
        let mut changes = Vec::new();
        if let Some((_, evicted)) = content.and_then(|content| content.change) {
            changes.push(evicted);
            changes.extend(std::iter::from_fn(|| self.take_first()));
        }
        Some(changes)
    }

    /// After what was handed out is forwarded.
    pub(crate) fn settle(&mut self) {
        for key in std::mem::take(&mut self.deleted) {
            let clean = self.find(&key).is_some_and(|id| {
                let slot = &self.slots[id as usize];
                slot.content.change.is_none()
            });
            if clean {
                let before = self.remove(&key);
                self.journal.push((key, before));
            }
        }
        self.account();
    }

    /// How many changes are held back.
    pub(crate) fn changes(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hits, misses and evictions since this was asked last.
    pub(crate) fn take_figures(&mut self) -> [u64; 3] {
        let Figures { hits, misses, evictions } = std::mem::take(&mut self.figures);
        [hits, misses, evictions]
    }

    pub(super) fn accept_record(&mut self) {
        self.journal.clear();
    }

    pub(super) fn undo_record(&mut self) {
        while let Some((key, before)) = self.journal.pop() {
            match before {
                None => {
                    self.remove(&key);
                }
                Some(before) => self.set(&key, before),
            }
        }
        self.deleted.clear();
        self.account();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.vacant.clear();
        self.index.clear();
        (self.newest, self.oldest) = (NONE, NONE);
        self.dirty.clear();
        self.deleted.clear();
        self.journal.clear();
        self.bytes = 0;
        self.account();
    }

    fn account(&mut self) {
        self.budget.replace(self.accounted, self.bytes);
        self.accounted = self.bytes;
    }

    fn find(&self, key: &[u8]) -> Option<SlotId> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let is_key = |id: &SlotId| {
            let slot = &slots[*id as usize];
            slot.hash == hash && slot.key == key
        };
        self.index.find(hash, is_key).copied()
    }

    /// Gives the entry of `key` its content; it is the one used last.
    fn set(&mut self, key: &Bytes, content: Content) {
        let id = match self.find(key) {
            Some(id) => {
                self.unlink(id);
                id
            }
            None => self.insert(key),
        };
        let number = content.change.as_ref().map(|(number, _)| *number);
        self.bytes += content.bytes;
        let before = std::mem::replace(&mut self.slots[id as usize].content, content);
        self.bytes -= before.bytes;
        if let Some((number, _)) = before.change {
            self.dirty.remove(&number);
        }
        if let Some(number) = number {
            self.dirty.insert(number, id);
        }
        self.link_newest(id);
    }

    fn insert(&mut self, key: &Bytes) -> SlotId {
        let hash = self.hasher.hash_one(&key[..]);
        let content = Content { bytes: 0, change: None };
        let slot = Slot { key: key.clone(), hash, content, newer: NONE, older: NONE };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                SlotId::try_from(self.slots.len() - 1).expect("the budget is below 2^32 entries")
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |id| slots[*id as usize].hash);
        id
    }

    fn remove(&mut self, key: &[u8]) -> Option<Content> {
        let id = self.find(key)?;
        self.unlink(id);
        let slot = &mut self.slots[id as usize];
        let hash = slot.hash;
        let content = std::mem::replace(&mut slot.content, Content { bytes: 0, change: None });
        slot.key = Bytes::new();
        self.bytes -= content.bytes;
        if let Some((number, _)) = &content.change {
            self.dirty.remove(number);
        }
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.vacant.push(id);
        Some(content)
    }

    fn unlink(&mut self, id: SlotId) {
        let Slot { newer, older, .. } = self.slots[id as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, id: SlotId) {
        let newest = std::mem::replace(&mut self.newest, id);
        let slot = &mut self.slots[id as usize];
        (slot.newer, slot.older) = (NONE, newest);
        match newest {
            NONE => self.oldest = id,
            newest => self.slots[newest as usize].newer = id,
        }
    }
}

impl Drop for RecordCache {
    fn drop(&mut self) {
        self.budget.replace(self.accounted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    fn origin(offset: i64) -> Origin {
        let timestamp = Timestamp::from_millis(offset);
        Origin { timestamp, offset, topic: "in".into(), partition: 0, headers: Headers::default() }
    }

    /// A change of 45 + 1 + 1 + 2 bytes.
    fn change(
        key: &'static str,
        old: Option<&'static str>,
        new: Option<&'static str>,
    ) -> CachedChange {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let (key, old, new) = (bytes(key), old.map(bytes), new.map(bytes));
        CachedChange { key, old, new, timestamp: Timestamp::default(), origin: origin(0) }
    }

    fn put(cache: &mut RecordCache, key: &'static str, new: &'static str) {
        cache.put(change(key, None, Some(new)), 0);
        cache.accept_record();
    }

    fn cache(bytes_max: usize) -> RecordCache {
        RecordCache::new(CacheBudget::new(bytes_max))
    }

    fn drain(cache: &mut RecordCache) -> Vec<String> {
        let changes = std::iter::from_fn(|| cache.take_first()).collect();
        cache.settle();
        cache.accept_record();
        texts(changes)
    }

    fn texts(changes: Vec<CachedChange>) -> Vec<String> {
        let text = |value: &Option<Bytes>| {
            value.as_ref().map_or("-".to_owned(), |value| value.escape_ascii().to_string())
        };
        let line = |change: &CachedChange| {
            format!("{}:{}>{}", change.key.escape_ascii(), text(&change.old), text(&change.new))
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn a_key_has_one_change_from_what_it_was_first_to_what_it_is_last_in_the_order_of_last_puts() {
        let mut cache = cache(1000);
        cache.put(change("a", Some("0"), Some("1")), 0);
        cache.put(change("b", None, Some("1")), 0);
        cache.put(change("a", Some("1"), None), 0);
        assert_eq!(drain(&mut cache), ["b:->1", "a:0>-"]);
        assert_eq!((cache.changes(), drain(&mut cache)), (0, vec![]));
        // The entry of the deleted key is gone, that of the other is clean.
        assert_eq!((cache.touch(b"a"), cache.touch(b"b")), (false, true));
    }

    /// As `NamedCache` counts: 24 for the node, 21 for flag, timestamp, offset and partition; then the bytes themselves.
    #[test]
    fn entries_are_as_large_as_javas() {
        let mut cache = cache(1000);
        cache.put(change("key", None, Some("value")), 8);
        assert_eq!(cache.bytes(), 24 + 21 + 3 + 5 + 8 + 2);
        let mut with_headers = change("key", None, None);
        with_headers.origin.headers.add("h", Some(Bytes::from_static(b"12")));
        cache.put(with_headers, 0);
        assert_eq!(cache.bytes(), 24 + 21 + 3 + 2 + 1 + 2);
        cache.read(b"other", Some(4));
        assert_eq!(cache.bytes(), 24 + 21 + 3 + 2 + 1 + 2 + 24 + 21 + 5 + 4);
    }

    #[test]
    fn the_entry_used_least_recently_goes_first_and_takes_all_changes_along() {
        let mut cache = cache(3 * 49);
        for key in ["a", "b", "c"] {
            put(&mut cache, key, "1");
        }
        assert_eq!(cache.evict(), None, "exactly full");
        cache.touch(b"a");
        put(&mut cache, "d", "1");
        let evicted = cache.evict().unwrap();
        cache.settle();
        assert_eq!(texts(evicted), ["b:->1", "a:->1", "c:->1", "d:->1"]);
        assert_eq!(cache.evict(), None);
        // Clean entries go without a word.
        put(&mut cache, "e", "1");
        assert_eq!(cache.evict(), Some(Vec::new()));
        cache.settle();
        assert_eq!((cache.touch(b"c"), cache.touch(b"a"), cache.changes()), (false, true, 1));
    }

    #[test]
    fn reads_make_room_among_clean_entries_only() {
        let mut cache = cache(2 * 49);
        cache.read(b"a", Some(3));
        put(&mut cache, "b", "1");
        cache.read(b"c", Some(3));
        assert!(!cache.touch(b"a"), "it was clean");
        cache.read(b"d", Some(3));
        assert_eq!(cache.bytes(), 3 * 49, "the oldest has a change");
        cache.read(b"absent", None);
        assert_eq!(cache.bytes(), 3 * 49);
        assert_eq!(drain(&mut cache), ["b:->1"]);
    }

    #[test]
    fn a_record_that_failed_leaves_everything_as_it_was_evictions_too() {
        let mut cache = cache(3 * 49);
        for key in ["a", "b", "c"] {
            put(&mut cache, key, "1");
        }
        let bytes = cache.bytes();
        cache.put(change("a", Some("1"), Some("22")), 0);
        cache.put(change("d", None, Some("1")), 0);
        while cache.evict().is_some() {
            cache.settle();
        }
        cache.put(change("b", Some("1"), None), 0);
        assert_eq!(cache.take_first().unwrap().key, "b");
        cache.settle();
        cache.undo_record();
        assert_eq!(cache.bytes(), bytes);
        assert_eq!(drain(&mut cache), ["a:->1", "b:->1", "c:->1"]);
    }

    #[test]
    fn caches_share_their_budget_until_they_are_gone() {
        let budget = CacheBudget::new(2 * 49);
        let mut one = RecordCache::new(budget.clone());
        let mut other = RecordCache::new(budget);
        put(&mut one, "a", "1");
        put(&mut one, "b", "1");
        put(&mut other, "a", "1");
        assert_eq!(texts(other.evict().unwrap()), ["a:->1"], "only the one put into gives way");
        other.settle();
        put(&mut other, "b", "1");
        one.clear();
        assert_eq!(other.evict(), None);
        put(&mut one, "c", "1");
        put(&mut other, "c", "1");
        drop(one);
        assert_eq!(other.evict(), None);
        assert_eq!(drain(&mut other), ["b:->1", "c:->1"]);
    }
}
