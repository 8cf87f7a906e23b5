//! Which group protocol a process speaks, chosen from what its brokers support. Cold: once a membership.
//!
//! KIP-848 moves only what has to move, but there the broker alone says how long a silent member keeps its partitions. Where that is longer than the
//! configured session time-out, a crash would stand for longer than the configuration promises (45 s by a broker's default, against 10 s),
//! which costs more than the short halts of the classic protocol's planned moves: the classic one is chosen then, and why is said. So it is for static
//! members: a killed one that comes back takes its id over at once by the classic protocol, and by KIP-848 only after its session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::admin::ClusterAdmin;
use super::config::ClientSettings;
use super::configs;
use super::snapshot::Protocol;
use crate::config::GroupProtocol;
use crate::error::Result;

/// The broker's setting, absent where it knows nothing of KIP-848.
const SESSION_TIMEOUT: &str = "group.consumer.session.timeout.ms";
/// How long the broker is asked for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was learned of the brokers.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// They have refused a member that joined by the consumer protocol.
    refused: AtomicBool,
}

impl Choice {
    /// The brokers do not speak the consumer protocol.
    pub(super) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// The protocol to join by.
    pub(super) fn of(&self, settings: &ClientSettings) -> Protocol {
        let is_refused = self.refused.load(Ordering::Relaxed);
        match settings.group_protocol {
            GroupProtocol::Classic => Protocol::Classic,
            GroupProtocol::Consumer => Protocol::Consumer,
            GroupProtocol::Auto if is_refused => Protocol::Classic,
            GroupProtocol::Auto => match suits(settings) {
                Ok(()) => Protocol::Consumer,
                Err(reason) => {
                    tracing::info!(reason, "joining by the classic group protocol");
                    Protocol::Classic
                }
            },
        }
    }
}

/// Whether the consumer protocol is to be preferred; if not, why.
fn suits(settings: &ClientSettings) -> std::result::Result<(), String> {
    if settings.group_instance_id.is_some() {
        return Err("a static member that was killed comes back sooner by it".into());
    }
    let admin = ClusterAdmin::new(settings);
    let found = admin.and_then(|admin| configs::of_broker(&admin, SESSION_TIMEOUT, TIMEOUT));
    is_short(found, settings.session_timeout)
}

/// Whether the brokers' session time-out is no longer than the one wanted; if it is, what to do.
fn is_short(found: Result<Option<String>>, wanted: Duration) -> std::result::Result<(), String> {
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Err("the brokers do not know the consumer group protocol".into()),
        Err(error) => return Err(format!("the broker's {SESSION_TIMEOUT} is not known: {error}")),
    };
    match found.parse().map(Duration::from_millis) {
        Ok(session) if session <= wanted => Ok(()),
        _ => Err(format!(
            "found {SESSION_TIMEOUT} = {found} on the brokers, wanted at most session.timeout.ms = {}: lower the one (and group.consumer.min.session.timeout.ms) or raise the other, or set group.protocol = consumer",
            wanted.as_millis()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn the_consumer_protocol_is_preferred_where_a_crash_is_noticed_in_time() {
        let wanted = Duration::from_secs(10);
        let told = |found: &str| is_short(Ok(Some(found.to_owned())), wanted);
        assert_eq!(told("10000"), Ok(()));
        let reason = told("10001").unwrap_err();
        assert!(reason.contains("found group.consumer.session.timeout.ms = 10001"), "{reason}");
        assert!(reason.contains("wanted at most session.timeout.ms = 10000"), "{reason}");
        assert!(is_short(Ok(None), wanted).unwrap_err().contains("do not know"));
        let refused = is_short(Err(Error::fatal("not authorised")), wanted).unwrap_err();
        assert!(refused.contains("is not known: not authorised"), "{refused}");
    }
}
