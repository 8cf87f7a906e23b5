//! When a channel is used: a circuit that opens while its provider is down, and a pause that the provider asks for. Pure.
//!
//! ```text
//!            failures in a row                      time is over
//!   closed ───────────────────► open ◄─────────┐ ──────────────► half open
//!     ▲  ▲                                     └── the probe fails ──┤ (one message at a time)
//!     │  └──────────────── any other answer ─────────────────────────┘
//!     └── any other answer (the count of failures begins anew)
//! ```
//!
//! Each task has one for each channel, in memory: it is knowledge of the world and not of messages, and a new task finds it out soon.

/// The state of the drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: i64, times: u32 },
    HalfOpen { times: u32 },
}

/// When a channel is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    state: State,
    paused_until_ms: i64,
}

/// The limits of circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// For how long it opens first; each time after that twice as long.
    pub open_min_ms: i64,
    /// For how long it opens at most.
    pub open_max_ms: i64,
}

/// What an answer says of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It works, whatever it thinks of the message.
    Works,
    /// It does not.
    Fails,
    /// It wants no more messages for so many milliseconds.
    Pause(i64),
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, paused_until_ms: i64::MIN }
    }
}

impl Circuit {
    /// How many more messages may be under way, where `free` is the limit otherwise and `under_way` are.
    pub fn allowance(&mut self, now_ms: i64, free: usize, under_way: usize) -> usize {
        if now_ms < self.paused_until_ms {
            return 0;
        }
        match self.state {
            State::Closed { .. } => free,
            State::Open { until_ms, .. } if now_ms < until_ms => 0,
            State::Open { times, .. } => {
                self.state = State::HalfOpen { times };
                free.min(1usize.saturating_sub(under_way))
            }
            State::HalfOpen { .. } => free.min(1usize.saturating_sub(under_way)),
        }
    }

    /// Takes an answer in.
    pub fn note(&mut self, sign: Sign, now_ms: i64, limits: &Limits) {
        self.state = match (self.state, sign) {
            (State::Closed { failures }, Sign::Fails) if failures + 1 < limits.failures => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, Sign::Fails) => opened(now_ms, 0, limits),
            (State::HalfOpen { times }, Sign::Fails) => opened(now_ms, times, limits),
            // The answer to a message that was under way when it opened.
            (open @ State::Open { .. }, Sign::Fails) => open,
            (_, Sign::Works | Sign::Pause(_)) => State::Closed { failures: 0 },
        };
        if let Sign::Pause(ms) = sign {
            self.paused_until_ms = self.paused_until_ms.max(now_ms.saturating_add(ms));
        }
    }

    /// Why the channel is not fully used, if it is not.
    pub fn trouble(&self, now_ms: i64) -> Option<&'static str> {
        match self.state {
            State::Open { .. } | State::HalfOpen { .. } => Some("the provider does not work"),
            State::Closed { .. } if now_ms < self.paused_until_ms => {
                Some("the provider asked for a pause")
            }
            State::Closed { .. } => None,
        }
    }
}

fn opened(now_ms: i64, times: u32, limits: &Limits) -> State {
    let open_ms = limits.open_min_ms.saturating_mul(1 << times.min(20)).min(limits.open_max_ms);
    State::Open { until_ms: now_ms.saturating_add(open_ms), times: times + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 3, open_min_ms: 100, open_max_ms: 250 };

    fn failing(circuit: &mut Circuit, times: usize, now_ms: i64) {
        (0..times).for_each(|_| circuit.note(Sign::Fails, now_ms, &LIMITS));
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let mut circuit = Circuit::default();
        failing(&mut circuit, 2, 0);
        circuit.note(Sign::Works, 0, &LIMITS);
        failing(&mut circuit, 2, 0);
        assert_eq!(circuit.allowance(0, 8, 0), 8, "two in a row");
        failing(&mut circuit, 1, 0);
        assert_eq!((circuit.allowance(99, 8, 0), circuit.trouble(99).is_some()), (0, true));
        assert_eq!(circuit.allowance(100, 8, 1), 0, "one is under way still");
        assert_eq!(circuit.allowance(100, 8, 0), 1, "the probe");
        circuit.note(Sign::Works, 110, &LIMITS);
        assert_eq!((circuit.allowance(110, 8, 0), circuit.trouble(110)), (8, None));
    }

    #[test]
    fn it_opens_for_longer_each_time_up_to_a_limit() {
        let mut circuit = Circuit::default();
        failing(&mut circuit, 3, 0);
        let mut now_ms = 0;
        for open_ms in [100, 200, 250, 250] {
            assert_eq!(circuit.allowance(now_ms + open_ms - 1, 8, 0), 0);
            now_ms += open_ms;
            assert_eq!(circuit.allowance(now_ms, 8, 0), 1);
            failing(&mut circuit, 1, now_ms);
            failing(&mut circuit, 1, now_ms + 5); // a late answer changes nothing
        }
    }

    #[test]
    fn a_pause_is_kept_and_is_no_failure() {
        let mut circuit = Circuit::default();
        failing(&mut circuit, 2, 0);
        circuit.note(Sign::Pause(50), 0, &LIMITS);
        circuit.note(Sign::Pause(20), 0, &LIMITS);
        assert_eq!((circuit.allowance(49, 8, 0), circuit.allowance(50, 8, 0)), (0, 8));
        assert!(circuit.trouble(49).is_some() && circuit.trouble(50).is_none());
        failing(&mut circuit, 2, 60);
        assert_eq!(circuit.allowance(60, 8, 0), 8, "the pause ended the row");
    }
}
