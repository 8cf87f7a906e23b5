//! One partition: records and markers by offset, and what readers of committed records may see of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use kstreams::{Headers, RawRecord, Timestamp};

use super::ProducerId;

/// Whether an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its transaction is open, or it was decided and the marker is on its way.
    Open(ProducerId),
    Committed,
    Aborted,
    /// No record: the end of a transaction.
    Marker,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
}

#[derive(Default)]
pub(crate) struct Log {
    start: i64,
    entries: Vec<Entry>,
    /// First offset of each open transaction.
    open: BTreeMap<ProducerId, i64>,
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

impl Log {
    /// The first offset that was not deleted.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The high watermark.
    pub(crate) fn end(&self) -> i64 {
        i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    /// The last stable offset: before the first record of an open transaction.
    pub(crate) fn stable_end(&self) -> i64 {
        self.open.values().min().copied().unwrap_or_else(|| self.end())
    }

    pub(crate) fn append(&mut self, entry: Entry) -> i64 {
        let offset = self.end();
        if let State::Open(producer) = entry.state {
            self.open.entry(producer).or_insert(offset);
        }
        self.entries.push(entry);
        offset
    }

    /// Writes the end of a producer's transaction.
    pub(crate) fn mark(&mut self, producer: ProducerId, decided: State) {
        let Some(first) = self.open.remove(&producer) else { return };
        for entry in &mut self.entries[index(first)..] {
            if entry.state == State::Open(producer) {
                entry.state = decided;
            }
        }
        let nothing = Entry {
            state: State::Marker,
            timestamp: Timestamp::default(),
            key: None,
            value: None,
            headers: Headers::default(),
        };
        self.entries.push(nothing);
    }

    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.stable_end()));
    }

    /// Committed records from `from` on and before `to`.
    pub(crate) fn committed(&self, from: i64, to: i64) -> impl Iterator<Item = RawRecord> {
        let entries = &self.entries[index(from).min(self.entries.len())..];
        let offsets = (from..to).zip(entries);
        offsets.filter(|(_, entry)| entry.state == State::Committed).map(|(offset, entry)| {
            RawRecord {
                offset,
                timestamp: entry.timestamp,
                key: entry.key.clone(),
                value: entry.value.clone(),
                headers: entry.headers.clone(),
            }
        })
    }

    /// Whether all transactions have ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}
