//! Settings of the topology: plain data, read once at start.

use std::collections::BTreeMap;

use kstreams::Timestamp;
use serde::{Deserialize, Serialize};

use super::rules::Priority;

/// The longest pause between two hand-overs of one request, while no region of its chain has an active manager.
const HANDOVER_PAUSE_MAX_MS: i64 = 60_000;
/// The shortest pause between two hand-overs after the first, whatever `handover_after_ms` says.
const HANDOVER_PAUSE_MIN_MS: i64 = 1_000;

/// What may be configured of manager-assignment; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds from a critical request's timestamp to its SLA deadline.
    pub sla_critical_ms: u64,
    /// The same for a request of high urgency.
    pub sla_high_ms: u64,
    /// The same for medium urgency.
    pub sla_medium_ms: u64,
    /// The same for low urgency.
    pub sla_low_ms: u64,
    /// By how many percent of a manager's capacity escalated requests may exceed it, rounded down to whole requests.
    pub overload_percent: u32,
    /// Region → the region that takes its requests while it has no active manager.
    pub fallback_regions: BTreeMap<String, String>,
    /// How long a request waits in a region without active manager before it is handed over. Not 0, because at start the
    /// first requests may arrive before the first managers.
    pub handover_after_ms: u64,
    /// How long a closed request is remembered, so that late duplicates change nothing. Should not be below the
    /// retention of `request-events`.
    pub closed_retention_ms: u64,
    /// How often wall-clock work is done: escalation, hand-over, the backstop for waiting requests.
    pub punctuation_interval_ms: u64,
    /// Partitions of the internal repartition topics: the limit of parallel tasks.
    pub internal_partitions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sla_critical_ms: 60_000,
            sla_high_ms: 5 * 60_000,
            sla_medium_ms: 15 * 60_000,
            sla_low_ms: 60 * 60_000,
            overload_percent: 50,
            fallback_regions: BTreeMap::new(),
            handover_after_ms: 2_000,
            closed_retention_ms: 7 * 24 * 3_600_000,
            punctuation_interval_ms: 1_000,
            internal_partitions: 6,
        }
    }
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Text that names the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<(), String> {
        for (region, fallback) in &self.fallback_regions {
            if fallback.is_empty() || fallback == region {
                return Err(format!(
                    "fallback_regions: found \"{fallback}\" for region \"{region}\", wanted another region; \
                     name one that has managers or remove the entry"
                ));
            }
        }
        for (name, value) in [
            ("punctuation_interval_ms", self.punctuation_interval_ms),
            ("closed_retention_ms", self.closed_retention_ms),
            ("internal_partitions", self.internal_partitions.into()),
        ] {
            if value == 0 {
                return Err(format!("{name}: found 0, wanted at least 1"));
            }
        }
        Ok(())
    }

    /// When a request of this priority, filed at `opened_at_ms`, has to be assigned.
    pub fn sla_deadline_ms(&self, priority: Priority, opened_at_ms: i64) -> i64 {
        opened_at_ms.saturating_add(self.sla_ms(priority))
    }

    /// When a request was filed that has this deadline.
    pub(super) fn opened_at(&self, priority: Priority, sla_deadline_ms: i64) -> Timestamp {
        Timestamp::from_millis(sla_deadline_ms.saturating_sub(self.sla_ms(priority)))
    }

    fn sla_ms(&self, priority: Priority) -> i64 {
        signed(match priority {
            Priority::P1 => self.sla_critical_ms,
            Priority::P2 => self.sla_high_ms,
            Priority::P3 => self.sla_medium_ms,
            Priority::P4 => self.sla_low_ms,
        })
    }

    /// The open requests that a manager of this capacity may have once requests are escalated.
    pub fn overload_limit(&self, capacity: u32) -> u32 {
        let extra = u64::from(capacity) * u64::from(self.overload_percent) / 100;
        capacity.saturating_add(u32::try_from(extra).unwrap_or(u32::MAX))
    }

    /// How long a request waits in a region without active manager, `hops` hand-overs after its home.
    pub fn handover_pause_ms(&self, hops: u32) -> i64 {
        let first = signed(self.handover_after_ms);
        if hops == 0 {
            return first;
        }
        let doubled = first.max(HANDOVER_PAUSE_MIN_MS).saturating_mul(1 << hops.min(16));
        doubled.min(HANDOVER_PAUSE_MAX_MS.max(first))
    }

    /// The region after `hops` hand-overs: home, its fallback, the fallback's fallback …, then home again.
    pub fn region_after<'a>(&'a self, home: &'a str, hops: u32) -> &'a str {
        let chain = self.chain(home);
        chain[hops as usize % chain.len()]
    }

    /// Whether there is any other region to hand a request of `home` over to.
    pub fn has_fallback(&self, home: &str) -> bool {
        self.fallback_regions.contains_key(home)
    }

    /// Home and its fallbacks, each once.
    fn chain<'a>(&'a self, home: &'a str) -> Vec<&'a str> {
        let mut chain = vec![home];
        while let Some(next) = self.fallback_regions.get(chain[chain.len() - 1]) {
            if chain.contains(&next.as_str()) {
                break;
            }
            chain.push(next);
        }
        chain
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_fallbacks(pairs: &[(&str, &str)]) -> Settings {
        let fallback_regions = pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Settings { fallback_regions, ..Settings::default() }
    }

    #[test]
    fn urgency_decides_the_deadline() {
        let settings = Settings::default();
        let minutes = [Priority::P1, Priority::P2, Priority::P3, Priority::P4]
            .map(|priority| settings.sla_deadline_ms(priority, 1_000) - 1_000)
            .map(|ms| ms / 60_000);
        assert_eq!(minutes, [1, 5, 15, 60]);
    }

    #[test]
    fn overload_never_exceeds_its_percentage() {
        let settings = Settings::default();
        assert_eq!(
            [0, 1, 2, 3, 10].map(|capacity| settings.overload_limit(capacity)),
            [0, 1, 3, 4, 15]
        );
        assert_eq!(settings.overload_limit(u32::MAX), u32::MAX);
    }

    #[test]
    fn fallbacks_form_a_ring_that_always_comes_back_home() {
        let settings = with_fallbacks(&[("a", "b"), ("b", "c"), ("c", "b")]);
        let regions: Vec<_> = (0..5).map(|hops| settings.region_after("a", hops)).collect();
        assert_eq!(regions, ["a", "b", "c", "a", "b"]);
        assert_eq!(settings.region_after("lonely", 7), "lonely");
    }

    #[test]
    fn pauses_between_handovers_double_up_to_a_minute() {
        let pauses = [0, 1, 2, 4, 5, 1_000].map(|hops| Settings::default().handover_pause_ms(hops));
        assert_eq!(pauses, [2_000, 4_000, 8_000, 32_000, 60_000, 60_000]);
        let at_once = Settings { handover_after_ms: 0, ..Settings::default() };
        assert_eq!([0, 1].map(|hops| at_once.handover_pause_ms(hops)), [0, 2_000]);
    }

    #[test]
    fn a_region_cannot_be_its_own_fallback() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let error = with_fallbacks(&[("a", "a")]).validate().unwrap_err();
        assert!(error.contains("region \"a\""), "{error}");
        let zero = Settings { punctuation_interval_ms: 0, ..Settings::default() };
        assert!(zero.validate().unwrap_err().starts_with("punctuation_interval_ms"));
    }
}
