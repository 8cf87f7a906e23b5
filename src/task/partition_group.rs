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
    /// What the broker has: the offset to go on at, and the partition's time there.
    pub(crate) committed: (Option<i64>, Option<Timestamp>),
    /// `consumed` has moved since the last commit.
    pub(crate) is_dirty: bool,
    /// Nothing more lies on the broker, as far as was seen.
    caught_up: bool,
    /// Since when the queue has been empty and caught up, for `max.task.idle.ms`.
    idle_since: Option<Timestamp>,
}

impl Queue {
    fn new(source: NodeIndex) -> Self {
        Self {
            source,
            records: VecDeque::new(),
            bytes: 0,
            head: None,
            partition_time: None,
            consumed: None,
            committed: (None, None),
            is_dirty: false,
            caught_up: false,
            idle_since: None,
        }
    }
}

/// The queues of a task. Source: `PartitionGroup`.
///
/// Of equal timestamps, too, the one comes first that Java would take: the queues lie in a heap like its `PriorityQueue`, so that they take turns.
#[derive(Debug)]
pub(crate) struct PartitionGroup {
    pub(crate) queues: Vec<Queue>,
    /// A binary heap of queues whose heads are known, by event time.
    heap: Vec<usize>,
    /// Queues that were empty and are not any more, in the order in which that happened; not in the heap yet.
    filled: Vec<usize>,
    /// The queue that was taken last, until its next record's time is known.
    taken: Option<Taken>,
    /// `None`: never wait for data (`max.task.idle.ms = -1`).
    max_task_idle: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    queue: usize,
    /// Its first record is still to be done.
    in_hand: bool,
}

impl PartitionGroup {
    pub(crate) fn new(sources: &[NodeIndex], max_task_idle: Option<Duration>) -> Self {
        Self {
            queues: sources.iter().map(|source| Queue::new(*source)).collect(),
            heap: Vec::with_capacity(sources.len()),
            filled: Vec::new(),
            taken: None,
            max_task_idle,
        }
    }

    /// Adds a queue behind the others.
    pub(crate) fn add(&mut self, source: NodeIndex) {
        self.queues.push(Queue::new(source));
    }

    pub(crate) fn push(&mut self, partition: usize, record: RawRecord) {
        let queue = &mut self.queues[partition];
        if queue.records.is_empty() && !self.filled.contains(&partition) {
            self.filled.push(partition);
        }
        queue.bytes += record.size_bytes();
        queue.records.push_back(record);
        queue.idle_since = None;
    }

    /// Tells what the consumer saw after its records: whether it stands at the partition's end.
    pub(crate) fn set_caught_up(&mut self, partition: usize, caught_up: bool) {
        self.queues[partition].caught_up = caught_up;
    }

    /// Whether nothing is left, here or on the broker, as far as was seen.
    pub(crate) fn is_drained(&self) -> bool {
        self.queues.iter().all(|queue| queue.caught_up && queue.records.is_empty())
    }

    /// The first record of a queue is done.
    pub(crate) fn pop(&mut self, partition: usize) {
        let queue = &mut self.queues[partition];
        let record = queue.records.pop_front().expect("a record is done that was the first");
        queue.bytes -= record.size_bytes();
        queue.head = None;
        queue.consumed = Some(record.offset + 1);
        queue.is_dirty = true;
        if let Some(taken) = self.taken.filter(|taken| taken.queue == partition) {
            let left = !queue.records.is_empty();
            self.taken = left.then_some(Taken { in_hand: false, ..taken });
        }
    }

    /// The queue whose first record has the smallest event time, if the task need not wait for another queue.
    ///
    /// An empty queue whose partition has more on the broker is waited for, so that records are taken in event-time order;
    /// one that is caught up is waited for as long as `max.task.idle.ms` says. A record that is still to be done comes again.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<usize> {
        if self.must_wait(now) {
            return None;
        }
        if let Some(Taken { queue, in_hand }) = self.taken.take() {
            if in_hand {
                self.taken = Some(Taken { queue, in_hand });
                return Some(queue);
            }
            self.offer(queue);
        }
        let mut filled = std::mem::take(&mut self.filled);
        filled.drain(..).for_each(|queue| self.offer(queue));
        self.filled = filled;
        let queue = self.poll()?;
        self.taken = Some(Taken { queue, in_hand: true });
        Some(queue)
    }

    fn must_wait(&mut self, now: Timestamp) -> bool {
        let Some(idle) = self.max_task_idle else { return false };
        for queue in self.queues.iter_mut().filter(|queue| queue.head.is_none()) {
            if !queue.caught_up || now.since(*queue.idle_since.get_or_insert(now)) < idle {
                return true;
            }
        }
        false
    }

    /// Puts a queue into the heap, if it has a head. Source: `java.util.PriorityQueue.offer`.
    fn offer(&mut self, queue: usize) {
        if self.queues[queue].head.is_none() {
            return;
        }
        let mut place = self.heap.len();
        self.heap.push(queue);
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.time(queue) >= self.time(self.heap[parent]) {
                break;
            }
            self.heap.swap(place, parent);
            place = parent;
        }
    }

    /// Takes the first queue out of the heap. Source: `java.util.PriorityQueue.poll`.
    fn poll(&mut self) -> Option<usize> {
        let last = self.heap.pop()?;
        let Some(&first) = self.heap.first() else { return Some(last) };
        self.heap[0] = last;
        let mut place = 0;
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let Some(&child) = self.heap.get(left) else { break };
            let smaller = |right: &usize| self.time(child) > self.time(*right);
            let next = if self.heap.get(right).is_some_and(smaller) { right } else { left };
            if self.time(last) <= self.time(self.heap[next]) {
                break;
            }
            self.heap.swap(place, next);
            place = next;
        }
        Some(first)
    }

    fn time(&self, queue: usize) -> Option<Timestamp> {
        self.queues[queue].head
    }

    pub(crate) fn buffered_records(&self) -> usize {
        self.queues.iter().map(|queue| queue.records.len()).sum()
    }

    /// The broker has what was done.
    pub(crate) fn committed(&mut self) {
        for queue in self.queues.iter_mut().filter(|queue| queue.is_dirty) {
            queue.committed = (queue.consumed, queue.partition_time);
            queue.is_dirty = false;
        }
    }

    /// The highest partition time.
    pub(crate) fn stream_time(&self) -> Option<Timestamp> {
        self.queues.iter().filter_map(|queue| queue.partition_time).max()
    }

    /// Forgets what is buffered and what was done since the last commit (rewind).
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.filled.clear();
        self.taken = None;
        for queue in &mut self.queues {
            queue.partition_time = queue.committed.1;
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
    fn smallest_timestamp_first_and_ties_to_the_queue_that_waited_longer() {
        let mut group = group(Some(0));
        head(&mut group, 0, 7);
        head(&mut group, 1, 5);
        assert_eq!(group.next(Timestamp::MIN), Some(1));
        group.pop(1);
        head(&mut group, 1, 7);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
    }

    #[test]
    fn queues_of_equal_timestamps_take_turns() {
        let mut group = group(Some(0));
        for (partition, time) in [(1, 5), (0, 5), (1, 5), (0, 5), (0, 6)] {
            group.push(partition, record(time));
        }
        let mut taken = Vec::new();
        while taken.len() < 5 {
            for queue in &mut group.queues {
                queue.head = queue.records.front().map(|record| record.timestamp);
                queue.caught_up = true;
            }
            let next = group.next(Timestamp::MIN).unwrap();
            taken.push(next);
            group.pop(next);
        }
        assert_eq!(taken, [1, 0, 1, 0, 0]);
        assert_eq!(group.next(Timestamp::MIN), None);
    }

    #[test]
    fn record_that_is_not_done_comes_again_though_an_older_one_has_arrived() {
        let mut group = group(None);
        head(&mut group, 0, 7);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
        head(&mut group, 1, 5);
        assert_eq!(group.next(Timestamp::MIN), Some(0));
        group.pop(0);
        assert_eq!(group.next(Timestamp::MIN), Some(1));
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
