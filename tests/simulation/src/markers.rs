//! How the decision about a transaction reaches logs and offsets: by markers, which take their time.

use std::time::Duration;

use kstreams::TopicPartition;

use crate::broker::{Ended, State as EntryState};
use crate::world::{Event, State};

impl State {
    /// Sends the markers of a transaction that was just decided.
    pub(crate) fn send_markers(&mut self, id: &str) {
        let Some(transaction) = self.broker.transactions.by_id.get(id) else { return };
        let mut to: Vec<Option<TopicPartition>> =
            transaction.partitions.iter().cloned().map(Some).collect();
        if !transaction.offsets.is_empty() {
            to.push(None);
        }
        if to.is_empty() {
            self.complete(id);
        }
        for partition in to {
            let longest = if self.is_troubled() { self.faults.marker_ms_max } else { 5 };
            let travel = Duration::from_micros(self.rng.u64(100..longest.max(1) * 1000));
            self.later(travel, Event::Marker(id.to_owned(), partition));
        }
    }

    /// A marker arrives: at a partition, or at the group's offsets.
    pub(crate) fn write_marker(&mut self, id: &str, partition: Option<&TopicPartition>) {
        let Some(transaction) = self.broker.transactions.by_id.get_mut(id) else { return };
        let (producer, ended) = (transaction.producer, transaction.decision());
        match partition {
            Some(partition) => {
                transaction.partitions.remove(partition);
                let decided = match ended {
                    Ended::Committed => EntryState::Committed,
                    Ended::Aborted => EntryState::Aborted,
                };
                if let Some(log) = self.broker.log(partition) {
                    log.mark(producer, decided);
                }
                self.note(|| format!("marker of {id} on {partition}: {ended:?}"));
                self.wake_readers();
            }
            None => {
                let offsets = std::mem::take(&mut transaction.offsets);
                if ended == Ended::Committed {
                    for (partition, committed) in offsets {
                        self.commit_offset(partition, committed);
                    }
                }
            }
        }
        self.complete(id);
    }

    fn complete(&mut self, id: &str) {
        if let Some(transaction) = self.broker.transactions.by_id.get_mut(id) {
            transaction.complete_if_marked();
        }
    }
}
