//! Committed offsets, and what follows from them: where a task's inputs go on, and where its restoration ends.

use super::thread::RestoreThread;
use crate::error::{Error, Result};
use crate::ids::{TaskId, TopicPartition};
use crate::kafka::{CommittedOffset, StartOffset};
use crate::task::TaskStore;
use crate::time::Timestamp;
use crate::topology::AutoOffsetReset;

/// Of a task's input partitions, in its order.
pub(super) struct Offsets {
    /// `None`: nothing committed.
    pub(super) committed: Vec<Option<CommittedOffset>>,
    /// Where each is read from.
    pub(super) starts: Vec<StartOffset>,
}

impl RestoreThread {
    /// Waits until no open transaction can change what is committed; one that a dead writer left open is aborted first.
    pub(super) fn offsets_of(&mut self, task: TaskId) -> Result<Offsets> {
        let sources = self.builder.source_partitions(task);
        self.fencer.clear_the_way(task, &sources);
        let committed = self
            .consumer
            .committed(&sources, self.request_timeout)
            .map_err(|e| e.context(format!("committed offsets of task {task}")))?;
        let inputs = sources.iter().zip(&committed);
        let starts = inputs
            .map(|(partition, committed)| self.start_of(partition, committed.as_ref()))
            .collect::<Result<_>>()?;
        Ok(Offsets { committed, starts })
    }

    /// Where the changelog is an input topic, the committed offset: nothing from there on may be applied. 0: nothing is committed.
    pub(super) fn limit(
        &self,
        task: TaskId,
        committed: &[Option<CommittedOffset>],
        store: &TaskStore,
    ) -> Option<i64> {
        let topic = store.changelog.as_ref().filter(|_| store.is_source)?;
        let sources = self.builder.source_partitions(task);
        let input = sources.iter().position(|partition| partition.topic == *topic);
        let committed = input.and_then(|input| committed[input].as_ref());
        Some(committed.map_or(0, |committed| committed.offset))
    }

    /// Where an input partition is read from: where the group goes on, or what the source's policy says where nothing is committed. Source:
    /// `StreamThread.resetOffsets`.
    fn start_of(
        &mut self,
        partition: &TopicPartition,
        committed: Option<&CommittedOffset>,
    ) -> Result<StartOffset> {
        if let Some(committed) = committed {
            return Ok(StartOffset::At(committed.offset));
        }
        let settings = &self.builder.settings;
        let (topology, timeout) = (&self.builder.topology, self.request_timeout);
        // A position is fixed once: after an abort it is read from there again.
        match topology.offset_reset_of(&partition.topic, &settings.application_id) {
            AutoOffsetReset::Earliest => Ok(StartOffset::Beginning),
            AutoOffsetReset::Latest => {
                Ok(StartOffset::At(self.consumer.offsets(partition, timeout)?.1))
            }
            AutoOffsetReset::ByDuration(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                let since = settings.clock.now().as_millis().saturating_sub(age_ms).max(0);
                let since = Timestamp::from_millis(since);
                Ok(StartOffset::At(self.consumer.offset_for_time(partition, since, timeout)?))
            }
            AutoOffsetReset::None => Err(Error::invalid(format!(
                "found no committed offset of {partition}, wanted one, since its source has the offset reset policy None; commit an offset for group \"{}\", or choose another policy",
                settings.application_id
            ))),
        }
    }
}
