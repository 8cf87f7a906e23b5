//! How near in time two records must be to be joined.

use std::time::Duration;

use crate::error::{Error, Result};

/// The window of a stream-stream join: a record of the right stream belongs to one of the left if it is at most `before` older and at most `after` newer.
/// Both ends are included. Source: `JoinWindows`.
///
/// ```
/// use std::time::Duration;
/// use kstreams::JoinWindows;
///
/// let around = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(60));
/// // A click belongs to the view before it, for up to ten minutes.
/// let view_to_click = around.before(Duration::ZERO).after(Duration::from_secs(600));
/// assert_eq!(view_to_click.size(), Duration::from_secs(600));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    pub(super) before_ms: i64,
    pub(super) after_ms: i64,
    pub(super) grace_ms: i64,
}

impl JoinWindows {
    /// Up to `difference` in both directions, and records may come `grace` late.
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        let difference = millis(difference);
        Self { before_ms: difference, after_ms: difference, grace_ms: millis(grace) }
    }

    /// Up to `difference` in both directions, without waiting for late records.
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    /// With bounds in milliseconds, one of which may be negative: `between(-5, 10, …)` means records from 5 to 10 ms later.
    ///
    /// # Errors
    /// `Invalid` where the window would end before it begins.
    pub fn between(before_ms: i64, after_ms: i64, grace: Duration) -> Result<Self> {
        if before_ms.saturating_add(after_ms) < 0 {
            return Err(Error::invalid(format!(
                "join window: found before {before_ms} ms and after {after_ms} ms, wanted a sum that is not negative"
            )));
        }
        Ok(Self { before_ms, after_ms, grace_ms: millis(grace) })
    }

    /// Lets a record of the right stream be this much older.
    #[must_use]
    pub fn before(self, difference: Duration) -> Self {
        Self { before_ms: millis(difference), ..self }
    }

    /// Lets a record of the right stream be this much newer.
    #[must_use]
    pub fn after(self, difference: Duration) -> Self {
        Self { after_ms: millis(difference), ..self }
    }

    /// From the oldest to the newest record that a record is joined with.
    pub fn size(self) -> Duration {
        duration(self.before_ms.saturating_add(self.after_ms))
    }

    /// How late records may come.
    pub fn grace_period(self) -> Duration {
        duration(self.grace_ms)
    }

    /// How long the join keeps records.
    pub(super) fn retention(self) -> Duration {
        self.size() + self.grace_period()
    }
}

/// A quarter of the range, so that sums of four do not overflow.
const MILLIS_MAX: i64 = i64::MAX / 4;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(MILLIS_MAX).min(MILLIS_MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_may_be_negative_if_the_window_is_not() {
        let later = JoinWindows::between(-5, 10, Duration::ZERO).unwrap();
        assert_eq!((later.size().as_millis(), later.grace_period().as_millis()), (5, 0));
        assert_eq!(JoinWindows::between(-5, 5, Duration::ZERO).unwrap().size(), Duration::ZERO);
        let error = JoinWindows::between(-5, 4, Duration::ZERO).unwrap_err();
        assert!(error.message().contains("before -5 ms and after 4 ms"), "{error}");
    }

    #[test]
    fn huge_bounds_do_not_overflow() {
        let ages = JoinWindows::of_time_difference_and_grace(Duration::MAX, Duration::MAX);
        assert!(ages.retention() > Duration::from_secs(1 << 40));
    }
}
