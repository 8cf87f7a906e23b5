//! The rules of contractor-access: pure decisions on small state ports, no engine types.
//!
//! Two parties, each on its own key, talk over a repartition topic. [`by_request`](super::by_request) (key request_id) knows
//! where a request is, whether it is open and who has the job; [`by_contractor`](super::by_contractor) (key contractor_id)
//! knows who is verified for what, and is the only one that grants and that revokes grants.
//!
//! ```text
//! request-events ──┐ request_id                 contractor_id
//! workflow-events ─┴──────────► by_request ─┬──────────────────► by_contractor ─┬─► security-events (granted, revoked)
//!                                           │  Decide Region Release     ▲      └─► audit-events
//!                                           └─► denied without asking    │
//! security-events (verified, rejected; never our own) ── contractor_id ──┘
//! ```
//!
//! **One decision for each assignment.** `contractor_assigned` is decided once: granted, or denied with the first reason that
//! holds of `request_closed`, `unknown_request`, `reassigned`, `rejected`, `expired`, `region_not_allowed`, `not_verified`. It waits while its
//! request is unknown (in `by_request`) or its contractor is (in `by_contractor`), each up to a limit of the wall clock. An assignment
//! of the contractor who has the grant already, or whose decision waits, says nothing new and is not decided.
//!
//! **Each grant ends once.** A grant is an entry of `by_contractor`, made with `access_granted` and taken out with
//! `access_revoked`: on rejection or expiry there, on the request's end or its next assignment by `Release` of `by_request`.
//!
//! **Order of arrival.** Topics and partitions overtake each other:
//! - of a request's states the highest revision holds; its first end is final;
//! - of a request's assignments the one with the latest timestamp holds (ties: the higher event id): an older one that comes
//!   later is decided `reassigned`; one that was seen already, by its event id, is ignored;
//! - of a contractor's verifications and rejections the latest by timestamp holds (ties: the rejection);
//! - `Decide`, `Region` and `Release` of one request to one contractor keep their order (one producer, one partition).
//!
//! **Clocks.** A verification is over when the wall clock has reached its `valid_until`, or an assignment of its contractor
//! carries that timestamp or a later one: whichever comes first.
//!
//! **Own outputs.** Of security-events only `contractor_verified` and `contractor_rejected` are read; grants and revocations are dropped
//! before the repartition topic, so there is no loop.
//!
//! **Deterministic ids.** A decision's id derives from its assignment, a revocation's from what ended the grant (for an expiry, the
//! verification), an audit event's from the event that it audits; with contractor and request as discriminator.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::edge::Origin;

/// A request's id.
pub type RequestId = i64;
/// A contractor's id.
pub type ContractorId = i64;

/// The event behind an input or a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id.
    pub event_id: Uuid,
    /// Its request's.
    pub correlation_id: Option<Uuid>,
    /// When it happened.
    pub timestamp_ms: i64,
    /// Where it stands.
    pub origin: Origin,
}

impl Cause {
    /// By it, the later of two events of a kind is told, in whatever order they arrive.
    pub(super) fn order(&self) -> (i64, Uuid) {
        (self.timestamp_ms, self.event_id)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// `request.cancelled`, or the status.
    Cancelled,
    /// `workflow.work_completed`, or the status.
    Completed,
    /// The statuses closed and rejected.
    Closed,
}

/// What the by-request task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestInput {
    /// `request.created`, `request.updated`.
    Known {
        /// The request.
        request_id: RequestId,
        /// Grows with each update.
        revision: i32,
        /// Where the work is to be done.
        region: String,
        /// The request's.
        correlation_id: Option<Uuid>,
    },
    /// It is finished.
    Ended {
        /// The request.
        request_id: RequestId,
        /// How.
        end: End,
        /// The event that says so.
        cause: Cause,
    },
    /// `workflow.contractor_assigned`.
    Assigned {
        /// The request.
        request_id: RequestId,
        /// Who got the job.
        contractor_id: ContractorId,
        /// The assignment.
        cause: Cause,
    },
}

impl RequestInput {
    /// The key of the by-request repartition topic.
    pub fn request_id(&self) -> RequestId {
        match self {
            Self::Known { request_id, .. }
            | Self::Ended { request_id, .. }
            | Self::Assigned { request_id, .. } => *request_id,
        }
    }
}

/// Why `by_request` takes a job from a contractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseReason {
    /// The request is finished.
    Ended(End),
    /// Another contractor has it.
    Reassigned,
}

/// What the by-contractor task is told; the contractor is the key of the repartition topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractorInput {
    /// `security.contractor_verified`.
    Verified {
        /// Where the contractor may work; empty: everywhere.
        regions: Vec<String>,
        /// When it ends; `None`: never.
        valid_until_ms: Option<i64>,
        /// The verification.
        cause: Cause,
    },
    /// `security.contractor_rejected`.
    Rejected {
        /// Why.
        reason: String,
        /// The rejection.
        cause: Cause,
    },
    /// Decide an assignment to an open request.
    Decide {
        /// The request.
        request_id: RequestId,
        /// Where it is.
        region: String,
        /// The assignment.
        cause: Cause,
    },
    /// The request of an assignment has moved.
    Region {
        /// The request.
        request_id: RequestId,
        /// Where it is now.
        region: String,
    },
    /// The contractor has the job no more.
    Release {
        /// The request.
        request_id: RequestId,
        /// Why.
        reason: ReleaseReason,
        /// The event that ended it.
        cause: Cause,
    },
}

/// What a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The assignment was decided: access.
    Granted,
    /// The assignment was decided: no access.
    Denied(Denial),
    /// A grant has ended.
    Revoked(Revocation),
}

/// Why an assignment gets no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the words of the contract, `AccessReason`
pub enum Denial {
    NotVerified,
    Rejected,
    Expired,
    RegionNotAllowed,
    RequestClosed,
    UnknownRequest,
    Reassigned,
}

/// Why a grant has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the words of the contract, `AccessReason`
pub enum Revocation {
    Rejected,
    Expired,
    RequestCancelled,
    RequestCompleted,
    RequestClosed,
    Reassigned,
}

/// Something to be published: one event on `security-events`, one on `audit-events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whose access.
    pub contractor_id: ContractorId,
    /// To what.
    pub request_id: RequestId,
    /// What was decided.
    pub verdict: Verdict,
    /// More on the reason.
    pub detail: Option<String>,
    /// For a decision the assignment, for a revocation what ended the grant.
    pub cause: Cause,
    /// The request's.
    pub correlation_id: Option<Uuid>,
}

impl Decision {
    /// What tells this event from others with the same cause.
    pub fn discriminator(&self) -> String {
        format!("{}:{}", self.contractor_id, self.request_id)
    }
}

/// What the by-request rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell a contractor's task.
    Tell(ContractorId, ContractorInput),
    /// Publish it.
    Publish(Decision),
}
