//! Questions to the running application: what has become of a request, who waits, what a manager has in hand.
//!
//! ```text
//! question ──► part of each topology ──► reads of stores, each on the instance that has the partition
//! ```
//!
//! A topology answers its part by named *reads* of its stores, each of one partition; a read of a partition that is elsewhere is sent
//! to its owner, as the group's metadata names it. An instance that does not run a topology asks one that does.
//! Called by HTTP handlers, on blocking threads; what is read was committed. A part consists of several reads, between which
//! commits may lie.

mod peers;
mod read;
mod routes;
mod service;
mod text;

use std::fmt;

use kstreams::{Error, ErrorKind, Handle, Result, SystemClock};
use serde_json::Value;

pub use peers::{Peers, ask};
pub use read::{from_json, get, number, open, to_json};
pub(crate) use routes::router;
pub use service::QueryService;
pub use text::render;
pub(crate) use text::utc;

/// How often a read looks for its partition's owner before it gives up; a rebalance takes about a second.
const ATTEMPTS_MAX: u32 = 10;
/// Between two of them.
const ATTEMPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(300);
/// Entries that one read of a partition returns at most.
pub const ENTRIES_MAX: usize = 1_000;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A request: status, manager, priority, grants, documents, notifications.
    Request(i64),
    /// A manager and what the manager has in hand.
    Manager(i64),
    /// A contractor: verification, grants, contract.
    Contractor(i64),
    /// The requests that no manager has taken yet.
    Waiting {
        /// Of one region only.
        region: Option<String>,
    },
    /// The documents of requests.
    Paperwork {
        /// Without those that are signed and paid.
        open_only: bool,
    },
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "request {id}"),
            Self::Manager(id) => write!(f, "manager {id}"),
            Self::Contractor(id) => write!(f, "contractor {id}"),
            Self::Waiting { region: None } => f.write_str("waiting requests"),
            Self::Waiting { region: Some(region) } => write!(f, "waiting requests of {region}"),
            Self::Paperwork { open_only: true } => f.write_str("open paperwork"),
            Self::Paperwork { open_only: false } => f.write_str("paperwork"),
        }
    }
}

impl Question {
    /// Path and query string under `/query/` or `/query/part/TOPOLOGY/`.
    pub fn path(&self) -> String {
        match self {
            Self::Request(id) => format!("request/{id}"),
            Self::Manager(id) => format!("manager/{id}"),
            Self::Contractor(id) => format!("contractor/{id}"),
            Self::Waiting { region: None } => "waiting".to_owned(),
            Self::Waiting { region: Some(region) } => {
                format!("waiting?region={}", percent_encoded(region))
            }
            Self::Paperwork { open_only } => format!("paperwork?open={open_only}"),
        }
    }
}

/// A text as part of a query string.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What a topology can tell. Implemented beside its stores.
pub trait Queries: Send + Sync {
    /// Whether it has a part in the answer.
    fn takes_part(&self, question: &Question) -> bool;

    /// Its part, as an object whose fields join the answer; null: it knows nothing of it.
    ///
    /// # Errors
    /// Those of the reads.
    fn part(&self, question: &Question, reads: &Reads<'_>) -> Result<Value>;

    /// Carries out a read on one partition that this instance has.
    ///
    /// # Errors
    /// `Retriable` where the partition is not here, `Invalid` for a read that there is not.
    fn read(&self, handle: &Handle, read: &str, partition: i32, argument: &str) -> Result<Value>;
}

/// The reads of one topology, wherever its partitions are.
pub struct Reads<'a> {
    /// The topology's name.
    pub topology: &'a str,
    /// The client that runs it here.
    pub handle: &'a Handle,
    queries: &'a dyn Queries,
    peers: &'a Peers,
}

impl Reads<'_> {
    /// A read of one partition of `store`.
    ///
    /// # Errors
    /// `Retriable` where nobody has the partition for some seconds, else those of the read.
    pub fn one(&self, store: &str, partition: i32, read: &str, argument: &str) -> Result<Value> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(store, partition, read, argument) {
                Err(error) if error.kind() == ErrorKind::Retriable => error,
                done => return done,
            };
            if attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
            std::thread::park_timeout(ATTEMPT_PAUSE);
        }
    }

    /// A read of every partition of `store`, in their order.
    ///
    /// # Errors
    /// As [`one`](Self::one).
    pub fn all(&self, store: &str, read: &str, argument: &str) -> Result<Vec<Value>> {
        let partitions = 0..self.handle.partitions_of_store(store)?;
        partitions.map(|partition| self.one(store, partition, read, argument)).collect()
    }

    /// Here first: it costs nothing, and is where most of it is.
    fn attempt(&self, store: &str, partition: i32, read: &str, argument: &str) -> Result<Value> {
        let here = match self.queries.read(self.handle, read, partition, argument) {
            Err(error) if error.kind() == ErrorKind::Retriable => error,
            done => return done,
        };
        let Some(owner) = self.handle.query_metadata_for_partition(store, partition)? else {
            return Err(here);
        };
        let argument = percent_encoded(argument);
        let topology = self.topology;
        self.peers.get(
            &owner.active_host.to_string(),
            &format!("/query/read/{topology}/{read}/{partition}?argument={argument}"),
        )
    }
}

/// The error for a read that a topology does not have: another version asks.
pub fn unknown_read(topology: &str, read: &str) -> Error {
    Error::invalid(format!(
        "found no read \"{read}\" of {topology}; the instances run different versions"
    ))
}

fn clock() -> SystemClock {
    SystemClock::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_have_paths() {
        let waiting = Question::Waiting { region: Some("Nord & Süd".to_owned()) };
        assert_eq!(waiting.path(), "waiting?region=Nord%20%26%20S%C3%BCd");
        assert_eq!(Question::Request(7).path(), "request/7");
        assert_eq!(Question::Paperwork { open_only: true }.path(), "paperwork?open=true");
    }
}
