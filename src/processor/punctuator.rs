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

/// The first time after another one at which a punctuation is due; `None`: there is none any more.
pub(crate) type NextTime = Box<dyn FnMut(Timestamp) -> Option<Timestamp> + Send>;

/// When a schedule is due again.
enum Rhythm {
    EveryMs(i64),
    By(NextTime),
}

struct Schedule {
    node: NodeIndex,
    kind: PunctuationType,
    rhythm: Rhythm,
    next: Timestamp,
    /// `next` as of the last commit.
    committed: Timestamp,
    cancelled: bool,
}

/// Of a schedule whose rule has ended; it stays, because an abort may take it back.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// The schedules of a task.
///
/// Source: `PunctuationQueue`, `PunctuationSchedule`: a schedule that missed several intervals is called once, and stays aligned. Of schedules due
/// at one time, the order is that of Java's `PriorityQueue`.
#[derive(Default)]
pub(crate) struct PunctuationQueue {
    schedules: Vec<Schedule>,
    /// A heap for each kind, of indices into `schedules`.
    heaps: [Vec<usize>; 2],
    /// The heaps as of the last commit.
    committed: [Vec<usize>; 2],
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
        self.add(node, kind, Rhythm::EveryMs(interval_ms), first)
    }

    /// As [`schedule`](Self::schedule), at the times that a rule gives, the first one after `now`.
    pub(crate) fn schedule_by(
        &mut self,
        node: NodeIndex,
        kind: PunctuationType,
        mut rule: NextTime,
        now: Timestamp,
    ) -> PunctuatorId {
        let first = rule(now).unwrap_or(NEVER);
        self.add(node, kind, Rhythm::By(rule), first)
    }

    fn add(
        &mut self,
        node: NodeIndex,
        kind: PunctuationType,
        rhythm: Rhythm,
        first: Timestamp,
    ) -> PunctuatorId {
        let (next, committed, cancelled) = (first, first, false);
        self.schedules.push(Schedule { node, kind, rhythm, next, committed, cancelled });
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
            let next = self.schedules[earliest].next;
            if next > now || next == NEVER {
                return None;
            }
            self.pop(kind);
            let schedule = &mut self.schedules[earliest];
            if schedule.cancelled {
                continue;
            }
            schedule.next = match &mut schedule.rhythm {
                Rhythm::EveryMs(interval) => {
                    let missed = now.as_millis().saturating_sub(next.as_millis()) / *interval;
                    let later = (missed + 1).saturating_mul(*interval);
                    Timestamp::from_millis(next.as_millis().saturating_add(later))
                }
                // A rule that does not go on would be called for ever.
                Rhythm::By(rule) => {
                    rule(now).map_or(NEVER, |next| next.max(now + Duration::from_millis(1)))
                }
            };
            let node = schedule.node;
            self.push(kind, earliest);
            return Some((node, PunctuatorId(earliest)));
        }
    }

    pub(crate) fn commit(&mut self) {
        self.schedules.iter_mut().for_each(|schedule| schedule.committed = schedule.next);
        self.committed.clone_from(&self.heaps);
    }

    /// Goes back to the last commit: what was called since then has had no effect, and is due again.
    pub(crate) fn abort(&mut self) {
        self.schedules.iter_mut().for_each(|schedule| schedule.next = schedule.committed);
        self.heaps.clone_from(&self.committed);
        for index in 0..self.schedules.len() {
            let kind = self.schedules[index].kind;
            if !self.heaps[kind as usize].contains(&index) {
                self.push(kind, index); // it was scheduled since
            }
        }
    }

    /// Source: `PriorityQueue.siftUp`.
    fn push(&mut self, kind: PunctuationType, schedule: usize) {
        let Self { schedules, heaps, .. } = self;
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
        let Self { schedules, heaps, .. } = self;
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

    #[test]
    fn a_rule_is_asked_for_the_next_time_after_each_call_and_may_end() {
        let mut queue = PunctuationQueue::default();
        // At the squares, up to 100.
        let rule = |after: Timestamp| {
            let mut squares = (0..=10).map(|n: i64| n * n);
            squares.find(|square| *square > after.as_millis()).map(Timestamp::from_millis)
        };
        queue.schedule_by(NodeIndex(0), STREAM, Box::new(rule), Timestamp::from_millis(0));
        assert_eq!(queue.next_due(STREAM), Some(Timestamp::from_millis(1)));
        assert_eq!((due(&mut queue, 0), due(&mut queue, 50)), (0, 1), "missed ones are one call");
        assert_eq!(queue.next_due(STREAM), Some(Timestamp::from_millis(64)));
        queue.commit();
        assert_eq!((due(&mut queue, 100), due(&mut queue, 10_000)), (1, 0));
        queue.abort();
        assert_eq!((due(&mut queue, 70), due(&mut queue, 100), due(&mut queue, 10_000)), (1, 1, 0));
        let stubborn = Box::new(|after: Timestamp| Some(after));
        queue.schedule_by(NodeIndex(0), STREAM, stubborn, Timestamp::from_millis(5));
        assert_eq!((due(&mut queue, 5), due(&mut queue, 5), due(&mut queue, 6)), (1, 0, 1));
        queue.schedule_by(NodeIndex(0), STREAM, Box::new(|_| None), NEVER);
        assert_eq!(due(&mut queue, i64::MAX), 1, "the stubborn one alone");
    }

    #[test]
    fn what_was_called_in_an_aborted_transaction_is_due_again() {
        let mut queue = PunctuationQueue::default();
        let start = Timestamp::from_millis(0);
        queue.schedule(NodeIndex(0), STREAM, Duration::from_millis(10), start);
        assert_eq!(due(&mut queue, 25), 1);
        queue.abort();
        assert_eq!(due(&mut queue, 25), 1);
        queue.commit();
        assert_eq!(due(&mut queue, 30), 1);
        queue.abort();
        assert_eq!((due(&mut queue, 29), due(&mut queue, 30)), (0, 1));
    }
}
