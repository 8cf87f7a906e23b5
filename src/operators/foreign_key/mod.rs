//! Joins of two tables by a key that lies in the left rows' values (KIP-213, KIP-1104).
//!
//! The left side sends a subscription to the right row's partition, the right side keeps it and answers it, at once and at each
//! change of the right row; the left side joins an answer if its row is still the one that asked. Hot path.

mod left;
mod murmur3;
mod right;
mod wire;

pub(crate) use left::{ResponseJoin, SubscriptionSend};
pub(crate) use right::{ForeignTableJoin, SubscriptionJoin, SubscriptionReceive};
pub(crate) use wire::{Response, Subscription, response_serde, subscription_serde};

use std::sync::Arc;

/// The names that serdes are told inside a join, which no real topic has.
/// Source: `InternalTopologyBuilder.decoratePseudoTopic`.
fn pseudo_topic(application_id: &str, subscription_topic: &str, suffix: &str) -> Arc<str> {
    format!("{application_id}-{subscription_topic}-{suffix}").into()
}
