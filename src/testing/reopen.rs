//! Closing and opening stores while a topology runs, which must change nothing.

use std::collections::VecDeque;
use std::path::Path;

use super::driver::{Inner, TopologyTestDriver};
use crate::error::Result;
use crate::record::RawRecord;
use crate::store::ChangelogRecord;

impl TopologyTestDriver {
    /// Commits, closes every store of the tasks, and opens it again; one in memory is restored from its changelog topic, which must not
    /// have been read from. Stores in memory without a changelog stay open, since nothing could bring them back.
    ///
    /// What processors keep outside their stores stays as it is, and so do event times that a changelog does not tell. There is no such method in Kafka Streams.
    ///
    /// # Errors
    /// What stores return.
    pub fn reopen_stores(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.commit()?;
        inner.complete()?;
        let Inner { task, builder, outputs, source_changelogs, .. } = &mut *inner;
        let Some(task) = task else { return Ok(()) };
        task.replace_stores(|store, changelog| {
            let name = store.name().clone();
            let is_persistent = builder.is_persistent(&name);
            if !is_persistent && changelog.is_none() {
                return Ok(store);
            }
            let times = store.times();
            store.close()?;
            let mut store = builder.open_store(&name, Path::new(""))?.store;
            if let Some(topic) = changelog.filter(|_| !is_persistent) {
                let raw = source_changelogs.get(topic).or_else(|| outputs.get(topic));
                let end = raw.map_or(0, VecDeque::len);
                store.restore(&records_of(raw), i64::try_from(end).unwrap_or(i64::MAX))?;
                store.keep_times(&times);
            }
            Ok(store)
        })
    }
}

/// What a changelog restores: records without a key are none of a table's.
pub(super) fn records_of(raw: Option<&VecDeque<RawRecord>>) -> Vec<ChangelogRecord> {
    let record = |raw: &RawRecord| {
        let (key, value, timestamp) = (raw.key.clone()?, raw.value.clone(), raw.timestamp);
        Some(ChangelogRecord { key, value, timestamp, headers: raw.headers.clone() })
    };
    raw.into_iter().flatten().filter_map(record).collect()
}
