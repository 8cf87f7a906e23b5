//! How far restorations are, told to metrics, to `tasks()` and to the log.

use std::collections::BTreeMap;
use std::time::Duration;

use super::thread::{Followed, RestoreThread, Role};
use crate::ids::TaskId;
use crate::runtime::shared::RestoreProgress;

/// Between two words in the log about a restoration.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl RestoreThread {
    pub(super) fn tell(&self, tasks: &mut BTreeMap<TaskId, Followed>) {
        let now = self.now();
        for (id, task) in tasks {
            let left = task.replays.iter().map(|replay| replay.left(&task.stores[replay.store]));
            let Some(remaining) = left.sum::<Option<u64>>() else { continue };
            let restored = task.records;
            let eta = match &mut task.role {
                Role::Standby(standby) => {
                    let is_caught_up = remaining <= self.recovery_lag;
                    let was = std::mem::replace(&mut standby.is_caught_up, is_caught_up);
                    if is_caught_up && !was {
                        tracing::info!(task = %id, lag = remaining, "standby has caught up");
                    }
                    None
                }
                Role::Active(active) => {
                    let pace = Pace { restored, took: now.saturating_sub(active.started_at) };
                    let eta = pace.eta(remaining);
                    eta.iter().for_each(|eta| active.eta.set(eta.as_secs_f64()));
                    if now.saturating_sub(active.logged_at) >= LOG_INTERVAL {
                        active.logged_at = now;
                        let percent = restored * 100 / (restored + remaining).max(1);
                        tracing::info!(task = %id, restored, remaining, percent, eta_s = eta.map(|eta| eta.as_secs()), "restoring");
                    }
                    eta
                }
            };
            self.shared.set_progress(*id, RestoreProgress { restored, remaining, eta });
        }
    }
}

/// How fast a task's records have come so far.
struct Pace {
    restored: u64,
    took: Duration,
}

impl Pace {
    /// How long the rest takes at this pace; `None` before the first record.
    fn eta(&self, remaining: u64) -> Option<Duration> {
        if self.restored == 0 {
            return None;
        }
        let took_ms = self.took.as_millis();
        let eta_ms = took_ms * u128::from(remaining) / u128::from(self.restored);
        Some(Duration::from_millis(u64::try_from(eta_ms).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_pace_says() {
        let pace = |restored| Pace { restored, took: Duration::from_secs(10) };
        assert_eq!(pace(0).eta(1_000), None);
        assert_eq!(pace(500).eta(1_500), Some(Duration::from_secs(30)));
        assert_eq!(pace(1).eta(u64::MAX), Some(Duration::from_millis(u64::MAX)));
        assert_eq!(pace(1).eta(0), Some(Duration::ZERO));
    }
}
