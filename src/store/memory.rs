//! Stores in memory: nothing survives the process, the changelog restores everything.
//!
//! For tests, for the local mode and for stores small enough to restore at each start. Lookups go through the row cache
//! above first, so the tree here is not on the hot path.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::{Change, Direction, Engine, EngineIter, Engines, is_empty_range};
use crate::error::Result;

/// An ordered map in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    entries: BTreeMap<Bytes, Bytes>,
    position: Option<i64>,
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.entries.get(key).cloned())
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<EngineIter<'_>> {
        if is_empty_range(from, to) {
            return Ok(Box::new(std::iter::empty()));
        }
        let entries = self
            .entries
            .range::<[u8], _>((from, to))
            .map(|(key, value)| Ok((key.clone(), value.clone())));
        Ok(match direction {
            Direction::Forward => Box::new(entries),
            Direction::Backward => Box::new(entries.rev()),
        })
    }

    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: Option<i64>,
    ) -> Result<()> {
        for (key, value) in changes {
            match value {
                None => {
                    self.entries.remove(key);
                }
                Some(value) => match self.entries.get_mut(key) {
                    Some(old) => *old = Bytes::copy_from_slice(value),
                    None => {
                        let value = Bytes::copy_from_slice(value);
                        self.entries.insert(Bytes::copy_from_slice(key), value);
                    }
                },
            }
        }
        self.position = position.or(self.position);
        Ok(())
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if from < to {
            let range = (Bound::Included(from), Bound::Excluded(to));
            let expired: Vec<Bytes> =
                self.entries.range::<[u8], _>(range).map(|(key, _)| key.clone()).collect();
            for key in expired {
                self.entries.remove(&key);
            }
        }
        Ok(())
    }

    fn position(&self) -> Option<i64> {
        self.position
    }

    fn approximate_entries(&self) -> u64 {
        self.entries.len() as u64
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Opens a new, empty [`MemoryEngine`] each time.
#[derive(Debug, Default, Clone, Copy)]
pub struct MemoryEngines;

impl Engines for MemoryEngines {
    fn open(&self, _: &Path, _: &str) -> Result<Box<dyn Engine>> {
        Ok(Box::<MemoryEngine>::default())
    }

    fn wipe(&self, _: &Path, _: &str) -> Result<()> {
        Ok(())
    }

    fn is_persistent(&self) -> bool {
        false
    }
}
