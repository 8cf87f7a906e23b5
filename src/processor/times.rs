//! Event times that operators go by: seen by one operator, or by several of a task together.
//!
//! They are part of the task's state: a record that fails leaves no trace in them, and an abort takes them back to the last commit, as it does
//! with stores. Hot path.

use std::sync::Arc;

use crate::time::Timestamp;

/// The times of one operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperatorTimes {
    /// The highest timestamp seen; below every other one at first.
    pub(crate) stream_time: Timestamp,
    /// Nothing that waits for the end of its window is older; above every other one where nothing waits, below where that is not known yet.
    pub(crate) waiting_since: Timestamp,
    /// When results of closed windows may be looked for again, on the wall clock.
    pub(crate) next_emit: Timestamp,
}

impl Default for OperatorTimes {
    fn default() -> Self {
        Self {
            stream_time: Timestamp::MIN,
            waiting_since: Timestamp::MIN,
            next_emit: Timestamp::MIN,
        }
    }
}

/// An operator's key to its times, looked up once in `init`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimesHandle(usize);

#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    now: OperatorTimes,
    /// As before the record in hand.
    accepted: OperatorTimes,
    /// As at the last commit.
    committed: OperatorTimes,
}

/// The times of all operators of a task.
#[derive(Debug, Default)]
pub(crate) struct TaskTimes {
    slots: Vec<Slot>,
}

impl TaskTimes {
    /// The times called `name`; whoever asks for the same name gets the same times.
    pub(crate) fn handle(&mut self, name: &Arc<str>) -> TimesHandle {
        if let Some(index) = self.slots.iter().position(|slot| slot.name == *name) {
            return TimesHandle(index);
        }
        let times = OperatorTimes::default();
        let (now, accepted, committed) = (times, times, times);
        self.slots.push(Slot { name: name.clone(), now, accepted, committed });
        TimesHandle(self.slots.len() - 1)
    }

    pub(crate) fn get_mut(&mut self, handle: TimesHandle) -> &mut OperatorTimes {
        &mut self.slots[handle.0].now
    }

    /// Keeps what the record in hand has changed.
    pub(crate) fn accept_record(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.accepted = slot.now);
    }

    /// Takes back what the record in hand has changed.
    pub(crate) fn undo_record(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.now = slot.accepted);
    }

    pub(crate) fn commit(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.committed = slot.accepted);
    }

    /// Goes back to the last commit.
    pub(crate) fn abort(&mut self) {
        for slot in &mut self.slots {
            (slot.now, slot.accepted) = (slot.committed, slot.committed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_back_with_a_failed_record_and_with_an_abort() {
        let mut times = TaskTimes::default();
        let handle = times.handle(&"join".into());
        let see = |times: &mut TaskTimes, millis| {
            times.get_mut(handle).stream_time = Timestamp::from_millis(millis);
        };
        see(&mut times, 1);
        times.accept_record();
        times.commit();
        see(&mut times, 2);
        times.accept_record();
        see(&mut times, 3);
        times.undo_record();
        assert_eq!(times.get_mut(handle).stream_time.as_millis(), 2);
        times.abort();
        assert_eq!(times.get_mut(handle).stream_time.as_millis(), 1);
        see(&mut times, 9);
        times.undo_record();
        assert_eq!(times.get_mut(handle).stream_time.as_millis(), 1);
    }

    #[test]
    fn one_name_has_one_slot() {
        let mut times = TaskTimes::default();
        let (a, b) = (times.handle(&"a".into()), times.handle(&"b".into()));
        times.get_mut(a).stream_time = Timestamp::from_millis(5);
        let again = times.handle(&"a".into());
        assert_eq!(times.get_mut(again).stream_time.as_millis(), 5);
        assert_eq!(times.get_mut(b).stream_time, Timestamp::MIN);
    }
}
