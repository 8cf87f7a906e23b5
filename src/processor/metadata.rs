//! What processors keep with the committed offsets: named times, such as the one up to which final windows have been sent.
//!
//! Processors write during a record, through their context; the task keeps, undoes, commits and rewinds it with the record's
//! other effects. Source: `ProcessorMetadata`. Deliberately absent: the offsets' own metadata, which it becomes a part of.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::time::Timestamp;

/// Named times of a task's processors.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessorMetadata {
    times: BTreeMap<Arc<str>, Timestamp>,
    committed: BTreeMap<Arc<str>, Timestamp>,
    /// Written by the record in hand.
    pending: Vec<(Arc<str>, Timestamp)>,
    is_dirty: bool,
}

impl ProcessorMetadata {
    /// What was committed, the latest time of each name.
    pub(crate) fn restored(
        committed: impl IntoIterator<Item = (Arc<str>, Timestamp)>,
    ) -> ProcessorMetadata {
        let mut times: BTreeMap<Arc<str>, Timestamp> = BTreeMap::new();
        for (name, time) in committed {
            let latest = times.entry(name).or_insert(time);
            *latest = time.max(*latest);
        }
        ProcessorMetadata { committed: times.clone(), times, ..ProcessorMetadata::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Timestamp> {
        let pending = self.pending.iter().rev().find(|(written, _)| &**written == name);
        pending.map(|(_, time)| *time).or_else(|| self.times.get(name).copied())
    }

    pub(crate) fn put(&mut self, name: &Arc<str>, time: Timestamp) {
        self.pending.push((name.clone(), time));
    }

    /// All times, by name.
    pub(crate) fn times(&self) -> &BTreeMap<Arc<str>, Timestamp> {
        &self.times
    }

    /// Whether anything was kept since the last commit.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The record in hand is done.
    pub(crate) fn keep(&mut self) {
        for (name, time) in self.pending.drain(..) {
            self.times.insert(name, time);
            self.is_dirty = true;
        }
    }

    /// The record in hand has failed.
    pub(crate) fn undo(&mut self) {
        self.pending.clear();
    }

    /// The broker has it.
    pub(crate) fn committed(&mut self) {
        if self.is_dirty {
            self.committed.clone_from(&self.times);
            self.is_dirty = false;
        }
    }

    /// Goes back to what the broker has.
    pub(crate) fn rewind(&mut self) {
        self.pending.clear();
        if self.is_dirty {
            self.times.clone_from(&self.committed);
            self.is_dirty = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_failed_record_leaves_nothing_and_an_abort_goes_back_to_the_commit() {
        let name: Arc<str> = "store".into();
        let mut metadata = ProcessorMetadata::restored([(name.clone(), at(5))]);
        metadata.put(&name, at(7));
        assert_eq!(metadata.get("store"), Some(at(7)));
        metadata.undo();
        assert_eq!((metadata.get("store"), metadata.is_dirty()), (Some(at(5)), false));
        metadata.put(&name, at(8));
        metadata.keep();
        assert!(metadata.is_dirty());
        metadata.rewind();
        assert_eq!((metadata.get("store"), metadata.is_dirty()), (Some(at(5)), false));
        metadata.put(&name, at(9));
        metadata.keep();
        metadata.committed();
        metadata.rewind();
        assert_eq!(metadata.get("store"), Some(at(9)));
    }

    #[test]
    fn partitions_that_disagree_give_the_latest_time() {
        let name: Arc<str> = "store".into();
        let committed = [(name.clone(), at(5)), (name.clone(), at(9)), (name, at(7))];
        assert_eq!(ProcessorMetadata::restored(committed).get("store"), Some(at(9)));
    }
}
