//! Where an instance serves queries, and what of the stores it has.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::TopicPartition;

/// The address that an instance advertises (`application.server`). Source: `org.apache.kafka.streams.state.HostInfo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostInfo {
    /// Name or address; a v6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl FromStr for HostInfo {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(v6) => v6.strip_suffix(']').filter(|host| host.contains(':'))?,
                None => Some(host).filter(|host| !host.contains(':'))?,
            };
            let named = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
            let port = port.parse().ok().filter(|port| *port > 0)?;
            (!host.is_empty() && host.chars().all(named))
                .then(|| Self { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| {
            Error::invalid(format!(
                "found address \"{text}\", wanted host:port, such as node1:9464"
            ))
        })
    }
}

impl fmt::Display for HostInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// An instance of the application. Source: `org.apache.kafka.streams.StreamsMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsMetadata {
    /// Where it serves queries.
    pub host_info: HostInfo,
    /// The stores that it has partitions of, global ones left out: everybody has those.
    pub state_store_names: BTreeSet<Arc<str>>,
    /// The partitions it reads.
    pub topic_partitions: BTreeSet<TopicPartition>,
    /// The stores that it has standbys of; as the group's description places them.
    pub standby_state_store_names: BTreeSet<Arc<str>>,
    /// The partitions of its standby tasks.
    pub standby_topic_partitions: BTreeSet<TopicPartition>,
}

/// Where the state of a key is. Source: `org.apache.kafka.streams.KeyQueryMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQueryMetadata {
    /// The instance that processes the key.
    pub active_host: HostInfo,
    /// Instances with a standby of it, the one that takes over first; they answer stale reads.
    pub standby_hosts: Vec<HostInfo>,
    /// The partition of the key, and of its task.
    pub partition: i32,
}

/// How far a store is behind its changelog. Source: `org.apache.kafka.streams.LagInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagInfo {
    /// The changelog offset after what the store holds.
    pub current_offset_position: i64,
    /// The changelog's end.
    pub end_offset_position: i64,
    /// The difference; 0 for a store whose task runs: it is what writes the changelog.
    pub offset_lag: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["node1:9464", "127.0.0.1:1", "[::1]:65535", "a.b-c_d:80"] {
            assert_eq!(text.parse::<HostInfo>().unwrap().to_string(), text);
        }
        for text in
            ["", "node1", "node1:", ":80", "node1:0", "node1:65536", "::1:80", "[node]:1", "a b:1"]
        {
            let error = text.parse::<HostInfo>().unwrap_err();
            assert!(error.message().starts_with(&format!("found address \"{text}\"")), "{error}");
        }
    }
}
