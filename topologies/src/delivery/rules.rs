//! The rules of delivery: pure decisions on small state ports, no engine types.
//!
//! ```text
//! notification-commands ──┐ recipient            claim            committed
//! contacts, managers ─────┴──────────► outbox ───────────► claimed ───────────► courier (threads, providers)
//!                                        ▲                                          │
//!                                        └───────────── verdict ────────────────────┘──► notification-events
//! ```
//!
//! **Outbox.** Every command is stored at once, and taken out when it is settled; so no channel holds up the reading. Messages to one
//! recipient on one channel form a *lane*: they are sent in the order they came, one at a time. Lanes are independent.
//!
//! **Claim, commit, send.** A message is claimed in the store first, and handed to the courier only after the commit of the claim: a task
//! that is not the owner any more cannot commit, so it sends nothing. Its result is applied in the transaction that publishes the event. Hence:
//! - a crash loses no message, and at most the claimed ones, whose result was not committed (at most `in_flight_max` a task and
//!   channel), are sent again, with the same Message-ID or idempotency key;
//! - before a task is given up in order (a stop, a rebalance), it waits for the results of what is under way, and commits them;
//! - an aborted transaction sends nothing again: the courier remembers what it has sent.
//!
//! **What an answer means:**
//!
//! | verdict | examples | counts as an attempt | circuit | then |
//! |---|---|---|---|---|
//! | sent | 250, HTTP 200 | – | works | `notification.<channel>.sent` |
//! | refused | 550, chat not found, bot blocked | – | works | `notification.failed`, permanent |
//! | later, the message | 450, 451 | yes | works | again after a pause |
//! | later, the provider | HTTP 5xx, 421 | yes | fails | again after a pause |
//! | later, unreachable | no connection, no answer, login refused | no | fails | again after a pause |
//! | later, throttled | 429 | no | pauses for `retry_after` | again after that |
//!
//! After `attempts_max` attempts, or `give_up_after_ms` in the outbox, it is `notification.failed`, not permanent. Pauses grow from
//! `backoff_min_ms` to `backoff_max_ms`, twofold, each shortened by up to a half so that not all come back at once. The shortening follows from id and
//! attempt: no random numbers, so tests can tell.
//!
//! **Where to.** Addresses are looked up when a message is sent, not when it was asked for. A recipient who lacks the channel, or
//! whose channel is switched off, gets the message on the next of e-mail, SMS, Telegram; one who cannot be reached at all is waited for up to
//! `contact_wait_ms`, then it is `notification.failed`.
//!
//! **Once.** The id of every message is remembered for `sent_retention_ms` after it is settled; a command with a known id changes nothing.

use std::collections::BTreeMap;

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::Traced;
use crate::events::Channel;
use crate::recipients::{self, Address};

use super::circuit::Sign;

/// The channels there are.
pub const CHANNELS: [Channel; 3] = [Channel::Email, Channel::Telegram, Channel::Sms];

/// What a recipient's task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Send this.
    Command {
        /// The channel wanted.
        channel: Channel,
        /// The message.
        message: Message,
    },
    /// How the recipient is reached has changed.
    Change(recipients::Change),
}

/// A message, before it is a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, which providers get as Message-ID or idempotency key.
    pub id: Uuid,
    /// The template.
    pub template: String,
    /// Values for its placeholders.
    pub parameters: BTreeMap<String, String>,
    /// The language.
    pub locale: String,
    /// The request it is about.
    pub request_id: Option<i64>,
    /// The request's.
    pub correlation_id: Option<Uuid>,
    /// The command's.
    pub command_id: Uuid,
    /// Where the command stands in a trace.
    #[serde(skip)]
    pub trace: Option<SpanContext>,
}

impl Traced for Pending {
    fn trace(&self) -> Option<SpanContext> {
        self.message.trace
    }

    fn set_trace(&mut self, context: SpanContext) {
        self.message.trace = Some(context);
    }
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What is to be sent.
    pub message: Message,
    /// When it came.
    pub accepted_at_ms: i64,
    /// Attempts that count.
    pub attempts: u32,
    /// All attempts.
    pub tries: u32,
    /// Whether it may be under way.
    pub claimed: bool,
    /// What was said last.
    pub last_error: String,
}

/// What is known of an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// It is in the outbox.
    Waiting {
        /// Its lane.
        channel: Channel,
        /// Its lane.
        recipient: String,
        /// Its place there.
        place: u64,
        /// When it is given up.
        expires_at_ms: i64,
    },
    /// It is settled.
    Settled {
        /// When it is forgotten.
        forget_at_ms: i64,
        /// The request it was about.
        request_id: Option<i64>,
    },
}

/// A message about a request, as it is shown to who asks about the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Who it is for.
    pub recipient: String,
    /// The template.
    pub template: String,
    /// Its channel, the last one where it was redirected.
    pub channel: Channel,
    /// Since when it is so.
    pub at_ms: i64,
    /// What has become of it.
    pub fate: Fate,
}

/// What has become of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is in the outbox.
    Waiting,
    /// It was sent.
    Sent,
    /// It was given up, for this reason.
    Failed(String),
}

/// The messages to one recipient on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The place of the first message.
    pub first: u64,
    /// The place of the next message to come.
    pub next: u64,
    /// When the first message may be sent.
    pub due_ms: i64,
}

/// A message on its way to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// On which channel, to where.
    pub address: Address,
    /// Who it is for.
    pub recipient: String,
    /// What.
    pub message: Message,
    /// The number of this attempt.
    pub attempt: u32,
}

/// Why a message was not sent, though it may be later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The provider does not take this message now.
    Message,
    /// The provider says that it cannot work.
    Provider,
    /// There was no answer, or no way to get one.
    Unreachable,
    /// The provider wants fewer messages.
    Throttled,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The provider has taken it, under this id.
    Sent(Option<String>),
    /// The provider will never take it.
    Refused(String),
    /// Not now.
    Later {
        /// Why.
        reason: Reason,
        /// What was said.
        error: String,
        /// When to come again, if the provider said so.
        retry_after_ms: Option<i64>,
    },
}

impl Verdict {
    /// What it says of the provider; `pause_ms` where it wants a pause and does not say how long.
    pub fn sign(&self, pause_ms: i64) -> Sign {
        match self {
            Self::Sent(_) | Self::Refused(_) => Sign::Works,
            Self::Later { reason, retry_after_ms, .. } => match reason {
                Reason::Message => Sign::Works,
                Reason::Provider | Reason::Unreachable => Sign::Fails,
                Reason::Throttled => Sign::Pause(retry_after_ms.unwrap_or(pause_ms)),
            },
        }
    }

    /// The word for it in metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::Refused(_) => "refused",
            Self::Later { reason: Reason::Message, .. } => "later_message",
            Self::Later { reason: Reason::Provider, .. } => "later_provider",
            Self::Later { reason: Reason::Unreachable, .. } => "later_unreachable",
            Self::Later { reason: Reason::Throttled, .. } => "later_throttled",
        }
    }
}

/// A message that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Who it was for.
    pub recipient: String,
    /// The channel used last.
    pub channel: Channel,
    /// What was to be sent.
    pub pending: Pending,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Sent; with the provider's id.
    Sent(Option<String>),
    /// Failed.
    Failed {
        /// Why.
        error: String,
        /// Whether trying again is pointless.
        permanent: bool,
    },
}

/// The pause before the next attempt, in milliseconds.
pub fn backoff_ms(id: Uuid, tries: u32, min_ms: i64, max_ms: i64) -> i64 {
    let doubled = min_ms.saturating_mul(1 << tries.saturating_sub(1).min(30)).min(max_ms);
    // UUIDv5 bytes are as good as random; another one for each attempt.
    let byte = id.as_bytes()[(tries as usize).wrapping_mul(7) % 16];
    doubled - doubled / 2 * i64::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_shortened_by_at_most_a_half() {
        let ids: Vec<Uuid> = (0..200).map(|n| Uuid::new_v5(&Uuid::nil(), &[n])).collect();
        for (tries, longest) in [(1, 1_000), (2, 2_000), (5, 16_000), (6, 30_000), (999, 30_000)] {
            let pauses: Vec<i64> =
                ids.iter().map(|id| backoff_ms(*id, tries, 1_000, 30_000)).collect();
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{tries}");
            let (low, high) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(high - low > longest / 3, "spread: {low}..{high}");
        }
    }

    #[test]
    fn only_the_provider_s_own_troubles_are_signs_against_it() {
        let later = |reason, retry_after_ms| Verdict::Later {
            reason,
            error: String::new(),
            retry_after_ms,
        };
        for (verdict, sign) in [
            (Verdict::Sent(None), Sign::Works),
            (Verdict::Refused(String::new()), Sign::Works),
            (later(Reason::Message, None), Sign::Works),
            (later(Reason::Provider, None), Sign::Fails),
            (later(Reason::Unreachable, None), Sign::Fails),
            (later(Reason::Throttled, Some(7)), Sign::Pause(7)),
            (later(Reason::Throttled, None), Sign::Pause(5)),
        ] {
            assert_eq!(verdict.sign(5), sign);
        }
    }
}
