//! A steady stream of events, and the reader that follows what becomes of them.

use std::collections::VecDeque;
use std::time::Duration;

use kstreams::{Clock, SystemClock};
use rdkafka::producer::{BaseProducer, Producer as _};
use test_support::{Message, producer, send};

use crate::ledger::Ledger;
use crate::load::Load;

/// Requests that are made at a time.
const BATCH: usize = 1_000;
/// Batches after which some of the requests are closed.
const CLOSE_EVERY: usize = 5;
/// Events of one turn at most: after a pause the load does not come all at once.
const TURN_MAX: u64 = 500;
/// Until when the brokers must have taken what was written; one of them may be down meanwhile.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Traffic {
    pub(crate) load: Load,
    ledger: Ledger,
    producer: BaseProducer,
    clock: SystemClock,
    /// Events a second.
    rate: u32,
    last_turn: Option<Duration>,
    /// Fractions of an event that are due.
    due: f64,
    batches: usize,
    waiting: VecDeque<(&'static str, Message)>,
    /// Events written so far.
    pub(crate) written: u64,
}

impl Traffic {
    pub(crate) fn new(load: Load, ledger: Ledger, rate: u32) -> Self {
        Self {
            load,
            ledger,
            producer: producer(&[]),
            clock: SystemClock::default(),
            rate,
            last_turn: None,
            due: 0.0,
            batches: 0,
            waiting: VecDeque::new(),
            written: 0,
        }
    }

    /// Writes what is due, and reads what has come.
    pub(crate) fn turn(&mut self) {
        let now = self.clock.monotonic();
        let passed = now - self.last_turn.replace(now).unwrap_or(now);
        self.due += passed.as_secs_f64() * f64::from(self.rate);
        let count = (self.due as u64).min(TURN_MAX);
        self.due = (self.due - count as f64).min(f64::from(self.rate));
        for _ in 0..count {
            if self.waiting.is_empty() {
                self.next_batch();
            }
            let Some((topic, message)) = self.waiting.pop_front() else { break };
            send(&self.producer, topic, &message);
            self.written += 1;
        }
        self.producer.poll(Duration::ZERO);
        self.look();
    }

    fn next_batch(&mut self) {
        self.batches += 1;
        if self.batches.is_multiple_of(CLOSE_EVERY) {
            // A closing before the assignment would leave it open which of the two comes first.
            let assigned = &self.ledger.assigned;
            let (cancelled, finished) = self.load.closings_of(|id| assigned.contains_key(&id));
            self.waiting.extend(cancelled.into_iter().map(|message| ("request-events", message)));
            self.waiting.extend(finished.into_iter().map(|message| ("workflow-events", message)));
        }
        let requests = self.load.requests(BATCH);
        self.waiting.extend(requests.into_iter().map(|message| ("request-events", message)));
    }

    /// Writes the rest of what was made, and waits for the brokers.
    pub(crate) fn finish(&mut self) {
        for (topic, message) in std::mem::take(&mut self.waiting) {
            send(&self.producer, topic, &message);
            self.written += 1;
        }
        self.producer.flush(FLUSH_TIMEOUT).unwrap();
    }

    pub(crate) fn look(&mut self) {
        self.ledger.look();
    }

    /// Requests that were made so far.
    pub(crate) fn filed(&self) -> usize {
        self.load.filed.len()
    }

    /// Assignments that were read so far.
    pub(crate) fn assignments(&self) -> usize {
        self.ledger.assignments
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.ledger.assignments >= self.load.filed.len() && self.ledger.is_settled(&self.load)
    }

    pub(crate) fn progress(&self) -> String {
        format!(
            "{} events written, {} of {} requests assigned, {} of {} dead letters",
            self.written,
            self.ledger.assignments,
            self.load.filed.len(),
            self.ledger.set_aside.len(),
            self.load.poison.len()
        )
    }
}
