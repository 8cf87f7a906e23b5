//! Figures of a source topic over a window of time: how many events, how old they were on arrival, how many failed. Pure.
//!
//! Each task counts what it sees, by the wall clock at arrival, and hands its part over when the window has ended; the parts of all tasks are
//! added up by topic. Ages are kept in buckets that grow with them, so that parts can be added: a quantile is exact below 64 ms and within
//! 1/32 above.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Ages below this have a bucket each; above, each doubling has half as many.
const LINEAR: u64 = 64;
const PER_DOUBLING: u64 = LINEAR / 2;

/// What was seen of a topic within a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Start of the window, milliseconds since the epoch.
    pub window_start_ms: i64,
    /// Events.
    pub events: u64,
    /// Dead letters and failed notifications.
    pub failures: u64,
    /// Bucket → number of events.
    ages: BTreeMap<u16, u64>,
}

impl Figures {
    /// Nothing seen yet in the window that begins at `window_start_ms`.
    pub fn empty(window_start_ms: i64) -> Self {
        Self { window_start_ms, ..Self::default() }
    }

    /// Counts an event of this age.
    pub fn add_event(&mut self, age_ms: u64) {
        self.events += 1;
        *self.ages.entry(bucket(age_ms)).or_insert(0) += 1;
    }

    /// Counts a failure.
    pub fn add_failure(&mut self) {
        self.failures += 1;
    }

    /// Adds another part.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.failures += other.failures;
        for (bucket, count) in &other.ages {
            *self.ages.entry(*bucket).or_insert(0) += count;
        }
    }

    /// The age in milliseconds that a share of the events did not exceed; `None` without any.
    pub fn age_quantile_ms(&self, share: f64) -> Option<u64> {
        #[expect(clippy::cast_precision_loss, reason = "a share of a count needs no more")]
        let wanted = ((self.events as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.ages.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted).then(|| age_of(*bucket))
        })
    }
}

/// The start of the window that a moment lies in.
pub fn window_start_ms(now_ms: i64, window_ms: i64) -> i64 {
    now_ms - now_ms.rem_euclid(window_ms)
}

fn bucket(age_ms: u64) -> u16 {
    if age_ms < LINEAR {
        return age_ms as u16;
    }
    // The top six bits of the age say where it lies, their place says in which doubling.
    let shift = u64::from(age_ms.ilog2()) - 5;
    (LINEAR + (shift - 1) * PER_DOUBLING + ((age_ms >> shift) - PER_DOUBLING)) as u16
}

/// The lowest age of a bucket.
fn age_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < LINEAR {
        return bucket;
    }
    let (doubling, place) = ((bucket - LINEAR) / PER_DOUBLING, (bucket - LINEAR) % PER_DOUBLING);
    (PER_DOUBLING + place) << (doubling + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_below_64_ms_and_within_a_32nd_above() {
        let mut figures = Figures::empty(0);
        assert_eq!(figures.age_quantile_ms(0.5), None);
        (1..=60).for_each(|age| figures.add_event(age));
        assert_eq!(figures.age_quantile_ms(0.5), Some(30));
        assert_eq!(figures.age_quantile_ms(0.99), Some(60));
        for age in [64, 65, 127, 128, 1_000, 59_999, 3_600_000, u64::MAX] {
            let found = age_of(bucket(age));
            assert!(found <= age && age - found <= age / 32, "{age}: {found}");
        }
    }

    #[test]
    fn buckets_grow_with_the_age() {
        let buckets: Vec<u16> = (0..5_000).map(bucket).collect();
        assert!(buckets.is_sorted());
        assert!(buckets.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut whole, mut a, mut b) = (Figures::empty(0), Figures::empty(0), Figures::empty(0));
        for age in 0..500 {
            whole.add_event(age);
            if age % 3 == 0 { &mut a } else { &mut b }.add_event(age);
        }
        b.add_failure();
        whole.add_failure();
        a.add(&b);
        assert_eq!(a, whole);
    }

    #[test]
    fn windows_begin_at_whole_multiples() {
        assert_eq!(
            [0, 59_999, 60_000, -1].map(|now| window_start_ms(now, 60_000)),
            [0, 0, 60_000, -60_000]
        );
    }
}
