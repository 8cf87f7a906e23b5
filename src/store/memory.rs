//! Stores in memory: nothing survives the process, the changelog restores everything.
//!
//! For tests, for the local mode and for stores small enough to restore at each start. Lookups go through the row cache
//! above first, so the tree here is not on the hot path. The thread of the task is the only writer; the lock is there for
//! queries from other threads, which hold it for a page at most.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::view::{EngineView, PageLimits, closed};
use super::{Change, Direction, Engine, EngineIter, Engines, Entry, is_empty_range};
use crate::error::Result;

/// A scan reads one entry first, which is all that many want, and then pages that double up to this.
const PAGE_ENTRIES_MAX: usize = 256;

/// An ordered map in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    content: Arc<RwLock<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    entries: BTreeMap<Bytes, Bytes>,
    position: Option<i64>,
    is_closed: bool,
}

fn read(content: &RwLock<Content>) -> RwLockReadGuard<'_, Content> {
    content.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(content: &RwLock<Content>) -> RwLockWriteGuard<'_, Content> {
    content.write().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + 'a> {
        if is_empty_range(from, to) {
            return Box::new(std::iter::empty());
        }
        let entries = self.entries.range::<[u8], _>((from, to));
        let entries = entries.map(|(key, value)| Ok((key.clone(), value.clone())));
        match direction {
            Direction::Forward => Box::new(entries),
            Direction::Backward => Box::new(entries.rev()),
        }
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(read(&self.content).entries.get(key).cloned())
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
        Ok(Box::new(Pages {
            content: &self.content,
            from: from.map(Bytes::copy_from_slice),
            to: to.map(Bytes::copy_from_slice),
            direction,
            page: VecDeque::new(),
            page_entries: 1,
            is_ended: false,
        }))
    }

    fn write(
        &mut self,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        position: Option<i64>,
    ) -> Result<()> {
        let mut content = write(&self.content);
        for (key, value) in changes {
            match value {
                None => {
                    content.entries.remove(key);
                }
                Some(value) => match content.entries.get_mut(key) {
                    Some(old) => *old = Bytes::copy_from_slice(value),
                    None => {
                        let value = Bytes::copy_from_slice(value);
                        content.entries.insert(Bytes::copy_from_slice(key), value);
                    }
                },
            }
        }
        content.position = position.or(content.position);
        Ok(())
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if from < to {
            let range = (Bound::Included(from), Bound::Excluded(to));
            let entries = &mut write(&self.content).entries;
            let expired: Vec<Bytes> =
                entries.range::<[u8], _>(range).map(|(key, _)| key.clone()).collect();
            for key in expired {
                entries.remove(&key);
            }
        }
        Ok(())
    }

    fn position(&self) -> Option<i64> {
        read(&self.content).position
    }

    fn approximate_entries(&self) -> u64 {
        read(&self.content).entries.len() as u64
    }

    fn view(&self) -> Arc<dyn EngineView> {
        Arc::new(MemoryView { content: self.content.clone() })
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Drop for MemoryEngine {
    /// A view that is still held somewhere must not keep the state alive.
    fn drop(&mut self) {
        *write(&self.content) = Content { is_closed: true, ..Content::default() };
    }
}

/// The entries of a scan by the thread of the task, which nobody can change meanwhile: it would be the one to.
struct Pages<'a> {
    content: &'a RwLock<Content>,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    direction: Direction,
    page: VecDeque<Entry>,
    page_entries: usize,
    is_ended: bool,
}

impl Iterator for Pages<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.is_ended {
            let (from, to) =
                (self.from.as_ref().map(|key| &**key), self.to.as_ref().map(|key| &**key));
            let content = read(self.content);
            let entries = content.range(from, to, self.direction);
            self.page.extend(entries.take(self.page_entries).filter_map(Result::ok));
            self.is_ended = self.page.len() < self.page_entries;
            self.page_entries = (2 * self.page_entries).min(PAGE_ENTRIES_MAX);
            if let Some((last, _)) = self.page.back() {
                match self.direction {
                    Direction::Forward => self.from = Bound::Excluded(last.clone()),
                    Direction::Backward => self.to = Bound::Excluded(last.clone()),
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

struct MemoryView {
    content: Arc<RwLock<Content>>,
}

impl MemoryView {
    fn open(&self) -> Result<RwLockReadGuard<'_, Content>> {
        let content = read(&self.content);
        if content.is_closed { Err(closed("in memory")) } else { Ok(content) }
    }
}

impl EngineView for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.open()?.entries.get(key).cloned())
    }

    fn page(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Vec<Entry>> {
        limits.collect(&mut *self.open()?.range(from, to, direction))
    }

    fn approximate_entries(&self) -> Result<u64> {
        Ok(self.open()?.entries.len() as u64)
    }

    fn position(&self) -> Result<Option<i64>> {
        Ok(self.open()?.position)
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
