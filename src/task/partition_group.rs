//! The input of a task: a queue for each partition, and which record is next.

use std::collections::VecDeque;
use std::time::Duration;

use crate::processor::NodeIndex;
use crate::record::RawRecord;
use crate::time::Timestamp;

/// One input partition.
#[derive(Debug)]
pub(crate) struct Queue {
    /// The source node that reads it.
    pub(crate) source: NodeIndex,
    pub(crate) records: VecDeque<RawRecord>,
    pub(crate) bytes: usize,
    /// Event time of the first record, once it has been read into its source node.
    pub(crate) head: Option<Timestamp>,
    /// The highest event time seen.
    pub(crate) partition_time: Option<Timestamp>,
    /// The offset after the last record that is done; `None`: nothing done yet.
    pub(crate) consumed: Option<i64>,
    /// `consumed` has moved since the last commit.
    pub(crate) is_dirty: bool,
    /// Nothing more lies on the broker, as far as was seen.
    caught_up: bool,
    /// Since when the queue has been empty and caught up, for `max.task.idle.ms`.
    idle_since: Option<Timestamp>,
}

/// The queues of a task. Source: `PartitionGroup`.
#[derive(Debug)]
pub(crate) struct PartitionGroup {
    pub(crate) queues: Vec<Queue>,
    /// `None`: never wait for data (`max.task.idle.ms = -1`).
    max_task_idle: Option<Duration>,
}

impl PartitionGroup {
    pub(crate) fn new(sources: &[NodeIndex], max_task_idle: Option<Duration>) -> Self {
        let queue = |source: &NodeIndex| Queue {
            source: *source,
            records: VecDeque::new(),
            bytes: 0,
            head: None,
            partition_time: None,
            consumed: None,
            is_dirty: false,
            caught_up: false,
            idle_since: None,
        };
        Self { queues: sources.iter().map(queue).collect(), max_task_idle }
    }

    pub(crate) fn push(&mut self, partition: usize, record: RawRecord) {
        let queue = &mut self.queues[partition];
        queue.bytes += record.size_bytes();
        queue.records.push_back(record);
        queue.idle_since = None;
    }

    /// Tells what the consumer saw after its records: whether it stands at the partition's end.
    pub(crate) fn set_caught_up(&mut self, partition: usize, caught_up: bool) {
        self.queues[partition].caught_up = caught_up;
    }

    /// The first record of a queue is done.
    pub(crate) fn pop(&mut self, partition: usize) {
        let queue = &mut self.queues[partition];
        let record = queue.records.pop_front().expect("a record is done that was the first");
        queue.bytes -= record.size_bytes();
        queue.head = None;
        queue.consumed = Some(record.offset + 1);
        queue.is_dirty = true;
    }

    /// The queue whose first record has the smallest event time, if the task need not wait for another queue.
    ///
    /// An empty queue whose partition has more on the broker is waited for, so that records are taken in event-time order;
    /// one that is caught up is waited for as long as `max.task.idle.ms` says. Ties go to the first queue.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<usize> {
        let mut next: Option<(usize, Timestamp)> = None;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let Some(head) = queue.head else {
                match self.max_task_idle {
                    None => continue,
                    Some(_) if !queue.caught_up => return None,
                    Some(idle) => {
                        let since = *queue.idle_since.get_or_insert(now);
                        if now.since(since) < idle {
                            return None;
                        }
                        continue;
                    }
                }
            };
            if next.is_none_or(|(_, smallest)| head < smallest) {
                next = Some((index, head));
            }
        }
        next.map(|(index, _)| index)
    }

    pub(crate) fn buffered_records(&self) -> usize {
        self.queues.iter().map(|queue| queue.records.len()).sum()
    }

    /// Forgets what is buffered and what was done since the last commit (rewind).
    pub(crate) fn clear(&mut self) {
        for queue in &mut self.queues {
            queue.records.clear();
            queue.bytes = 0;
            queue.head = None;
            queue.consumed = None;
            queue.is_dirty = false;
            queue.caught_up = false;
            queue.idle_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    fn record(offset: i64) -> RawRecord {
        let timestamp = Timestamp::from_millis(offset);
        RawRecord { offset, timestamp, key: None, value: None, headers: Headers::default() }
    }

    fn group(idle: Option<u64>) -> PartitionGroup {
        let idle = idle.map(Duration::from_millis);
        PartitionGroup::new(&[NodeIndex(0), NodeIndex(1)], idle)
    }

    fn head(group: &mut PartitionGroup, partition: usize, time: i64) {
        group.push(partition, record(time));
        group.queues[partition].head = Some(Timestamp::from_millis(time));
    }

    #[test]
    fn smallest_timestamp_first_and_ties_to_the_first_queue() {
        let mut group = group(Some(0));
        head(&mut group, 0, 7);
        head(&mut group, 1, 5);
        assert_eq!(group.next(Timestamp::MIN), Some(1));
        group.pop(1);
        head(&mut group, 1, 7);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
    }

    #[test]
    fn empty_partition_with_data_on_the_broker_is_waited_for() {
        let mut group = group(Some(0));
        head(&mut group, 0, 7);
        assert_eq!(group.next(Timestamp::MIN), None);
        group.set_caught_up(1, true);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
    }

    #[test]
    fn caught_up_partition_is_waited_for_as_long_as_configured() {
        let mut group = group(Some(100));
        head(&mut group, 0, 7);
        group.set_caught_up(1, true);
        assert_eq!(group.next(Timestamp::from_millis(1000)), None);
        assert_eq!(group.next(Timestamp::from_millis(1099)), None);
        assert_eq!(group.next(Timestamp::from_millis(1100)), Some(0));
    }

    #[test]
    fn without_idling_nothing_is_waited_for() {
        let mut group = group(None);
        head(&mut group, 0, 7);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
    }
}
