//! Event times that operators go by: seen by one operator, or by several of a task together.
//!
//! They are part of the task's state: a record that fails leaves no trace in them, and an abort takes them back to the last commit, as it does
//! with stores. What must outlive a restart is committed beside the offsets, in the map that Kafka Streams has there
//! (`ProcessorMetadata`); names that are not ours are carried along, as it does too:
//!
//! | name | time |
//! |---|---|
//! | `time:` and the operator's name | its stream time. Kafka Streams' operators begin anew at each restart, and so take records that were late before it. No store's name has a colon |
//! | a store's name | up to when the closed windows of that store have been sent. Source: `AbstractKStreamTimeWindowAggregateProcessor.fetchAndEmit`, `KStreamSessionWindowAggregate` |
//!
//! Hot path, but for what has to do with commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::time::Timestamp;

const STREAM_TIME: &str = "time:";

/// The times of one operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperatorTimes {
    /// The highest timestamp seen; below every other one at first.
    pub(crate) stream_time: Timestamp,
    /// Windows that were closed by this time have been sent; below every other one before the first.
    pub(crate) sent_closed: Timestamp,
    /// Nothing that waits for the end of its window is older; above every other one where nothing waits, below where that is not known yet.
    pub(crate) waiting_since: Timestamp,
    /// When results of closed windows may be looked for again, on the wall clock.
    pub(crate) next_emit: Timestamp,
}

impl Default for OperatorTimes {
    fn default() -> Self {
        Self {
            stream_time: Timestamp::MIN,
            sent_closed: Timestamp::MIN,
            waiting_since: Timestamp::MIN,
            next_emit: Timestamp::MIN,
        }
    }
}

impl OperatorTimes {
    /// Moves stream time, which never goes back; returns it.
    pub(crate) fn observe(&mut self, timestamp: Timestamp) -> Timestamp {
        self.stream_time = self.stream_time.max(timestamp);
        self.stream_time
    }
}

/// An operator's key to its times, looked up once in `init`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimesHandle(usize);

#[derive(Debug)]
struct Slot {
    /// Under which the stream time is committed.
    name: Arc<str>,
    /// Under which it is committed what has been sent; `None`: the operator does not wait for windows to close.
    store: Option<Arc<str>>,
    now: OperatorTimes,
    /// As before the record in hand.
    accepted: OperatorTimes,
    /// As at the last commit.
    committed: OperatorTimes,
}

impl Slot {
    /// What is to be committed, of what is known.
    fn kept(&self, times: OperatorTimes) -> impl Iterator<Item = (&Arc<str>, Timestamp)> {
        let sent = self.store.as_ref().map(|store| (store, times.sent_closed));
        let all = [(&self.name, times.stream_time)].into_iter().chain(sent);
        all.filter(|(_, time)| *time > Timestamp::MIN)
    }
}

/// The times of all operators of a task.
#[derive(Debug, Default)]
pub(crate) struct TaskTimes {
    slots: Vec<Slot>,
    /// What came with the committed offsets.
    restored: BTreeMap<Arc<str>, Timestamp>,
    /// There is no room for stream times beside an offset.
    leaves_out_stream_times: bool,
}

impl TaskTimes {
    /// What was committed, the latest time of each name. Source: `ProcessorMetadata.update`.
    pub(crate) fn restored(
        committed: impl IntoIterator<Item = (Arc<str>, Timestamp)>,
    ) -> TaskTimes {
        let mut restored: BTreeMap<Arc<str>, Timestamp> = BTreeMap::new();
        for (name, time) in committed {
            let latest = restored.entry(name).or_insert(time);
            *latest = time.max(*latest);
        }
        TaskTimes { restored, ..TaskTimes::default() }
    }

    /// The times called `name`; whoever asks for the same name gets the same times.
    pub(crate) fn handle(&mut self, name: &str) -> TimesHandle {
        let name = format!("{STREAM_TIME}{name}");
        if let Some(index) = self.slots.iter().position(|slot| *slot.name == *name) {
            return TimesHandle(index);
        }
        let mut times = OperatorTimes::default();
        times.stream_time = self.restored.get(&*name).copied().unwrap_or(times.stream_time);
        let (now, accepted, committed) = (times, times, times);
        self.slots.push(Slot { name: name.into(), store: None, now, accepted, committed });
        TimesHandle(self.slots.len() - 1)
    }

    /// Has it committed up to when the operator has sent the closed windows of `store`.
    pub(crate) fn keep_sent(&mut self, handle: TimesHandle, store: &Arc<str>) {
        let slot = &mut self.slots[handle.0];
        let sent = self.restored.get(store).copied().unwrap_or(Timestamp::MIN);
        slot.now.sent_closed = slot.now.sent_closed.max(sent);
        slot.store = Some(store.clone());
    }

    pub(crate) fn get_mut(&mut self, handle: TimesHandle) -> &mut OperatorTimes {
        &mut self.slots[handle.0].now
    }

    /// The names of all that will be committed beside an offset once it is known.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let own = self.slots.iter().flat_map(|slot| [Some(&slot.name), slot.store.as_ref()]);
        self.foreign().map(|(name, _)| name).chain(own.flatten())
    }

    /// Commits no stream times, so that they begin anew after a restart, as in Kafka Streams.
    pub(crate) fn leave_out_stream_times(&mut self) {
        self.leaves_out_stream_times = true;
    }

    /// What came with the committed offsets and belongs to none of the operators, or not to them alone.
    fn foreign(&self) -> impl Iterator<Item = (&Arc<str>, &Timestamp)> {
        self.restored.iter().filter(|(name, _)| !name.starts_with(STREAM_TIME))
    }

    /// Everything to be committed beside an offset.
    pub(crate) fn to_commit(&self) -> BTreeMap<Arc<str>, Timestamp> {
        let own = self.slots.iter().flat_map(|slot| slot.kept(slot.accepted));
        let own = own
            .filter(|(name, _)| !(self.leaves_out_stream_times && name.starts_with(STREAM_TIME)));
        let foreign = self.foreign().map(|(name, time)| (name, *time));
        foreign.chain(own).map(|(name, time)| (name.clone(), time)).collect()
    }

    /// Whether anything of that has changed since the last commit.
    pub(crate) fn have_moved(&self) -> bool {
        self.slots.iter().any(|slot| !slot.kept(slot.accepted).eq(slot.kept(slot.committed)))
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

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn times_go_back_with_a_failed_record_and_with_an_abort() {
        let mut times = TaskTimes::default();
        let handle = times.handle("join");
        times.get_mut(handle).observe(at(1));
        times.accept_record();
        assert!(times.have_moved());
        times.commit();
        assert!(!times.have_moved());
        times.get_mut(handle).observe(at(2));
        times.accept_record();
        times.get_mut(handle).observe(at(3));
        times.undo_record();
        assert_eq!(times.get_mut(handle).stream_time, at(2));
        times.abort();
        assert_eq!(times.get_mut(handle).stream_time, at(1));
        times.get_mut(handle).observe(at(9));
        times.undo_record();
        assert_eq!(times.get_mut(handle).stream_time, at(1));
    }

    #[test]
    fn one_name_has_one_slot() {
        let mut times = TaskTimes::default();
        let (a, b) = (times.handle("a"), times.handle("b"));
        times.get_mut(a).observe(at(5));
        let again = times.handle("a");
        assert_eq!(times.get_mut(again).stream_time, at(5));
        assert_eq!(times.get_mut(b).stream_time, Timestamp::MIN);
    }

    #[test]
    fn what_is_committed_is_there_again_and_what_others_committed_is_carried_along() {
        let mut times = TaskTimes::default();
        let (a, b) = (times.handle("a"), times.handle("b"));
        times.keep_sent(a, &"store".into());
        assert_eq!(times.to_commit(), BTreeMap::new());
        times.get_mut(a).observe(at(5));
        times.get_mut(a).sent_closed = at(3);
        times.get_mut(b).observe(at(9));
        times.accept_record();
        let kept = times.to_commit();
        let names: Vec<_> = kept.iter().map(|(name, time)| (&**name, time.as_millis())).collect();
        assert_eq!(names, [("store", 3), ("time:a", 5), ("time:b", 9)]);

        // The partitions' texts may be of different ages; "b" is gone, and somebody else's store is not ours to forget.
        let older = [("time:a".into(), at(4)), ("other".into(), at(1))];
        let mut times = TaskTimes::restored(kept.into_iter().chain(older));
        let a = times.handle("a");
        times.keep_sent(a, &"store".into());
        assert_eq!(times.get_mut(a).stream_time, at(5));
        assert_eq!(times.get_mut(a).sent_closed, at(3));
        times.accept_record();
        let kept = times.to_commit();
        let names: Vec<_> = kept.iter().map(|(name, time)| (&**name, time.as_millis())).collect();
        assert_eq!(names, [("other", 1), ("store", 3), ("time:a", 5)]);
        let names: Vec<_> = times.names().map(|name| &**name).collect();
        assert_eq!(names, ["other", "store", "time:a", "store"]);
        times.leave_out_stream_times();
        let kept = times.to_commit();
        let names: Vec<_> = kept.iter().map(|(name, time)| (&**name, time.as_millis())).collect();
        assert_eq!(names, [("other", 1), ("store", 3)]);
    }
}
