//! The kinds of window that a stream can be grouped by.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::windowed::Window;

/// Says which windows a record falls into. Source: `org.apache.kafka.streams.kstream.Windows`.
///
/// Implemented by [`TimeWindows`] and [`UnlimitedWindows`]; implement it for windows of your own, such as calendar months.
pub trait Windows: Send + Sync + 'static {
    /// Appends the windows that a timestamp falls into, by ascending start; two windows never have the same start.
    fn windows_for(&self, timestamp: Timestamp, into: &mut Vec<Window>);
    /// How long a window is at most: a window is closed when stream time has passed its end by the grace period, and its store keeps it
    /// until then.
    fn size(&self) -> Duration;
    /// How long after a window's end records still count for it.
    fn grace_period(&self) -> Duration;
    /// Whether every window is exactly [`size`](Self::size) long, so that results can be held back until it closes
    /// ([`EmitStrategy::OnWindowClose`]).
    fn has_fixed_size(&self) -> bool {
        false
    }
    /// Checks what the windows were made of, when the topology is built.
    ///
    /// # Errors
    /// `Invalid`, saying what was found and what is wanted.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Windows of one size that begin at regular times: tumbling, or hopping where they overlap. Source: `TimeWindows`.
///
/// The start belongs to a window, the end does not; the first one begins at the epoch.
///
/// ```
/// use std::time::Duration;
/// use kstreams::{TimeWindows, Timestamp, Windows};
///
/// let hopping = TimeWindows::of_size_with_no_grace(Duration::from_millis(10))
///     .advance_by(Duration::from_millis(5));
/// let mut windows = Vec::new();
/// hopping.windows_for(Timestamp::from_millis(12), &mut windows);
/// let starts: Vec<i64> = windows.iter().map(|window| window.start.as_millis()).collect();
/// assert_eq!(starts, [5, 10]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    size: Duration,
    advance: Duration,
    grace: Duration,
}

impl TimeWindows {
    /// Tumbling windows that close at their end: what comes later is dropped.
    pub const fn of_size_with_no_grace(size: Duration) -> Self {
        Self::of_size_and_grace(size, Duration::ZERO)
    }

    /// Tumbling windows that take records until `after_window_end` after their end.
    pub const fn of_size_and_grace(size: Duration, after_window_end: Duration) -> Self {
        Self { size, advance: size, grace: after_window_end }
    }

    /// Begins a window every `advance`, so that a record falls into several.
    #[must_use]
    pub const fn advance_by(self, advance: Duration) -> Self {
        Self { advance, ..self }
    }
}

impl Windows for TimeWindows {
    fn windows_for(&self, timestamp: Timestamp, into: &mut Vec<Window>) {
        let (size, advance, at) = (millis(self.size), millis(self.advance), timestamp.as_millis());
        let earliest = at.saturating_sub(size).saturating_add(advance).max(0);
        let mut start = earliest / advance * advance;
        while start <= at {
            into.push(Window::sized(start, size));
            let Some(next) = start.checked_add(advance) else { return };
            start = next;
        }
    }

    fn size(&self) -> Duration {
        self.size
    }

    fn grace_period(&self) -> Duration {
        self.grace
    }

    fn has_fixed_size(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        at_least_a_milli("a time window's size", self.size)?;
        at_least_a_milli("a time window's advance", self.advance)?;
        if self.advance > self.size {
            return Err(Error::invalid(format!(
                "found time windows of {:?} that advance by {:?}, wanted an advance of at most the size",
                self.size, self.advance
            )));
        }
        Ok(())
    }
}

/// One window without an end, for all records from a time on. Source: `UnlimitedWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnlimitedWindows {
    start: Timestamp,
}

impl UnlimitedWindows {
    /// The window that begins at the epoch.
    pub fn of() -> Self {
        Self::default()
    }

    /// The window that begins at `start`; earlier records fall into none.
    #[must_use]
    pub const fn start_on(self, start: Timestamp) -> Self {
        Self { start }
    }
}

impl Windows for UnlimitedWindows {
    fn windows_for(&self, timestamp: Timestamp, into: &mut Vec<Window>) {
        if timestamp >= self.start {
            into.push(Window::new(self.start, Timestamp::MAX));
        }
    }

    fn size(&self) -> Duration {
        Duration::from_millis(i64::MAX.unsigned_abs())
    }

    fn grace_period(&self) -> Duration {
        Duration::ZERO
    }

    fn validate(&self) -> Result<()> {
        if self.start.as_millis() < 0 {
            let found = self.start;
            return Err(Error::invalid(format!(
                "found an unlimited window that begins at {found}, wanted a start that is not negative"
            )));
        }
        Ok(())
    }
}

/// Windows that slide with the records: one for each set of records that lie at most the time difference apart. Source: `SlidingWindows`.
///
/// Both ends belong to a window. Deviation: a time difference of zero works; in Java 4.3.1 it fails at the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(crate) difference: Duration,
    pub(crate) grace: Duration,
}

impl SlidingWindows {
    /// Windows that close when stream time passes their end.
    pub const fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    /// Windows that take records until `after_window_end` after their end.
    pub const fn of_time_difference_and_grace(
        difference: Duration,
        after_window_end: Duration,
    ) -> Self {
        Self { difference, grace: after_window_end }
    }
}

/// Windows that grow as long as records come: two records of a key at most the gap apart are in one session. Source: `SessionWindows`.
///
/// Both ends belong to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(crate) gap: Duration,
    pub(crate) grace: Duration,
}

impl SessionWindows {
    /// Sessions that close when stream time passes their end by the gap.
    pub const fn of_inactivity_gap_with_no_grace(gap: Duration) -> Self {
        Self::of_inactivity_gap_and_grace(gap, Duration::ZERO)
    }

    /// Sessions that take records until gap and `after_window_end` have passed after their end.
    pub const fn of_inactivity_gap_and_grace(gap: Duration, after_window_end: Duration) -> Self {
        Self { gap, grace: after_window_end }
    }
}

/// When results of windows are sent. Source: `EmitStrategy`, KIP-825.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmitStrategy {
    /// With every record that changes them.
    #[default]
    OnWindowUpdate,
    /// Once, with the record that moves stream time past the window's end and grace period; in order of time and key.
    ///
    /// Deviation: Java looks for closed windows at most once a second of wall-clock time; here it costs so little that each record does.
    OnWindowClose,
}

/// Milliseconds, at most the largest timestamp.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn at_least_a_milli(what: &str, found: Duration) -> Result<()> {
    if found < Duration::from_millis(1) {
        return Err(Error::invalid(format!("found {what} {found:?}, wanted at least 1ms")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(windows: &impl Windows, timestamp: i64) -> Vec<i64> {
        let mut found = Vec::new();
        windows.windows_for(Timestamp::from_millis(timestamp), &mut found);
        found.iter().map(|window| window.start.as_millis()).collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_record_falls_into_every_window_that_holds_its_time() {
        let tumbling = TimeWindows::of_size_with_no_grace(ms(10));
        assert_eq!(starts(&tumbling, 9), [0]);
        assert_eq!(starts(&tumbling, 10), [10]);
        let hopping = tumbling.advance_by(ms(3));
        assert_eq!(starts(&hopping, 0), [0]);
        assert_eq!(starts(&hopping, 12), [3, 6, 9, 12]);
        assert_eq!(starts(&hopping, 13), [6, 9, 12]);
        assert_eq!(starts(&tumbling, i64::MAX).len(), 1);
    }

    #[test]
    fn the_unlimited_window_begins_where_it_was_told() {
        let windows = UnlimitedWindows::of().start_on(Timestamp::from_millis(5));
        assert_eq!(starts(&windows, 4), [0i64; 0]);
        assert_eq!(starts(&windows, 5), [5]);
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        let refused = |windows: TimeWindows| windows.validate().unwrap_err().message().to_owned();
        let tumbling = TimeWindows::of_size_with_no_grace(ms(10));
        assert!(refused(tumbling.advance_by(ms(11))).contains("at most the size"));
        assert!(refused(tumbling.advance_by(Duration::from_micros(9))).contains("at least 1ms"));
        assert!(refused(TimeWindows::of_size_with_no_grace(ms(0))).contains("at least 1ms"));
        assert!(UnlimitedWindows::of().start_on(Timestamp::MIN).validate().is_err());
        tumbling.validate().unwrap();
    }
}
