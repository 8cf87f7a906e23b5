//! From events to the rules' inputs, and from decisions to events. Hot path.

use kstreams::Timestamp;

use crate::events::{
    Envelope, Manager, Priority as EventPriority, RequestCreated, RequestEvent, RequestStatus,
    RequestUpdated, Urgency, VERSION, WorkflowEvent, WorkflowManagerAssigned,
    WorkflowStatusChanged, derived_id,
};

use super::directory::DirectoryEntry;
use super::rules::{Assignment, Escalation, Priority, RequestInput, Submission};

/// The `source` of the events published here.
const SOURCE: &str = "manager-assignment";

/// What a request event means; `None` for what does not matter here.
pub(super) fn of_request(event: RequestEvent) -> Option<RequestInput> {
    match event {
        RequestEvent::Created(event) => Some(RequestInput::Created(created(event))),
        RequestEvent::Updated(event) => Some(RequestInput::Updated(updated(event))),
        RequestEvent::Cancelled(event) => Some(RequestInput::Closed(event.request_id)),
        RequestEvent::ClarificationNeeded(_) | RequestEvent::Unknown => None,
    }
}

/// What a workflow event means. Our own assignments and escalations mean nothing, so that they never loop.
pub(super) fn of_workflow(event: WorkflowEvent) -> Option<RequestInput> {
    match event {
        WorkflowEvent::WorkCompleted(event) => Some(RequestInput::Closed(event.request_id)),
        WorkflowEvent::StatusChanged(event) if event.to_status.is_final() => {
            Some(RequestInput::Closed(event.request_id))
        }
        WorkflowEvent::StatusChanged(_)
        | WorkflowEvent::ManagerAssigned(_)
        | WorkflowEvent::SentToContractors(_)
        | WorkflowEvent::ContractorAssigned(_)
        | WorkflowEvent::WorkStarted(_)
        | WorkflowEvent::Unknown => None,
    }
}

/// A manager as the rules see one.
pub(super) fn of_manager(manager: Manager) -> DirectoryEntry {
    // Reading has validated that the capacity is not negative.
    let capacity = u32::try_from(manager.capacity).unwrap_or(0);
    DirectoryEntry { region: manager.region, capacity, active: manager.active }
}

/// `workflow.manager_assigned`.
pub(super) fn assigned(assignment: Assignment, now: Timestamp) -> WorkflowEvent {
    let discriminator = assignment.discriminator();
    let Assignment { cause_id, correlation_id, .. } = assignment;
    WorkflowEvent::ManagerAssigned(WorkflowManagerAssigned {
        envelope: Envelope {
            event_id: derived_id(cause_id, ASSIGNED, &discriminator),
            event_type: ASSIGNED.into(),
            timestamp: now,
            source: SOURCE.into(),
            version: VERSION,
            correlation_id,
            causation_id: Some(cause_id),
        },
        request_id: assignment.request_id,
        manager_id: assignment.manager_id,
        region: assignment.region,
        priority: match assignment.priority {
            Priority::P1 => EventPriority::P1,
            Priority::P2 => EventPriority::P2,
            Priority::P3 => EventPriority::P3,
            Priority::P4 => EventPriority::P4,
        },
        sla_deadline: Timestamp::from_millis(assignment.sla_deadline_ms),
        attempt: i32::try_from(assignment.attempt).unwrap_or(i32::MAX),
        escalated: assignment.escalated,
    })
}

/// `workflow.status_changed` to `escalated`.
pub(super) fn escalated(escalation: &Escalation, now: Timestamp) -> WorkflowEvent {
    let Escalation { request_id, was_assigned, cause_id, correlation_id, .. } = *escalation;
    let event_id = derived_id(cause_id, STATUS_CHANGED, &escalation.discriminator());
    WorkflowEvent::StatusChanged(WorkflowStatusChanged {
        envelope: Envelope {
            event_id,
            event_type: STATUS_CHANGED.into(),
            timestamp: now,
            source: SOURCE.into(),
            version: VERSION,
            correlation_id,
            causation_id: Some(cause_id),
        },
        request_id,
        from_status: if was_assigned { RequestStatus::Assigned } else { RequestStatus::New },
        to_status: RequestStatus::Escalated,
        reason: Some("no manager was free within the SLA".to_owned()),
    })
}

const ASSIGNED: &str = <WorkflowManagerAssigned as crate::events::Event>::TYPE;
const STATUS_CHANGED: &str = <WorkflowStatusChanged as crate::events::Event>::TYPE;

fn created(event: RequestCreated) -> Submission {
    Submission {
        request_id: event.request_id,
        revision: event.revision,
        region: event.region,
        priority: priority(event.urgency),
        timestamp_ms: event.envelope.timestamp.as_millis(),
        event_id: event.envelope.event_id,
        correlation_id: event.envelope.correlation_id,
    }
}

fn updated(event: RequestUpdated) -> Submission {
    Submission {
        request_id: event.request_id,
        revision: event.revision,
        region: event.region,
        priority: priority(event.urgency),
        timestamp_ms: event.envelope.timestamp.as_millis(),
        event_id: event.envelope.event_id,
        correlation_id: event.envelope.correlation_id,
    }
}

/// An urgency that this version does not know counts as medium: the request is served all the same.
fn priority(urgency: Urgency) -> Priority {
    match urgency {
        Urgency::Critical => Priority::P1,
        Urgency::High => Priority::P2,
        Urgency::Medium | Urgency::Unknown => Priority::P3,
        Urgency::Low => Priority::P4,
    }
}
