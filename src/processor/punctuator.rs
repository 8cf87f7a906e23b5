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

/// The schedules of a task. A handful at most, so a list is faster than a heap.
///
/// Source: `PunctuationQueue`, `PunctuationSchedule`: a schedule that missed several intervals is called once, and stays aligned.
#[derive(Debug, Default)]
pub(crate) struct PunctuationQueue {
    schedules: Vec<Schedule>,
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
        PunctuatorId(self.schedules.len() - 1)
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
        let (index, _) = self
            .active(kind)
            .filter(|(_, schedule)| schedule.next <= now)
            .min_by_key(|(_, schedule)| schedule.next)?;
        let schedule = &mut self.schedules[index];
        let (next, now, interval) =
            (schedule.next.as_millis(), now.as_millis(), schedule.interval_ms);
        let missed = now.saturating_sub(next) / interval;
        schedule.next =
            Timestamp::from_millis(next.saturating_add((missed + 1).saturating_mul(interval)));
        Some((schedule.node, PunctuatorId(index)))
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
}
