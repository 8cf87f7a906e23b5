//! `workflow-events`: What becomes of a request; keyed by request id.

use kstreams::Timestamp;

use super::envelope::Money;
use super::symbols::{Priority, RequestStatus};
use super::{event, topic_events};

/// What the contractor reports of the work done.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CompletionData {
    /// When the work was done.
    pub completed_at: Timestamp,
    /// What was done.
    pub summary: String,
    /// Amount of money in units of currency.
    pub amount: Money,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// Hours of work.
    pub hours: Option<f64>,
    /// Addresses of photographs.
    pub photos: Vec<String>,
}

event! {
    /// A manager was assigned to a request.
    WorkflowManagerAssigned, "workflow-events", "workflow.manager_assigned" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Id of the manager.
        manager_id: i64,
        /// Region of the request; key of request-events, not empty.
        region: String,
        /// Priority that follows from the urgency.
        priority: Priority,
        /// Until when the assignment was due: the request's timestamp plus its SLA.
        sla_deadline: Timestamp,
        /// Counts the assignments of the request, from 1.
        attempt: i32,
        /// Whether the request had waited past its SLA.
        escalated: bool,
    }
}

event! {
    /// A manager sent a request to contractors.
    WorkflowSentToContractors, "workflow-events", "workflow.sent_to_contractors" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Id of the manager.
        manager_id: i64,
        /// Ids of the contractors asked.
        contractor_ids: Vec<i64>,
    }
}

event! {
    /// A contractor got the job.
    WorkflowContractorAssigned, "workflow-events", "workflow.contractor_assigned" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Id of the contractor.
        contractor_id: i64,
        /// Id of the manager.
        manager_id: i64,
    }
}

event! {
    /// The contractor began to work.
    WorkflowWorkStarted, "workflow-events", "workflow.work_started" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Id of the contractor.
        contractor_id: i64,
    }
}

event! {
    /// The contractor finished the work.
    WorkflowWorkCompleted, "workflow-events", "workflow.work_completed" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Id of the contractor.
        contractor_id: i64,
        /// What was done.
        completion_data: CompletionData,
    }
}

event! {
    /// A request changed its status.
    WorkflowStatusChanged, "workflow-events", "workflow.status_changed" key request_id {
        /// Id of the request.
        request_id: i64,
        /// Status before.
        from_status: RequestStatus,
        /// Status after.
        to_status: RequestStatus,
        /// Why it changed.
        reason: Option<String>,
    }
}

topic_events! {
    /// An event of `workflow-events`.
    WorkflowEvent, "workflow-events" {
        /// `workflow.manager_assigned`
        ManagerAssigned(WorkflowManagerAssigned),
        /// `workflow.sent_to_contractors`
        SentToContractors(WorkflowSentToContractors),
        /// `workflow.contractor_assigned`
        ContractorAssigned(WorkflowContractorAssigned),
        /// `workflow.work_started`
        WorkStarted(WorkflowWorkStarted),
        /// `workflow.work_completed`
        WorkCompleted(WorkflowWorkCompleted),
        /// `workflow.status_changed`
        StatusChanged(WorkflowStatusChanged),
    }
}
