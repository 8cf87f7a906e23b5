//! What is degraded: parts outside that do not work while the rest goes on. One board for the process, as with metrics.
//!
//! Whoever uses a part says so under its name; `/health/ready` shows it. A degraded process is ready all the same: it keeps what it
//! cannot do, and does it later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::mask::Mask;

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

/// The parts that somebody says are degraded, and why.
pub fn degraded() -> BTreeMap<String, String> {
    let board = BOARD.lock().unwrap_or_else(PoisonError::into_inner);
    board.iter().map(|((part, _), why)| (part.clone(), why.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
