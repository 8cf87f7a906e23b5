//! The rules of manager-assignment: pure decisions on small state ports, no engine types.
//!
//! Three parties, each on its own key, talk over repartition topics. [`by_request`](super::by_request) (key request_id) is the
//! only one that decides *which region* has a request; [`by_region`](super::by_region) (key region) decides *which manager* has
//! it; [`directory`](super::directory) (key manager_id) tells the regions of their managers.
//!
//! ```text
//! request-events ──┐ request_id                    region             ┌──► workflow-events
//! workflow-events ─┴──────────► by_request ──────────────► by_region ─┤    (assigned, escalated)
//!       ▲  (only closing events)    ▲     Open Amend Recall   ▲       │
//!       └── never read back ──      └───── Close              │       │ request_id
//!                                   └─────────────────────────│───────┘ Returned
//! managers ── manager_id ──► directory ── region: Manager, ManagerLeft
//! ```
//!
//! **One ticket.** A request is a ticket that is in one region at a time, or on its way. `by_request` sends it out with `Open` and
//! gets it back with `Returned`: after a `Recall` (the request's region changed) or because the region has no active manager
//! (hand-over). Only then it goes to the next region, so the old region has released it before the new one assigns it, and the
//! count of attempts and the fact that it was escalated travel with it. `Close` ends it; nothing comes back.
//!
//! **Interleaving.** Messages of one request between two parties keep their order (one producer, one partition); all other
//! interleavings are arbitrary. Each sending out has a new *epoch*; `Amend`, `Recall`, `Close` and `Returned` of any
//! other epoch are ignored. So a recall that crosses a hand-over, or a close that crosses a return, does nothing twice.
//!
//! **Order of arrival.** Topics and partitions overtake each other, so for each request:
//! - first seen as `updated` → opened by it (it is the whole state); a later `created` only corrects the time of filing, once;
//! - first seen as cancelled, completed or finished → remembered as closed; a later `created` or `updated` opens nothing;
//! - closed stays closed, whatever comes, until it is forgotten after the retention;
//! - a revision that is not higher than the known one, and every `created` after the first, changes nothing;
//! - manager records may come before or after requests: whatever waits is assigned when a manager comes.
//!
//! **Own outputs.** Of workflow-events only completion and changes to a final status are read; assignments and escalations
//! are dropped before the repartition topic, so there is no loop.
//!
//! **Deterministic ids.** An event's id derives from the event that opened the request in its region and from the
//! attempt, not from what freed the manager, so that a replay in another order gives the same id.

use kstreams::telemetry::SpanContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A request's id.
pub type RequestId = i64;
/// A manager's id.
pub type ManagerId = i64;

/// The order of waiting; P1 goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Priority {
    P1,
    P2,
    P3,
    P4,
}

impl Priority {
    /// All of them, most urgent first.
    pub const ALL: [Self; 4] = [Self::P1, Self::P2, Self::P3, Self::P4];

    /// Its name, as events carry it.
    pub(crate) const fn as_str(self) -> &'static str {
        ["P1", "P2", "P3", "P4"][self as usize]
    }
}

/// What `request.created` and `request.updated` say that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The request.
    pub request_id: RequestId,
    /// Grows with each update.
    pub revision: i32,
    /// Where the work is to be done.
    pub region: String,
    /// From the urgency.
    pub priority: Priority,
    /// The event's timestamp.
    pub timestamp_ms: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The request's, kept through every derived event.
    pub correlation_id: Option<Uuid>,
}

/// What the by-request task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestInput {
    /// `request.created`.
    Created(Submission),
    /// `request.updated`.
    Updated(Submission),
    /// `request.cancelled`, `workflow.work_completed`, `workflow.status_changed` to a final status.
    Closed(RequestId),
    /// A region gives a ticket back.
    Returned(Returned),
}

impl RequestInput {
    /// The key of the by-request repartition topic.
    pub fn request_id(&self) -> RequestId {
        match self {
            Self::Created(submission) | Self::Updated(submission) => submission.request_id,
            Self::Closed(request_id) => *request_id,
            Self::Returned(returned) => returned.request_id,
        }
    }
}

/// A ticket on its way back from a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The request.
    pub request_id: RequestId,
    /// The epoch it was sent out with.
    pub epoch: u32,
    /// How often it was assigned so far.
    pub attempts: u32,
    /// Whether it was escalated already.
    pub escalated: bool,
}

/// A request as a region gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The request.
    pub request_id: RequestId,
    /// Grows with each sending out.
    pub epoch: u32,
    /// How often it was assigned before.
    pub attempts: u32,
    /// Whether it was escalated before.
    pub escalated: bool,
    /// What may change while it is in the region.
    pub terms: Terms,
    /// The event that brought it to its home region.
    pub cause_id: Uuid,
    /// The request's.
    pub correlation_id: Option<Uuid>,
}

/// What may change of a request that stays in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Its place in the queue.
    pub priority: Priority,
    /// When the request was filed.
    pub opened_at_ms: i64,
    /// Hand-overs since its home region.
    pub hops: u32,
    /// Whether there is another region to hand it over to.
    pub has_fallback: bool,
}

/// What a region's task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegionInput {
    /// Assign this request.
    Open(Ticket),
    /// Its terms have changed.
    Amend {
        /// The request.
        request_id: RequestId,
        /// Of its sending out.
        epoch: u32,
        /// The new ones.
        terms: Terms,
    },
    /// Release it and give it back.
    Recall {
        /// The request.
        request_id: RequestId,
        /// Of its sending out.
        epoch: u32,
    },
    /// It is finished: release it.
    Close {
        /// The request.
        request_id: RequestId,
        /// Of its sending out.
        epoch: u32,
    },
    /// A manager has this region for a home, and these properties.
    Manager {
        /// The manager.
        manager_id: ManagerId,
        /// Open requests at a time.
        capacity: u32,
        /// Whether the manager takes requests.
        active: bool,
    },
    /// A manager has left the region.
    ManagerLeft(ManagerId),
}

/// A message to a region's task; the region is the key of the repartition topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToRegion {
    /// The addressee.
    pub region: String,
    /// What it is told.
    pub input: RegionInput,
}

/// What a region's task decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegionOutput {
    /// Publish `workflow.manager_assigned`.
    Assigned(Assignment),
    /// Publish `workflow.status_changed` to `escalated`.
    Escalated(Escalation),
    /// Tell the by-request task.
    Returned(Returned),
}

impl RegionOutput {
    /// Where what opened the request stands in a trace.
    pub fn trace(&self) -> Option<SpanContext> {
        match self {
            Self::Assigned(assignment) => assignment.trace,
            Self::Escalated(escalation) => escalation.trace,
            Self::Returned(_) => None,
        }
    }
}

/// A `workflow.manager_assigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The request.
    pub request_id: RequestId,
    /// Who got it.
    pub manager_id: ManagerId,
    /// Where it is counted: the request's region, or its fallback.
    pub region: String,
    /// From the urgency.
    pub priority: Priority,
    /// The request's timestamp and its SLA.
    pub sla_deadline_ms: i64,
    /// Counts the request's assignments from 1.
    pub attempt: u32,
    /// Whether it had been escalated.
    pub escalated: bool,
    /// The event that caused it.
    pub cause_id: Uuid,
    /// The request's.
    pub correlation_id: Option<Uuid>,
    /// Where what opened the request stands in a trace.
    pub trace: Option<SpanContext>,
}

impl Assignment {
    /// What tells this event from others with the same cause.
    pub fn discriminator(&self) -> String {
        format!("{}:{}", self.request_id, self.attempt)
    }
}

/// A `workflow.status_changed` to `escalated`; once for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// The request.
    pub request_id: RequestId,
    /// Whether it had a manager in an earlier region (from `assigned`), or never (from `new`).
    pub was_assigned: bool,
    /// The deadline that has passed.
    pub sla_deadline_ms: i64,
    /// The event that caused it.
    pub cause_id: Uuid,
    /// The request's.
    pub correlation_id: Option<Uuid>,
    /// Where what opened the request stands in a trace.
    pub trace: Option<SpanContext>,
}

impl Escalation {
    /// What tells this event from others with the same cause.
    pub fn discriminator(&self) -> String {
        format!("{}:escalated", self.request_id)
    }
}
