//! The rows a store holds in memory: uncommitted (dirty) ones, and committed (clean) ones as a cache.
//!
//! A slab of rows with a hash index of row numbers beside it, so that the journal and the list of dirty rows name a row by
//! number, and the clock hand that evicts walks plain memory. Used by [`TransactionalStore`](super::TransactionalStore)
//! only. Hot path: `find`, `replace`. Deliberately absent: the engine, and what an undo means.

use std::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::HashTable;

use crate::time::Timestamp;

/// What a row costs beside its key and value: the slab's slot with slack, the index, two allocation headers.
const ROW_OVERHEAD_BYTES: usize = 160;

/// Rows that one insertion looks at in search of one to evict, so that pinned (dirty) rows cannot make it slow.
const EVICTION_STEPS_MAX: usize = 32;

/// The number of a row; stays the same while the row is in memory, dirty rows always are.
pub(super) type RowId = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    /// A free slot.
    Vacant,
    /// Equal to the engine's entry.
    Clean,
    /// Not in the engine yet; pinned.
    Dirty,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Bytes,
    /// `None`: there is no such entry, or it is deleted.
    pub(super) value: Option<Bytes>,
    /// The timestamp of the value, or of the record that wrote it.
    pub(super) timestamp: Timestamp,
    hash: u64,
    state: RowState,
    /// Used since the clock hand came past last.
    is_referenced: bool,
    /// Whether the journal of the record in hand has the row's earlier content.
    pub(super) is_journalled: bool,
}

impl Row {
    /// Whether it is known that the engine has no such entry.
    pub(super) fn is_absent(&self) -> bool {
        self.value.is_none() && self.state == RowState::Clean
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES
    }
}

/// What a row held before it was replaced.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) value: Option<Bytes>,
    pub(super) timestamp: Timestamp,
    pub(super) state: RowState,
}

pub(super) struct Rows {
    slots: Vec<Row>,
    vacant: Vec<RowId>,
    index: HashTable<RowId>,
    hasher: foldhash::fast::RandomState,
    hand: usize,
    clean_count: usize,
    clean_bytes: usize,
    dirty_bytes: usize,
    bytes_max: usize,
}

impl Rows {
    /// `bytes_max` limits clean and dirty rows together; dirty ones are never evicted, so they may exceed it.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            hand: 0,
            clean_count: 0,
            clean_bytes: 0,
            dirty_bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.clean_bytes + self.dirty_bytes
    }

    #[inline]
    pub(super) fn row(&self, id: RowId) -> &Row {
        &self.slots[id as usize]
    }

    pub(super) fn row_mut(&mut self, id: RowId) -> &mut Row {
        &mut self.slots[id as usize]
    }

    /// The row of `key`, marked as used.
    #[inline]
    pub(super) fn find(&mut self, hash: u64, key: &[u8]) -> Option<RowId> {
        let slots = &self.slots;
        let id = *self.index.find(hash, |&id| {
            let row = &slots[id as usize];
            row.hash == hash && row.key == key
        })?;
        self.slots[id as usize].is_referenced = true;
        Some(id)
    }

    /// The row of `key`, without marking it as used.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<RowId> {
        let is_key = |&id: &RowId| {
            let row = &self.slots[id as usize];
            row.hash == hash && row.key == key
        };
        self.index.find(hash, is_key).copied()
    }

    /// Forgets the clean rows of keys from `from` on and before `to`. Looks at every row.
    pub(super) fn remove_between(&mut self, from: &[u8], to: &[u8]) {
        for id in 0..self.slots.len() {
            let row = &self.slots[id];
            if row.state == RowState::Clean && row.key.as_ref() >= from && row.key.as_ref() < to {
                self.remove(RowId::try_from(id).expect("insert counts rows so"));
            }
        }
    }

    /// Adds the row of a key that [`find`](Self::find) has not found. May evict others.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: Bytes,
        value: Option<Bytes>,
        timestamp: Timestamp,
        state: RowState,
    ) -> RowId {
        // Before the insertion, so that the new row itself stays: the caller is about to read it.
        self.evict(EVICTION_STEPS_MAX);
        // A row starts without a second chance: keys that are read once leave before those read twice.
        let row =
            Row { key, value, timestamp, hash, state, is_referenced: false, is_journalled: false };
        let bytes = row.bytes();
        let id = match self.vacant.pop() {
            Some(id) => {
                self.slots[id as usize] = row;
                id
            }
            None => {
                let id = RowId::try_from(self.slots.len()).expect("2^32 rows exceed any memory");
                self.slots.push(row);
                id
            }
        };
        self.add(state, bytes);
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |&id| slots[id as usize].hash);
        id
    }

    /// Gives a row new content and returns what it held.
    #[inline]
    pub(super) fn replace(
        &mut self,
        id: RowId,
        value: Option<Bytes>,
        timestamp: Timestamp,
        state: RowState,
    ) -> Before {
        let row = &mut self.slots[id as usize];
        let bytes_before = row.bytes();
        let before = Before {
            value: std::mem::replace(&mut row.value, value),
            timestamp: std::mem::replace(&mut row.timestamp, timestamp),
            state: std::mem::replace(&mut row.state, state),
        };
        let bytes = row.bytes();
        self.subtract(before.state, bytes_before);
        self.add(state, bytes);
        before
    }

    /// Marks a row as equal to the engine's entry.
    pub(super) fn mark_clean(&mut self, id: RowId) {
        let row = &mut self.slots[id as usize];
        let before = std::mem::replace(&mut row.state, RowState::Clean);
        let bytes = row.bytes();
        self.subtract(before, bytes);
        self.add(RowState::Clean, bytes);
    }

    /// Forgets a row.
    pub(super) fn remove(&mut self, id: RowId) {
        let row = &mut self.slots[id as usize];
        let (state, bytes, hash) = (row.state, row.bytes(), row.hash);
        row.state = RowState::Vacant;
        row.key = Bytes::new();
        row.value = None;
        row.is_journalled = false;
        self.subtract(state, bytes);
        if let Ok(entry) = self.index.find_entry(hash, |&found| found == id) {
            entry.remove();
        }
        self.vacant.push(id);
    }

    /// Evicts clean rows until the limit is kept or only dirty ones are left.
    pub(super) fn evict_all(&mut self) {
        self.evict(2 * self.slots.len());
    }

    /// Second chance: the hand clears the mark of a row used since its last visit, and evicts one that was not.
    fn evict(&mut self, steps_max: usize) {
        for _ in 0..steps_max {
            if self.bytes() <= self.bytes_max || self.clean_count == 0 {
                return;
            }
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let row = &mut self.slots[self.hand];
            if row.state != RowState::Clean {
                continue;
            }
            if std::mem::take(&mut row.is_referenced) {
                continue;
            }
            self.remove(self.hand as RowId);
        }
    }

    #[inline]
    fn add(&mut self, state: RowState, bytes: usize) {
        match state {
            RowState::Vacant => {}
            RowState::Clean => {
                self.clean_count += 1;
                self.clean_bytes += bytes;
            }
            RowState::Dirty => self.dirty_bytes += bytes,
        }
    }

    #[inline]
    fn subtract(&mut self, state: RowState, bytes: usize) {
        match state {
            RowState::Vacant => {}
            RowState::Clean => {
                self.clean_count -= 1;
                self.clean_bytes -= bytes;
            }
            RowState::Dirty => self.dirty_bytes -= bytes,
        }
    }
}

/// Orders as the key does, as far as it goes: a shorter key's missing bytes count as zero.
pub(super) fn key_prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(rows: &mut Rows, key: &str, state: RowState) -> RowId {
        let key = Bytes::copy_from_slice(key.as_bytes());
        rows.insert(rows.hash(&key), key, None, Timestamp::default(), state)
    }

    fn is_present(rows: &Rows, key: &str) -> bool {
        rows.slots.iter().any(|row| row.state != RowState::Vacant && row.key == key.as_bytes())
    }

    #[test]
    fn used_rows_outlive_unused_ones_and_the_limit_holds() {
        let row_bytes = ROW_OVERHEAD_BYTES + 4;
        let mut rows = Rows::new(10 * row_bytes);
        insert(&mut rows, "hot1", RowState::Clean);
        for i in 0..1000 {
            assert!(rows.find(rows.hash(b"hot1"), b"hot1").is_some());
            insert(&mut rows, &format!("{i:04}"), RowState::Clean);
            assert!(rows.bytes() <= 11 * row_bytes);
        }
        assert!(is_present(&rows, "hot1"));
        assert!(!is_present(&rows, "0000"));
    }

    #[test]
    fn dirty_rows_are_pinned() {
        let mut rows = Rows::new(0);
        let ids: Vec<_> =
            (0..50).map(|i| insert(&mut rows, &format!("{i:04}"), RowState::Dirty)).collect();
        rows.evict_all();
        assert!((0..50).all(|i| is_present(&rows, &format!("{i:04}"))));
        for id in ids {
            rows.mark_clean(id);
        }
        rows.evict_all();
        assert_eq!((rows.bytes(), rows.clean_count, rows.index.len()), (0, 0, 0));
    }
}
