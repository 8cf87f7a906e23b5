//! Waiting for something that another thread or process does.

use std::time::{Duration, Instant};

/// Long enough for anything that works, on a loaded machine with two cores.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns when `condition` holds; looks every 20 ms.
///
/// # Panics
/// When it does not hold within `deadline`; `what` says what was waited for.
#[expect(clippy::disallowed_methods, reason = "the one place where tests wait in real time")]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until("three looks", DEADLINE, || {
            looks += 1;
            looks == 3
        });
    }

    #[test]
    #[should_panic(expected = "in vain for the impossible")]
    fn a_condition_that_stays_false_panics_with_its_name() {
        wait_until("the impossible", Duration::from_millis(50), || false);
    }
}
