//! Timed callbacks of processors, on stream time or on wall-clock time.

use std::time::Duration;

use super::frame::NodeIndex;
use crate::time::Timestamp;

/// Which clock drives a punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// Advances with the records' timestamps only.
    StreamTime,
    /// Advances with the clock of the machine.
    WallClockTime,
}

/// Names one schedule of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PunctuatorId(usize);

#[derive(Debug)]
struct Schedule {
    node: NodeIndex,
    kind: PunctuationType,
    interval_ms: i64,
    next: Timestamp,
    cancelled: bool,
}

/// The schedules of a task.
///
/// Source: `PunctuationQueue`, `PunctuationSchedule`: a schedule that missed several intervals is called once, and stays aligned. Of schedules due
/// at one time, the order is that of Java's `PriorityQueue`.
#[derive(Debug, Default)]
pub(crate) struct PunctuationQueue {
    schedules: Vec<Schedule>,
    /// A heap for each kind, of indices into `schedules`.
    heaps: [Vec<usize>; 2],
}

impl PunctuationQueue {
    pub(crate) fn schedule(
        &mut self,
        node: NodeIndex,
        kind: PunctuationType,
        interval: Duration,
        first: Timestamp,
    ) -> PunctuatorId {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        self.schedules.push(Schedule { node, kind, interval_ms, next: first, cancelled: false });
        let index = self.schedules.len() - 1;
        self.push(kind, index);
        PunctuatorId(index)
    }

    pub(crate) fn cancel(&mut self, id: PunctuatorId) {
        self.schedules[id.0].cancelled = true;
    }

    /// The earliest due time of a kind.
    pub(crate) fn next_due(&self, kind: PunctuationType) -> Option<Timestamp> {
        self.active(kind).map(|(_, schedule)| schedule.next).min()
    }

    /// The earliest schedule due at `now`, advanced past `now`.
    pub(crate) fn take_due(
        &mut self,
        kind: PunctuationType,
        now: Timestamp,
    ) -> Option<(NodeIndex, PunctuatorId)> {
        loop {
            let earliest = *self.heaps[kind as usize].first()?;
            if self.schedules[earliest].next > now {
                return None;
            }
            self.pop(kind);
            let schedule = &mut self.schedules[earliest];
            if schedule.cancelled {
                continue;
            }
            let (next, now, interval) =
                (schedule.next.as_millis(), now.as_millis(), schedule.interval_ms);
            let missed = now.saturating_sub(next) / interval;
            schedule.next =
                Timestamp::from_millis(next.saturating_add((missed + 1).saturating_mul(interval)));
            let node = schedule.node;
            self.push(kind, earliest);
            return Some((node, PunctuatorId(earliest)));
        }
    }

    /// Source: `PriorityQueue.siftUp`.
    fn push(&mut self, kind: PunctuationType, schedule: usize) {
        let Self { schedules, heaps } = self;
        let (heap, next) = (&mut heaps[kind as usize], |index: usize| schedules[index].next);
        let mut place = heap.len();
        heap.push(schedule);
        while place > 0 && next(schedule) < next(heap[(place - 1) / 2]) {
            heap.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    /// Takes the first one off. Source: `PriorityQueue.siftDown`.
    fn pop(&mut self, kind: PunctuationType) {
        let Self { schedules, heaps } = self;
        let (heap, next) = (&mut heaps[kind as usize], |index: usize| schedules[index].next);
        heap.swap_remove(0);
        let mut place = 0;
        while let Some(left) = heap.get(2 * place + 1) {
            let right = heap.get(2 * place + 2);
            let is_right = right.is_some_and(|right| next(*left) > next(*right));
            let child = 2 * place + 1 + usize::from(is_right);
            if next(heap[place]) <= next(heap[child]) {
                break;
            }
            heap.swap(place, child);
            place = child;
        }
    }

    fn active(&self, kind: PunctuationType) -> impl Iterator<Item = (usize, &Schedule)> {
        self.schedules
            .iter()
            .enumerate()
            .filter(move |(_, schedule)| schedule.kind == kind && !schedule.cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: PunctuationType = PunctuationType::StreamTime;

    fn due(queue: &mut PunctuationQueue, now: i64) -> usize {
        let now = Timestamp::from_millis(now);
        std::iter::from_fn(|| queue.take_due(STREAM, now)).count()
    }

    #[test]
    fn missed_intervals_are_called_once_and_stay_aligned() {
        let mut queue = PunctuationQueue::default();
        let start = Timestamp::from_millis(0);
        let id = queue.schedule(NodeIndex(0), STREAM, Duration::from_millis(10), start);
        assert_eq!(due(&mut queue, 3), 1);
        assert_eq!(due(&mut queue, 9), 0);
        assert_eq!(due(&mut queue, 45), 1);
        assert_eq!(queue.next_due(STREAM), Some(Timestamp::from_millis(50)));
        queue.cancel(id);
        assert_eq!(due(&mut queue, 1000), 0);
    }

    /// The order was taken from `java.util.PriorityQueue`.
    #[test]
    fn schedules_due_at_one_time_come_in_javas_order() {
        let mut queue = PunctuationQueue::default();
        let start = Timestamp::from_millis(0);
        for (node, interval) in [5, 17, 10, 5].into_iter().enumerate() {
            queue.schedule(NodeIndex(node), STREAM, Duration::from_millis(interval), start);
        }
        let mut nodes = |now: i64| -> Vec<usize> {
            let now = Timestamp::from_millis(now);
            let due = std::iter::from_fn(|| queue.take_due(STREAM, now));
            due.map(|(node, _)| node.0).collect()
        };
        let found = [0, 5, 12, 20, 85, 170, 340].map(&mut nodes);
        let wanted: [&[usize]; 7] = [
            &[0, 3, 1, 2],
            &[0, 3],
            &[0, 3, 2],
            &[3, 0, 1, 2],
            &[0, 3, 2, 1],
            &[2, 0, 3, 1],
            &[3, 0, 2, 1],
        ];
        assert_eq!(found.each_ref().map(Vec::as_slice), wanted);
    }
}
