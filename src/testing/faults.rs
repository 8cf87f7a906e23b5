//! What goes wrong in a running application, for tests: a transaction that is aborted, a task that moves.

use std::collections::VecDeque;
use std::path::Path;

use super::TopologyTestDriver;
use super::driver::{Inner, TASK};
use super::reopen::records_of;
use crate::error::{Error, ErrorKind, Result};
use crate::record::RawRecord;

impl TopologyTestDriver {
    /// Pipes records into a topic, processes them, and then aborts, as a stream thread does whose transaction fails: results are
    /// dropped, stores and operators go back to the last commit. Pipe the records again to go on as it would.
    ///
    /// # Errors
    /// As [`pipe_batch`](Self::pipe_batch).
    pub fn pipe_batch_and_abort(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = RawRecord>,
    ) -> Result<()> {
        self.inner.borrow_mut().abort_batch(topic, records)
    }

    /// Closes the task and builds it anew, as a restart or a move to another instance does: stores in memory are restored from their
    /// changelog topics, which must not have been read from, and what else was in memory is lost. Other than
    /// [`reopen_stores`](Self::reopen_stores), which keeps it.
    ///
    /// # Errors
    /// What closing, restoring and a processor's `init` return.
    pub fn restart(&self) -> Result<()> {
        self.inner.borrow_mut().restart()
    }
}

impl Inner {
    /// Aborts where the record cache asks for the input since the last commit again, as a stream thread does; other errors are the caller's.
    pub(super) fn read_again_if_asked<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        let aborts = |error: &Error| error.kind() == ErrorKind::AbortTransaction;
        let task = self.task.as_mut().filter(|task| task.wants_input_again());
        match (outcome, task) {
            (Err(error), Some(task)) if aborts(&error) => {
                task.abort();
                self.sink.sent.clear();
                self.uncommitted
                    .iter()
                    .for_each(|(input, record)| task.push(*input, record.clone()));
                Ok(None)
            }
            (outcome, _) => outcome.map(Some),
        }
    }

    fn restart(&mut self) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let committed = task.committed();
        for store in task.close() {
            store.store.close()?;
        }
        let mut stores = self.builder.open_stores(TASK, Path::new(""))?;
        for store in &mut stores {
            let topic = store.changelog.as_ref().filter(|_| store.store.position().is_none());
            let Some(topic) = topic else { continue };
            let raw = self.source_changelogs.get(topic).or_else(|| self.outputs.get(topic));
            let end = i64::try_from(raw.map_or(0, VecDeque::len)).unwrap_or(i64::MAX);
            store.store.restore(&records_of(raw), end)?;
            store.position = end;
        }
        self.task = Some(self.builder.build(TASK, stores, &committed, &self.counts)?);
        Ok(())
    }
}
