//! Windowed keys: a key together with the span of event time that its records fell into.

use std::fmt;

use crate::nullable::Nullable;
use crate::time::Timestamp;

/// A span of event time. Source: `Window`, `TimeWindow`, `SessionWindow`.
///
/// Whether the end belongs to it depends on the kind of window: not in tumbling, hopping and unlimited windows, it does in sliding
/// and session windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// The first millisecond.
    pub start: Timestamp,
    /// The last millisecond, or the one after it.
    pub end: Timestamp,
}

impl Window {
    /// The window from `start` to `end`.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// The window of `size_ms` that begins at `start_ms`; its end is at most the largest timestamp. Source: `timeWindowForSize`.
    pub(crate) const fn sized(start_ms: i64, size_ms: i64) -> Self {
        let end = start_ms.saturating_add(size_ms);
        Self::new(Timestamp::from_millis(start_ms), Timestamp::from_millis(end))
    }

    /// The window between two times in milliseconds.
    pub(crate) const fn between(start_ms: i64, end_ms: i64) -> Self {
        Self::new(Timestamp::from_millis(start_ms), Timestamp::from_millis(end_ms))
    }
}

/// A key and a window. Source: `Windowed`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Windowed<K> {
    /// The record's key.
    pub key: K,
    /// The window.
    pub window: Window,
}

impl<K> Windowed<K> {
    /// `key` in `window`.
    pub const fn new(key: K, window: Window) -> Self {
        Self { key, window }
    }
}

/// `[key@start/end]`, as Java's `toString`.
impl<K: fmt::Display> fmt::Display for Windowed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}@{}/{}]", self.key, self.window.start, self.window.end)
    }
}

impl<K: Clone + Send + 'static> Nullable for Windowed<K> {
    type NonNull = Self;

    fn as_non_null(&self) -> Option<&Self> {
        Some(self)
    }

    fn into_non_null(self) -> Option<Self> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_java() {
        let windowed = Windowed::new("k", Window::sized(5, 10));
        assert_eq!(windowed.to_string(), "[k@5/15]");
    }

    #[test]
    fn an_end_beyond_the_largest_timestamp_is_cut() {
        assert_eq!(Window::sized(i64::MAX - 1, 10).end, Timestamp::MAX);
    }
}
