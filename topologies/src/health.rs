//! What is degraded: parts outside that do not work while the rest goes on. One board for the process, as with metrics.
//!
//! Whoever uses a part says so under its name; `/health/ready` shows it. A degraded process is ready all the same: it keeps what it
//! cannot do, and does it later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kstreams::telemetry::{Sample, placed};

use crate::mask::Mask;

/// How far a partition is behind, as the engine tells it.
const LAG: &str = "kstreams_consumer_lag_records";

/// Part and who says so → why.
static BOARD: Mutex<BTreeMap<(String, String), String>> = Mutex::new(BTreeMap::new());

/// Says that `part` is degraded, or (`None`) is not, as far as `who` knows: one of several tasks, or `""`.
pub fn set(part: &str, who: &str, why: Option<&str>) {
    let mut board = BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (part.to_owned(), who.to_owned());
    match why {
        Some(why) => {
            // Shown to whoever asks: a provider's words may name a recipient.
            if board.insert(key, Mask::default().text(why).into_owned()).is_none() {
                tracing::warn!(part, who, why, "degraded");
            }
        }
        None => {
            if board.remove(&key).is_some() {
                tracing::info!(part, who, "no longer degraded");
            }
        }
    }
}

/// The partitions that are further behind than `max` records, by application; a limit of 0 is none.
pub fn behind(max: u64) -> BTreeMap<String, u64> {
    let mut partitions = BTreeMap::new();
    if max == 0 {
        return partitions;
    }
    for Sample { labels, value, .. } in placed().into_iter().filter(|one| one.name == LAG) {
        #[allow(clippy::cast_precision_loss)] // nobody is 2^53 records behind
        if value > max as f64 {
            let words: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
            partitions.insert(words.join(" "), value as u64);
        }
    }
    partitions
}

/// The parts that somebody says are degraded, and why.
pub fn degraded() -> BTreeMap<String, String> {
    let board = BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    board.iter().map(|((part, _), why)| (part.clone(), why.clone())).collect()
}

#[cfg(test)]
mod tests {
    use kstreams::telemetry::Placed;

    use super::*;

    #[test]
    fn partitions_beyond_the_limit_are_behind_until_they_are_not() {
        let lag = Placed::new(LAG, &[("app", "health-test"), ("topic", "t"), ("partition", "3")]);
        let found = |max| behind(max).remove("health-test t 3");
        lag.set_count(10);
        assert_eq!((found(0), found(9), found(10)), (None, Some(10), None));
        drop(lag);
        assert_eq!(found(9), None, "a partition that has gone is nobody's");
    }

    #[test]
    fn a_part_is_degraded_while_somebody_says_so() {
        set("test-part", "0_1", Some("down"));
        set("test-part", "0_2", Some("down"));
        set("test-part", "0_1", None);
        assert_eq!(degraded().get("test-part").map(String::as_str), Some("down"));
        set("test-part", "0_2", None);
        assert!(!degraded().contains_key("test-part"));
    }
}
