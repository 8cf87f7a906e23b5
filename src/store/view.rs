//! Committed state, read from any thread: what interactive queries see.
//!
//! An [`Engine`](super::Engine) hands out views of itself. A view never sees what is uncommitted (that lies above the engine),
//! never touches the thread of the task, and holds nothing of the engine between two calls: it reads a page at a time, so
//! that neither a commit nor the closing of the store waits for more than one page. A page is one committed state; two
//! pages of a scan may stand before and after a commit.
//! The rejected alternative, commands to the stream thread, would make a query wait for a slice of records and a broker's
//! commit, and a scan hold up the records.

use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{Direction, Entry};
use crate::error::{Error, Result};

/// How much a page has at most; the entry that exceeds the bytes is still in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl PageLimits {
    /// Takes entries while the limits allow it.
    pub(super) fn collect(
        self,
        entries: &mut dyn Iterator<Item = Result<Entry>>,
    ) -> Result<Vec<Entry>> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < self.entries && bytes < self.bytes {
            let Some(entry) = entries.next() else { break };
            let (key, value) = entry?;
            bytes += key.len() + value.len();
            page.push((key, value));
        }
        Ok(page)
    }
}

/// An engine's committed state for other threads. Every call fails with `Retriable` once the store has been closed here:
/// its task may have moved.
pub trait EngineView: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// The first entries between two bounds, all of one committed state; none: there is nothing between them.
    fn page(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limits: PageLimits,
    ) -> Result<Vec<Entry>>;
    /// About how many entries there are.
    fn approximate_entries(&self) -> Result<u64>;
    /// What the engine says under a name of its own, for metrics; `None`: it knows no such name, or is closed.
    fn property(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }
    /// The changelog position of that state; `None`: never written.
    fn position(&self) -> Result<Option<i64>>;
}

/// A read-only view of a store of any type, as its task hands it out; see [`StateStore::view`](super::StateStore::view).
#[derive(Clone)]
pub struct StoreView {
    /// Whatever the type of store reads through; asked for by its type.
    pub typed: Arc<dyn Any + Send + Sync>,
    /// The name of that type, for messages.
    pub type_name: &'static str,
    /// The bytes below.
    pub engine: Arc<dyn EngineView>,
}

/// The error of a view whose store is not open here any more.
pub(super) fn closed(store: &str) -> Error {
    Error::retriable(format!(
        "reading store \"{store}\": found it closed, wanted it open; its task may have moved: ask for its owner again"
    ))
}
