//! Reads logs by manual assignment. What a fetch brought stands still until the next one, as a client's own buffer does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kstreams::kafka::{
    CommittedOffset, Consumer, ConsumerPurpose, Drained, PartitionSlot, StartOffset,
};
use kstreams::{Error, ErrorKind, RawRecord, Result, Timestamp, TopicPartition};

use super::Port;
use crate::faults::Call;
use crate::world::State;

/// Stands for "no fiber waits".
const NOBODY: usize = usize::MAX;
/// Of a thousand fetches, so many have not been answered when somebody drains.
const LATE_PER_MILLE: u32 = 100;
/// Lets the next wait return at once.
const UNKNOWN: i64 = -1;
/// Between two looks at whether offsets are stable.
const STABLE_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct LogReader {
    port: Port,
    purpose: ConsumerPurpose,
    slots: Vec<Option<Slot>>,
    /// High watermarks as of the last fetches.
    ends: BTreeMap<TopicPartition, i64>,
    signal: Arc<Signal>,
}

struct Slot {
    partition: TopicPartition,
    start: StartOffset,
    /// `None` before the first fetch.
    position: Option<i64>,
    /// What the last fetch brought ends here.
    fetched: i64,
    end: Option<i64>,
    /// The stable end that the last wait knew of.
    waited_at: i64,
}

/// Wakes the wait of one consumer.
struct Signal {
    is_raised: AtomicBool,
    waiter: AtomicUsize,
}

impl LogReader {
    pub(super) fn new(port: Port, purpose: ConsumerPurpose) -> Self {
        let signal = Signal { is_raised: AtomicBool::new(false), waiter: AtomicUsize::new(NOBODY) };
        let (slots, ends) = (Vec::new(), BTreeMap::new());
        Self { port, purpose, slots, ends, signal: Arc::new(signal) }
    }

    fn raise(&self) {
        self.signal.is_raised.store(true, Ordering::Relaxed);
    }

    /// Whether a log has changed since the last wait.
    fn has_news(&mut self) -> bool {
        let mut state = self.port.world.lock();
        if !state.is_connected(self.port.life) {
            return false;
        }
        let mut news = false;
        for slot in self.slots.iter_mut().flatten() {
            let end = state.broker.log(&slot.partition).map_or(0, |log| log.stable_end());
            news |= end != slot.waited_at;
            slot.waited_at = end;
        }
        news
    }
}

/// Brings what is stable, if the answer is here already.
fn fetch(
    state: &mut State,
    life: usize,
    slot: &mut Slot,
    ends: &mut BTreeMap<TopicPartition, i64>,
) -> Result<()> {
    if !state.is_connected(life) {
        return Ok(());
    }
    if state.chance(|_| LATE_PER_MILLE) {
        slot.waited_at = UNKNOWN;
        return Ok(());
    }
    let Some(log) = state.broker.log(&slot.partition) else {
        return Err(Error::new(ErrorKind::Retriable, format!("no partition {}", slot.partition)));
    };
    let (first, stable, end) = (log.start(), log.stable_end(), log.end());
    let position = *slot.position.get_or_insert(match slot.start {
        StartOffset::Beginning => first,
        StartOffset::End => stable,
        StartOffset::At(offset) => offset,
    });
    ends.insert(slot.partition.clone(), end);
    if position < first || position > end {
        let text = format!("offset {position} of {} is outside {first}..{end}", slot.partition);
        return Err(Error::new(ErrorKind::TaskCorrupted, text));
    }
    slot.fetched = stable;
    if position >= stable {
        slot.end = Some(stable);
    }
    Ok(())
}

impl Consumer for LogReader {
    fn assign(&mut self, partition: &TopicPartition, start: StartOffset) -> Result<PartitionSlot> {
        self.port.enter(Call::Assign)?;
        let slot = Slot {
            partition: partition.clone(),
            start,
            position: None,
            fetched: 0,
            end: None,
            waited_at: UNKNOWN,
        };
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(slot);
        Ok(PartitionSlot(index))
    }

    fn unassign(&mut self, slot: PartitionSlot) -> Result<()> {
        self.slots[slot.0].take().expect("a slot is unassigned once, after its assign");
        Ok(())
    }

    fn drain(
        &mut self,
        slot: PartitionSlot,
        max_records: usize,
        into: &mut dyn FnMut(RawRecord),
    ) -> Result<Drained> {
        self.port.enter(Call::Drain)?;
        let taken: Vec<RawRecord> = {
            let mut state = self.port.world.lock();
            if state.chance(|faults| faults.errors_per_mille / 4) {
                return Err(Error::new(ErrorKind::Retriable, "a fetch failed"));
            }
            let slot = self.slots[slot.0].as_mut().expect("a slot is used while it is assigned");
            fetch(&mut state, self.port.life, slot, &mut self.ends)?;
            let (Some(position), fetched) = (slot.position, slot.fetched) else {
                return Ok(Drained { records: 0, end_of_partition: None });
            };
            let log = state.broker.log(&slot.partition).expect("it was fetched from");
            let taken: Vec<RawRecord> =
                log.committed(position, fetched).take(max_records).collect();
            let last = taken.last().map(|record| record.offset + 1);
            let is_all = taken.len() < max_records;
            slot.position =
                Some(if is_all { fetched.max(position) } else { last.unwrap_or(position) });
            if last.is_some() {
                (slot.end, slot.waited_at) = (None, UNKNOWN); // the end comes with the next answer
            } else if fetched > position {
                slot.end = Some(fetched); // markers and aborted records only
            }
            taken
        };
        if taken.len() == max_records {
            self.raise();
        }
        let records = taken.len();
        taken.into_iter().for_each(into);
        let end_of_partition = self.slots[slot.0].as_ref().and_then(|slot| slot.end);
        Ok(Drained { records, end_of_partition })
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.port.enter(Call::Wait)?;
        let (deadline, fiber) = {
            let mut state = self.port.world.lock();
            let current = state.current;
            state.waiting.insert(current);
            (state.now + timeout, current)
        };
        self.signal.waiter.store(fiber, Ordering::Relaxed);
        let mut outcome = self.port.pause(Duration::from_micros(20));
        while outcome.is_ok() && !self.signal.is_raised.swap(false, Ordering::Relaxed) {
            if self.has_news() {
                break;
            }
            let left = deadline.saturating_sub(self.port.world.lock().now);
            if left.is_zero() {
                break;
            }
            outcome = self.port.pause(left);
        }
        self.signal.waiter.store(NOBODY, Ordering::Relaxed);
        self.port.world.lock().waiting.remove(&fiber);
        outcome?;
        self.port.leave(Call::Wait)
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let (signal, world) = (self.signal.clone(), self.port.world.clone());
        Arc::new(move || {
            signal.is_raised.store(true, Ordering::Relaxed);
            let waiter = signal.waiter.load(Ordering::Relaxed);
            if waiter != NOBODY {
                world.lock().wake(waiter);
            }
        })
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<CommittedOffset>>> {
        let deadline = self.port.world.lock().now + timeout;
        self.port.reach(Call::Committed, timeout)?;
        loop {
            let answer = {
                let state = self.port.world.lock();
                let transactions = &state.broker.transactions;
                let is_open = partitions.iter().any(|partition| transactions.holds(partition));
                let group = &state.broker.group;
                let find = |partition| group.offsets.get(partition).cloned();
                (!is_open).then(|| partitions.iter().map(find).collect::<Vec<_>>())
            };
            if let Some(answer) = answer {
                self.port.note(|_| {
                    format!("{:?}: committed of {partitions:?}: {answer:?}", self.purpose)
                });
                self.port.leave(Call::Committed)?;
                return Ok(answer);
            }
            if self.port.world.lock().now >= deadline {
                return Err(Error::new(ErrorKind::Retriable, "offsets are not stable"));
            }
            self.port.pause(STABLE_PAUSE)?;
        }
    }

    fn offsets(&mut self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64)> {
        self.port.reach(Call::Offsets, timeout)?;
        let answer = {
            let mut state = self.port.world.lock();
            state.broker.log(partition).map(|log| (log.start(), log.stable_end()))
        };
        self.port.leave(Call::Offsets)?;
        answer.ok_or_else(|| Error::new(ErrorKind::Retriable, format!("no partition {partition}")))
    }

    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.ends.get(partition).copied()
    }

    fn offset_for_time(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
        timeout: Duration,
    ) -> Result<i64> {
        let (start, end) = self.offsets(partition, timeout)?;
        let mut state = self.port.world.lock();
        let log = state.broker.log(partition).expect("its offsets were found");
        let later = log.committed(start, end).find(|record| record.timestamp >= timestamp);
        Ok(later.map_or(end, |record| record.offset))
    }
}
