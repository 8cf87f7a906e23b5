//! The states of a client and the legal steps between them.

use std::fmt;

/// What a client is doing. Source: `KafkaStreams.State`.
///
/// ```text
/// Created ─► Rebalancing ◄─► Running ─► PendingShutdown ─► NotRunning
///                 │             │
///                 └─► PendingError ─► Error
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Built, not started.
    Created,
    /// Tasks are being given out or restored.
    Rebalancing,
    /// Every task of this instance processes.
    Running,
    /// An ordered stop is under way.
    PendingShutdown,
    /// Stopped in order.
    NotRunning,
    /// A fatal error was met; threads are closing without a commit.
    PendingError,
    /// Stopped by an error.
    Error,
}

impl State {
    /// All states, for metrics.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Rebalancing,
        Self::Running,
        Self::PendingShutdown,
        Self::NotRunning,
        Self::PendingError,
        Self::Error,
    ];

    /// Whether `next` may follow.
    pub(super) fn may_become(self, next: Self) -> bool {
        use State::{
            Created, Error, NotRunning, PendingError, PendingShutdown, Rebalancing, Running,
        };
        matches!(
            (self, next),
            (Created | Running, Rebalancing)
                | (Rebalancing, Running)
                | (Created | Rebalancing | Running, PendingShutdown | PendingError)
                | (PendingShutdown, NotRunning)
                | (PendingError, Error)
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Rebalancing => "REBALANCING",
            Self::Running => "RUNNING",
            Self::PendingShutdown => "PENDING_SHUTDOWN",
            Self::NotRunning => "NOT_RUNNING",
            Self::PendingError => "PENDING_ERROR",
            Self::Error => "ERROR",
        })
    }
}
