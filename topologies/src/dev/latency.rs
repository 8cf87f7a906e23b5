//! Latencies: the quantiles of all, and of the last few seconds.

use std::time::Duration;

/// Latencies are counted by the millisecond up to here; longer ones count as this.
const MILLIS_MAX: usize = 60_000;

/// Counts of latencies, of the whole run and of a recent part of it.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    all: Histogram,
    /// The part being filled and the one before, exchanged by [`turn`](Self::turn).
    filling: Histogram,
    before: Histogram,
}

impl Latencies {
    /// Counts one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.all.add(latency);
        self.filling.add(latency);
    }

    /// The latency in milliseconds that a share of all did not exceed; `None` without any.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<u64> {
        quantile_ms(&[&self.all], share)
    }

    /// The same of the time since the last turn but one.
    pub(crate) fn recent_quantile_ms(&self, share: f64) -> Option<u64> {
        quantile_ms(&[&self.filling, &self.before], share)
    }

    /// Begins a new part and forgets the oldest; to be called every few seconds.
    pub(crate) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.filling);
    }
}

/// How many latencies there were of each millisecond; grows as far as the longest.
#[derive(Debug, Default)]
struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    fn add(&mut self, latency: Duration) {
        let millis = usize::try_from(latency.as_millis()).unwrap_or(MILLIS_MAX).min(MILLIS_MAX);
        if self.counts.len() <= millis {
            self.counts.resize(millis + 1, 0);
        }
        self.counts[millis] += 1;
        self.total += 1;
    }
}

fn quantile_ms(parts: &[&Histogram], share: f64) -> Option<u64> {
    let total: u64 = parts.iter().map(|part| part.total).sum();
    let wanted = ((total as f64 * share).ceil() as u64).max(1);
    let longest = parts.iter().map(|part| part.counts.len()).max().unwrap_or(0);
    let mut seen = 0;
    let at = |millis: usize| parts.iter().filter_map(|part| part.counts.get(millis)).sum::<u64>();
    (0..longest)
        .find(|millis| {
            seen += at(*millis);
            seen >= wanted
        })
        .map(|millis| millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_the_millisecond() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_ms(0.5), None);
        for millis in 1..=100 {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.quantile_ms(0.5), Some(50));
        assert_eq!(latencies.quantile_ms(0.99), Some(99));
        assert_eq!(latencies.quantile_ms(1.0), Some(100));
        latencies.add(Duration::from_secs(3_600));
        assert_eq!(latencies.quantile_ms(1.0), Some(60_000));
    }

    #[test]
    fn what_is_recent_ends_after_two_turns() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_millis(7));
        latencies.turn();
        assert_eq!(latencies.recent_quantile_ms(0.5), Some(7));
        latencies.turn();
        assert_eq!(latencies.recent_quantile_ms(0.5), None);
        assert_eq!(latencies.quantile_ms(0.5), Some(7));
    }
}
