//! The rules of notifications: pure decisions on small state ports, no engine types.
//!
//! Two parties, each on its own key. [`by_request`](super::by_request) (key request_id) knows what only other events say of a
//! request: its customer, its manager, its title. [`by_recipient`](super::by_recipient) (key recipient) knows how people are reached, and
//! makes each notification once.
//!
//! ```text
//! request-events ──┐ request_id               recipient               ┌──► notification-commands
//! workflow-events ─┴───────────► by_request ────────────► by_recipient ┤
//!                                      security-events, hr-events ▲    └──► notification-events (failed)
//!                                      contacts, managers ────────┘
//! ```
//!
//! **Who is told what** is the table of [`cases`](super::cases). Which events are told of does not depend on the order in which
//! they come: each event makes its notifications, also late ones, and topics overtake each other:
//! - a fact that is not known yet (the customer of a request, its manager, its title) is waited for, durably, up to `facts_wait_ms`. Then
//!   a message goes out without a title; one that nobody can be told is `notification.failed` for `request:<id>`;
//! - a recipient who cannot be reached at all is waited for up to `contact_wait_ms`, because people file their first request and their
//!   address in one go, and the two come on different topics. Then it is `notification.failed`;
//! - a second `request.created` of one request tells nobody anything, whatever its event id.
//!
//! **Once.** A notification's id follows from the event that caused it, the template and the recipient: UUIDv5 of
//! `<event_id>:notification.command:<template>:<recipient>`. A duplicate of the event gives the same id, which is remembered for
//! `made_retention_ms` and makes no second command, and no second failure, be it that nobody knows whom to tell.

use std::collections::BTreeMap;

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cases::Case;
use crate::events::derived_id;
use crate::recipients;

/// A request's id.
pub type RequestId = i64;

/// Values of a template's placeholders.
pub type Parameters = BTreeMap<String, String>;

/// The event behind a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id.
    pub event_id: Uuid,
    /// The request's, kept through every derived event.
    pub correlation_id: Option<Uuid>,
    /// Where it stands in a trace.
    #[serde(skip)]
    pub trace: Option<SpanContext>,
}

/// What the events of a request say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Grows with each update.
    pub revision: i32,
    /// Who filed it.
    pub customer_id: i64,
    /// One line.
    pub title: String,
    /// Where the work is.
    pub city: String,
    /// Where exactly.
    pub address: String,
}

/// Whom a notification is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The customer of the request, who may have to be looked up.
    Customer,
    /// The manager of the request, who may have to be looked up.
    Manager,
    /// Somebody whom the event names.
    Recipient(String),
}

/// A notification that an event of a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What for.
    pub case: Case,
    /// For whom.
    pub who: Who,
    /// The event.
    pub cause: Cause,
    /// Parameters that the event knows; the request's own are added.
    pub parameters: Parameters,
}

/// What an event means for its request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestInput {
    /// The request.
    pub request_id: RequestId,
    /// What it says of the request.
    pub submission: Option<Submission>,
    /// Whether it is `request.created`.
    pub is_created: bool,
    /// The customer, where that is all it says.
    pub customer_id: Option<i64>,
    /// The manager, with the attempt of the assignment; 0 where the event does not say.
    pub manager: Option<(i32, i64)>,
    /// Whether nothing more happens to the request.
    pub is_final: bool,
    /// What it asks for.
    pub asks: Vec<Ask>,
}

/// A notification on its way to its recipient's task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id.
    pub id: Uuid,
    /// What for.
    pub case: Case,
    /// The event.
    pub cause: Cause,
    /// The request it is about.
    pub request_id: Option<RequestId>,
    /// All parameters of the case.
    pub parameters: Parameters,
}

impl Notice {
    /// A notification for a recipient; parameters that the case wants and nobody knows are empty.
    pub fn new(
        recipient: &str,
        case: Case,
        cause: Cause,
        request_id: Option<RequestId>,
        mut parameters: Parameters,
    ) -> Self {
        for name in case.parameters() {
            parameters.entry((*name).to_owned()).or_default();
        }
        Self {
            id: notification_id(cause.event_id, case, recipient),
            case,
            cause,
            request_id,
            parameters,
        }
    }
}

/// The id of a notification; see the module.
pub fn notification_id(event_id: Uuid, case: Case, recipient: &str) -> Uuid {
    derived_id(event_id, COMMAND, &format!("{}:{recipient}", case.template()))
}

/// The event type of a command.
pub const COMMAND: &str = "notification.command";

/// What a recipient's task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientInput {
    /// Tell the recipient this.
    Notice(Notice),
    /// How the recipient is reached has changed.
    Change(recipients::Change),
    /// Nobody knows who is to be told; the recipient is `request:<id>`.
    NobodyKnown(Failure),
}

/// A notification that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For whom it was, or `request:<id>` where nobody knows.
    pub recipient: String,
    /// The notification.
    pub notice: Notice,
    /// Why.
    pub error: String,
}
