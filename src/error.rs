//! The one public error of the engine.
//!
//! Errors are sorted by what the caller does next, not by where they came from: [`ErrorKind`] is the
//! reaction, and `runtime` matches on it without a wildcard. Every module turns its own failures into
//! this type at its border.

use std::fmt;

/// What the runtime does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Worth trying again (time-out, leader change, registry not reachable); bounded by `task.timeout.ms`.
    Retriable,
    /// The transaction must be aborted, uncommitted store writes dropped and the input rewound.
    AbortTransaction,
    /// Another member owns the tasks now: close them without a commit and rejoin.
    TaskMigrated,
    /// A store is damaged or behind its changelog: wipe that store and restore it.
    TaskCorrupted,
    /// The record in hand cannot be processed: ask its handler to skip, dead-letter or fail.
    BadRecord,
    /// The configuration or the topology is wrong: refuse before the first record.
    Invalid,
    /// Nothing sensible is left to do: close the client, or replace the thread.
    Fatal,
}

/// An error with the reaction it asks for, a message and, where there is one, its cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of every fallible operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// Adds the error that caused this one.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being attempted in front of the message; the kind stays.
    pub fn context(mut self, attempted: impl fmt::Display) -> Self {
        self.0.message = format!("{attempted}: {}", self.0.message);
        self
    }

    /// The reaction that this error asks for.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The text of this error alone, without its causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// An [`ErrorKind::Retriable`] error.
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retriable, message)
    }

    /// An [`ErrorKind::BadRecord`] error, which a processor or a serde returns to have its record dead-lettered.
    pub fn bad_record(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRecord, message)
    }

    /// An [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// An [`ErrorKind::Fatal`] error.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
