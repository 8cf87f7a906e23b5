//! Feeds global stores: to the end of their topics before anything else starts, and on from there.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::TopicPartition;
use crate::kafka::{Admin, Consumer, PartitionSlot, StartOffset};
use crate::record::RawRecord;
use crate::task::{GlobalTask, TaskBuilder};

const BATCH_RECORDS: usize = 1_000;
const WAIT: Duration = Duration::from_millis(100);

struct Feed {
    task: usize,
    slot: PartitionSlot,
    partition: TopicPartition,
    complete: bool,
}

pub(super) struct GlobalThread {
    tasks: Vec<GlobalTask>,
    feeds: Vec<Feed>,
    consumer: Box<dyn Consumer>,
    shared: Arc<Shared>,
}

impl GlobalThread {
    /// Opens the global stores, and enters them into `builder` for the tasks to read.
    ///
    /// A topic of several partitions is read from the beginning, since one position cannot speak for all of them; one of a
    /// single partition goes on where the store stands.
    pub(super) fn open(
        builder: &mut TaskBuilder,
        folder: &Path,
        mut consumer: Box<dyn Consumer>,
        admin: &mut dyn Admin,
        shared: Arc<Shared>,
        timeout: Duration,
    ) -> Result<Self> {
        let (mut tasks, mut feeds) = (Vec::new(), Vec::new());
        for index in 0..builder.topology.global_stores.len() {
            let folder = folder.join("global");
            std::fs::create_dir_all(&folder).map_err(|error| {
                Error::fatal(format!("cannot create \"{}\"", folder.display())).with_source(error)
            })?;
            let task = builder.build_global(index, &folder)?;
            let topic = task.topic.clone();
            let found = admin.describe_topics(&[&topic], timeout)?;
            let partitions = found.get(&*topic).map_or(0, |description| description.partitions);
            let position = task.position().filter(|_| partitions == 1);
            for number in 0..partitions {
                let partition = TopicPartition::new(topic.clone(), number);
                let start = position.map_or(StartOffset::Beginning, StartOffset::At);
                let slot = consumer.assign(&partition, start)?;
                feeds.push(Feed { task: tasks.len(), slot, partition, complete: false });
            }
            let name = builder.topology.global_stores[index].builder.name().clone();
            builder.global_stores.push((name, task.store()));
            tasks.push(task);
        }
        Ok(Self { tasks, feeds, consumer, shared })
    }

    /// Reads to the end of every topic.
    pub(super) fn bootstrap(&mut self) -> Result<()> {
        while self.feeds.iter().any(|feed| !feed.complete) && !self.shared.is_stopping() {
            self.step()?;
        }
        for task in &self.tasks {
            let store = task.store();
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.stores.enter_global(store.name(), store.view());
        }
        Ok(())
    }

    /// Follows the topics until the client stops.
    pub(super) fn run(mut self) {
        while !self.shared.is_stopping() {
            if let Err(error) = self.step() {
                self.shared.fail(error.context("global thread"));
                return;
            }
        }
    }

    fn step(&mut self) -> Result<()> {
        let mut idle = true;
        for feed in &mut self.feeds {
            let task = &mut self.tasks[feed.task];
            let mut next = None;
            let mut outcome = Ok(());
            let mut apply = |record: RawRecord| {
                next = Some(record.offset + 1);
                if outcome.is_ok() {
                    outcome = task.apply(&record);
                }
            };
            let drained = match self.consumer.drain(feed.slot, BATCH_RECORDS, &mut apply) {
                Err(error) if error.kind() == ErrorKind::TaskCorrupted => {
                    tracing::warn!(partition = %feed.partition, error = ?error, "global store does not fit its topic; read from the beginning");
                    self.consumer.unassign(feed.slot)?;
                    feed.slot = self.consumer.assign(&feed.partition, StartOffset::Beginning)?;
                    continue;
                }
                drained => drained?,
            };
            outcome?;
            if let Some(next) = next {
                task.commit(next)?;
                idle = false;
            }
            feed.complete |= drained.end_of_partition.is_some();
        }
        if idle {
            self.consumer.wait(WAIT)?;
        }
        Ok(())
    }
}
