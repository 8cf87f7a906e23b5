//! What follows an assignment: the manager sends the request to contractors, one gets it, works, is done.
//!
//! Reacts to every `workflow.manager_assigned`, also of requests that somebody else filed. Pure.

use kstreams::Timestamp;

use crate::events::{
    CompletionData, Event, Money, RequestStatus, WorkflowContractorAssigned, WorkflowEvent,
    WorkflowManagerAssigned, WorkflowSentToContractors, WorkflowStatusChanged,
    WorkflowWorkCompleted, WorkflowWorkStarted, derived_id,
};

use super::random::Random;
use super::verification::CONTRACTORS;

const MANAGER: &str = "manager-desk";
const CONTRACTOR: &str = "contractor-app";
/// How often no contractor wants the job, and the request is rejected.
const REJECTED: f64 = 0.02;
/// How often the job is taken from its contractor and given to another one.
const REASSIGNED: f64 = 0.05;

/// The steps of a job, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `workflow.sent_to_contractors`
    Sent,
    /// `workflow.contractor_assigned`, or the rejection
    Taken,
    /// `workflow.contractor_assigned` once more: another contractor
    Reassigned,
    /// `workflow.work_started`
    Started,
    /// `workflow.work_completed`
    Completed,
}

impl Step {
    /// Milliseconds between the step before, or the assignment, and this one.
    pub(crate) fn delay_ms(self, seed: u64, request_id: i64) -> i64 {
        let (first, last) = match self {
            Self::Sent => (300, 800),
            Self::Taken => (200, 700),
            Self::Reassigned => (100, 400),
            Self::Started => (100, 500),
            Self::Completed => (600, 3_200),
        };
        self.random(seed, request_id).between(first, last)
    }

    fn random(self, seed: u64, request_id: i64) -> Random {
        let kind = match self {
            Self::Sent => "sent",
            Self::Taken => "taken",
            Self::Reassigned => "reassigned",
            Self::Started => "started",
            Self::Completed => "completed",
        };
        Random::of(seed, kind, request_id)
    }

    /// The event of this step and the step after it.
    pub(crate) fn take(
        self,
        seed: u64,
        job: &WorkflowManagerAssigned,
        now: Timestamp,
    ) -> (WorkflowEvent, Option<Self>) {
        let (request_id, manager_id) = (job.request_id, job.manager_id);
        let mut random = Random::of(seed, "job", request_id);
        let mut contractor_id = random.between(1, CONTRACTORS);
        let mut other = Self::Reassigned.random(seed, request_id);
        let is_reassigned = other.happens(REASSIGNED);
        if is_reassigned && !matches!(self, Self::Sent | Self::Taken) {
            contractor_id = contractor_id % CONTRACTORS + other.between(1, CONTRACTORS - 1);
            contractor_id = (contractor_id - 1) % CONTRACTORS + 1;
        }
        // The attempt tells the steps of a request apart that was assigned again.
        let attempt = job.attempt.to_string();
        let envelope = |event_type, source| job.envelope.derive(event_type, &attempt, source, now);
        match self {
            Self::Sent => {
                let envelope = envelope(WorkflowSentToContractors::TYPE, MANAGER);
                let others = (0..2).map(|_| random.between(1, CONTRACTORS));
                let contractor_ids = [contractor_id].into_iter().chain(others).collect();
                let event =
                    WorkflowSentToContractors { envelope, request_id, manager_id, contractor_ids };
                (event.into(), Some(Self::Taken))
            }
            Self::Taken if random.happens(REJECTED) => {
                let event = WorkflowStatusChanged {
                    envelope: envelope(WorkflowStatusChanged::TYPE, MANAGER),
                    request_id,
                    from_status: RequestStatus::SentToContractors,
                    to_status: RequestStatus::Rejected,
                    reason: Some("no contractor wants it".to_owned()),
                };
                (event.into(), None)
            }
            Self::Taken | Self::Reassigned => {
                let mut envelope = envelope(WorkflowContractorAssigned::TYPE, CONTRACTOR);
                if self == Self::Reassigned {
                    envelope.event_id = derived_id(envelope.event_id, "reassigned", "");
                }
                let event =
                    WorkflowContractorAssigned { envelope, request_id, contractor_id, manager_id };
                let next = match is_reassigned && self == Self::Taken {
                    true => Self::Reassigned,
                    false => Self::Started,
                };
                (event.into(), Some(next))
            }
            Self::Started => {
                let envelope = envelope(WorkflowWorkStarted::TYPE, CONTRACTOR);
                let event = WorkflowWorkStarted { envelope, request_id, contractor_id };
                (event.into(), Some(Self::Completed))
            }
            Self::Completed => {
                let hundredths = random.between(1_000, 5_000_000);
                let completion_data = CompletionData {
                    completed_at: now,
                    summary: "done as asked".to_owned(),
                    amount: Money::from_hundredths(hundredths).unwrap_or_default(),
                    currency: "EUR".to_owned(),
                    hours: Some(random.between(1, 32) as f64 / 4.0),
                    photos: Vec::new(),
                };
                let envelope = envelope(WorkflowWorkCompleted::TYPE, CONTRACTOR);
                let event =
                    WorkflowWorkCompleted { envelope, request_id, contractor_id, completion_data };
                (event.into(), None)
            }
        }
    }
}
