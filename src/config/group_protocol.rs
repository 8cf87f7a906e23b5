//! By what protocol the instances of an application share its tasks.

use std::str::FromStr;

use crate::error::{Error, Result};

/// By what protocol the group is joined. Java key: `group.protocol`.
///
/// Instances with different ones may be in one group (KIP-848 moves a group over while it works), so that it can be changed by a rolling restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// `auto`: KIP-848 where the brokers have it and their session time-out is no longer than `session.timeout.ms`, else the classic one. Not in
    /// Kafka Streams.
    Auto,
    /// `classic`: every rebalance halts all tasks until it is over; any broker has it.
    #[default]
    Classic,
    /// `consumer`: KIP-848. Tasks that stay go on during a rebalance. How long a silent instance keeps its tasks is the brokers' setting
    /// (`group.consumer.session.timeout.ms`, 45 s by default). Rolling restarts by it are not proven yet, so it is not the default.
    Consumer,
}

impl FromStr for GroupProtocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            other => Err(Error::invalid(format!(
                "setting group.protocol: found \"{other}\", wanted auto, classic or consumer"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_read_by_kafkas_name() {
        assert_eq!("auto".parse::<GroupProtocol>().unwrap(), GroupProtocol::Auto);
        assert_eq!("consumer".parse::<GroupProtocol>().unwrap(), GroupProtocol::Consumer);
        let error = "eager".parse::<GroupProtocol>().unwrap_err();
        assert!(error.message().contains("found \"eager\", wanted auto"), "{error}");
    }
}
