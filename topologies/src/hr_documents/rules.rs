//! The rules of hr-documents: pure decisions on small state ports, no engine types.
//!
//! Three parties, each on its own key, talk over repartition topics. [`by_request`](super::by_request) (key request_id) joins
//! completions with requests and assignments, makes the documents and knows which paperwork is open; [`by_document`](super::by_document)
//! (key document_id) knows whose document is signed or paid; [`contracts`](super::contracts) (key contractor_id) makes
//! each contractor's contract.
//!
//! ```text
//! request-events ──┐ request_id
//! workflow-events ─┴──────────► by_request ─┬─► hr-events (document_created)
//!                                  ▲   │    └─► dead letters of workflow-events
//!                             Done │   │ document_id: Created
//!                                  │   ▼
//! hr-events ── document_id ──► by_document ──► dead letters of hr-events
//! security-events ── contractor_id ──► contracts ──► hr-events (contract_generated)
//! ```
//!
//! **Documents once.** The first `work_completed` by the assigned contractor is *accepted*, and makes a completion act and a
//! payment order as soon as the request (its customer) is known. Later ones by the same contractor say nothing new.
//!
//! **Who was assigned** follows from the assignments alone: of those that have come, the one with the latest timestamp (ties: the
//! higher event id). A completion by anybody else is a dead letter at once. One that comes before any assignment, and
//! an accepted one whose request is unknown, wait up to a limit of the wall clock, and are dead letters then. Whether the
//! request is known yet decides *when* the documents are made, never *whose* completion it is: the order in which the two
//! topics are read does not matter.
//!
//! **Ends.** A cancelled request does not undo work that was done: its completion makes documents as any other.
//!
//! **Contract once.** Of all `contractor_verified` of a contractor the first to arrive makes the contract; that is never forgotten.
//! The contract's id derives from the contractor alone.
//!
//! **Closing.** `document_signed` for the act and `payment_processed` for the order, in any order, close the paperwork. They may come
//! before `by_document` has heard of the document, which it waits for up to a limit; afterwards, and for other documents
//! (a contract that is signed), they are ignored and counted. A payment that failed, by its status, closes nothing; one to another
//! contractor is a dead letter.
//!
//! **Own outputs.** Of hr-events only signatures and payments are read; documents and contracts are dropped before the repartition
//! topic, so there is no loop.
//!
//! **Deterministic ids.** Those of documents and of their events derive from the completion that made them and the document's type.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::edge::Original;

/// A request's id.
pub type RequestId = i64;
/// A contractor's id.
pub type ContractorId = i64;

/// The event behind an input or an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id.
    pub event_id: Uuid,
    /// Its request's.
    pub correlation_id: Option<Uuid>,
    /// When it happened.
    pub timestamp_ms: i64,
}

/// A `workflow.work_completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Who did the work.
    pub contractor_id: ContractorId,
    /// What it costs, in hundredths of the currency.
    pub amount_hundredths: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The event.
    pub cause: Cause,
    /// The record, for its dead letter.
    pub original: Original,
}

/// The documents of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DocumentKind {
    /// Signed by the customer.
    CompletionAct,
    /// Paid by the bank.
    PaymentOrder,
}

/// What the by-request task is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // a box would cost every completion an allocation
pub enum RequestInput {
    /// Any event of request-events: whose request it is.
    Known {
        /// The request.
        request_id: RequestId,
        /// Who filed it.
        customer_id: i64,
        /// The request's.
        correlation_id: Option<Uuid>,
        /// Whether it was cancelled.
        is_final: bool,
    },
    /// A final status.
    Final(RequestId),
    /// `workflow.contractor_assigned`.
    Assigned {
        /// The request.
        request_id: RequestId,
        /// Who got the job.
        contractor_id: ContractorId,
        /// The assignment.
        cause: Cause,
    },
    /// `workflow.work_completed`.
    Completed {
        /// The request.
        request_id: RequestId,
        /// What was done.
        completion: Completion,
    },
    /// A document of it is signed or paid.
    Done {
        /// The request.
        request_id: RequestId,
        /// Which.
        kind: DocumentKind,
    },
}

impl RequestInput {
    /// The key of the by-request repartition topic.
    pub fn request_id(&self) -> RequestId {
        match self {
            Self::Known { request_id, .. }
            | Self::Final(request_id)
            | Self::Assigned { request_id, .. }
            | Self::Completed { request_id, .. }
            | Self::Done { request_id, .. } => *request_id,
        }
    }
}

/// What the by-document task is told; the document is the key of the repartition topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentInput {
    /// We made it.
    Created(About),
    /// `hr.document_signed`.
    Signed,
    /// `hr.payment_processed`, with success.
    Paid(Payment),
}

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its request.
    pub request_id: RequestId,
    /// Who did the work.
    pub contractor_id: ContractorId,
    /// Which of the request's documents it is.
    pub kind: DocumentKind,
}

/// A `hr.payment_processed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Who was paid.
    pub contractor_id: ContractorId,
    /// The record, for its dead letter.
    pub original: Original,
}

/// A document to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub document_id: Uuid,
    /// What it is about.
    pub about: About,
    /// Who filed the request.
    pub customer_id: i64,
    /// In hundredths of the currency.
    pub amount_hundredths: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The completion.
    pub cause: Cause,
}

/// Why a record is dead-lettered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// By a contractor who is not the assigned one (given).
    WrongContractor {
        /// Who completed, or was paid.
        found: ContractorId,
        /// Who is assigned, or is to be paid.
        wanted: ContractorId,
    },
    /// No assignment came within the limit.
    NoAssignment,
    /// The request did not come within the limit.
    NoRequest,
    /// Too many completions of the request wait already.
    TooMany,
}

impl Refusal {
    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::WrongContractor { .. } => "wrong_contractor",
            Self::NoAssignment => "no_assignment",
            Self::NoRequest => "no_request",
            Self::TooMany => "too_many",
        }
    }
}

/// What the by-request rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // as above
pub enum RequestOutput {
    /// Publish `hr.document_created`, and tell the document's task.
    Create(Document),
    /// Dead-letter a completion.
    Refuse(RequestId, Refusal, Original),
    /// The paperwork is closed; it was created so many milliseconds ago.
    Closed(i64),
}

/// What the by-document rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentOutput {
    /// Tell the request's task.
    Done(About),
    /// Dead-letter a payment.
    Refuse(Refusal, Original),
    /// A signature or payment had no effect, for this reason.
    Unmatched(&'static str),
}
