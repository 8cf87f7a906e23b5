//! From events to the rules' inputs, and from decisions to events. Hot path.

use std::collections::BTreeMap;

use kstreams::{Record, Timestamp};

use crate::business;
use crate::edge::{Kept, Origin};
use crate::events::{
    AccessReason, AuditEvent, AuditSystemEvent, Envelope, Event as _, RequestEvent, RequestStatus,
    SecurityAccessGranted, SecurityAccessRevoked, SecurityEvent, VERSION, WorkflowEvent,
    derived_id,
};

use super::NAME;
use super::rules::{
    Cause, ContractorId, ContractorInput, Decision, Denial, End, RequestId, RequestInput,
    Revocation, Verdict,
};

/// What a request event means; `None` for what does not matter here.
pub(super) fn of_request(
    record: &Record<String, Kept<RequestEvent>>,
    origin: Origin,
) -> Option<(RequestId, RequestInput)> {
    let known = |envelope: &Envelope, request_id, revision, region: &String| {
        let correlation_id = envelope.correlation_id;
        RequestInput::Known { request_id, revision, region: region.clone(), correlation_id }
    };
    let input = match &record.value.event {
        RequestEvent::Created(e) => known(&e.envelope, e.request_id, e.revision, &e.region),
        RequestEvent::Updated(e) => known(&e.envelope, e.request_id, e.revision, &e.region),
        RequestEvent::Cancelled(e) => ended(e.request_id, End::Cancelled, &e.envelope, origin),
        RequestEvent::ClarificationNeeded(_) | RequestEvent::Unknown => return None,
    };
    Some((input.request_id(), input))
}

/// What a workflow event means.
pub(super) fn of_workflow(
    record: &Record<String, Kept<WorkflowEvent>>,
    origin: Origin,
) -> Option<(RequestId, RequestInput)> {
    let input = match &record.value.event {
        WorkflowEvent::ContractorAssigned(e) => {
            let cause = cause(&e.envelope, origin);
            let (request_id, contractor_id) = (e.request_id, e.contractor_id);
            RequestInput::Assigned { request_id, contractor_id, cause }
        }
        WorkflowEvent::WorkCompleted(e) => ended(e.request_id, End::Completed, &e.envelope, origin),
        WorkflowEvent::StatusChanged(e) => {
            let end = match e.to_status {
                RequestStatus::Completed => End::Completed,
                RequestStatus::Cancelled => End::Cancelled,
                RequestStatus::Closed | RequestStatus::Rejected => End::Closed,
                _ => return None,
            };
            ended(e.request_id, end, &e.envelope, origin)
        }
        WorkflowEvent::ManagerAssigned(_)
        | WorkflowEvent::SentToContractors(_)
        | WorkflowEvent::WorkStarted(_)
        | WorkflowEvent::Unknown => return None,
    };
    Some((input.request_id(), input))
}

/// What a security event means. Our own grants and revocations mean nothing, so that they never loop.
pub(super) fn of_security(
    record: &Record<String, Kept<SecurityEvent>>,
    origin: Origin,
) -> Option<(ContractorId, ContractorInput)> {
    match &record.value.event {
        SecurityEvent::ContractorVerified(e) => {
            let input = ContractorInput::Verified {
                regions: e.regions.clone(),
                valid_until_ms: e.valid_until.map(Timestamp::as_millis),
                cause: cause(&e.envelope, origin),
            };
            Some((e.contractor_id, input))
        }
        SecurityEvent::ContractorRejected(e) => {
            let cause = cause(&e.envelope, origin);
            let input = ContractorInput::Rejected { reason: e.reason.clone(), cause };
            Some((e.contractor_id, input))
        }
        SecurityEvent::AccessGranted(_)
        | SecurityEvent::AccessRevoked(_)
        | SecurityEvent::Unknown => None,
    }
}

fn ended(request_id: RequestId, end: End, envelope: &Envelope, origin: Origin) -> RequestInput {
    RequestInput::Ended { request_id, end, cause: cause(envelope, origin) }
}

fn cause(envelope: &Envelope, origin: Origin) -> Cause {
    Cause {
        event_id: envelope.event_id,
        correlation_id: envelope.correlation_id,
        timestamp_ms: envelope.timestamp.as_millis(),
        origin,
    }
}

/// What the contract calls a verdict's reason.
fn reason(verdict: Verdict) -> AccessReason {
    match verdict {
        Verdict::Granted => AccessReason::Verified,
        Verdict::Denied(denial) => match denial {
            Denial::NotVerified => AccessReason::NotVerified,
            Denial::Rejected => AccessReason::Rejected,
            Denial::Expired => AccessReason::Expired,
            Denial::RegionNotAllowed => AccessReason::RegionNotAllowed,
            Denial::RequestClosed => AccessReason::RequestClosed,
            Denial::UnknownRequest => AccessReason::UnknownRequest,
            Denial::Reassigned => AccessReason::Reassigned,
        },
        Verdict::Revoked(revocation) => match revocation {
            Revocation::Rejected => AccessReason::Rejected,
            Revocation::Expired => AccessReason::Expired,
            Revocation::RequestCancelled => AccessReason::RequestCancelled,
            Revocation::RequestCompleted => AccessReason::RequestCompleted,
            Revocation::RequestClosed => AccessReason::RequestClosed,
            Revocation::Reassigned => AccessReason::Reassigned,
        },
    }
}

/// The event of a decision, and the audit event about it; counts the decision.
pub(super) fn published(decision: Decision, now: Timestamp) -> (SecurityEvent, AuditEvent) {
    count(&decision, now);
    let reason = reason(decision.verdict);
    let audit = audited(&decision, reason, now);
    let discriminator = decision.discriminator();
    let Decision { contractor_id, request_id, verdict, detail, cause, correlation_id } = decision;
    let envelope = |event_type: &'static str| Envelope {
        event_id: derived_id(cause.event_id, event_type, &discriminator),
        event_type: event_type.into(),
        timestamp: now,
        source: NAME.into(),
        version: VERSION,
        correlation_id,
        causation_id: Some(cause.event_id),
    };
    let event = if verdict == Verdict::Granted {
        let envelope = envelope(SecurityAccessGranted::TYPE);
        SecurityAccessGranted { envelope, contractor_id, request_id, reason, detail }.into()
    } else {
        let envelope = envelope(SecurityAccessRevoked::TYPE);
        SecurityAccessRevoked { envelope, contractor_id, request_id, reason, detail }.into()
    };
    (event, audit)
}

/// Reports a decision; its place is that of the event that was decided on, since our own event's is not known yet.
fn audited(decision: &Decision, reason: AccessReason, now: Timestamp) -> AuditEvent {
    let (event_type, action) = match decision.verdict {
        Verdict::Granted => (SecurityAccessGranted::TYPE, "access.granted"),
        Verdict::Denied(_) => (SecurityAccessRevoked::TYPE, "access.denied"),
        Verdict::Revoked(_) => (SecurityAccessRevoked::TYPE, "access.revoked"),
    };
    let cause = &decision.cause;
    let audited_id = derived_id(cause.event_id, event_type, &decision.discriminator());
    let mut details = BTreeMap::from([
        ("event_id".to_owned(), audited_id.to_string()),
        ("cause_id".to_owned(), cause.event_id.to_string()),
        ("reason".to_owned(), reason.to_string()),
    ]);
    if let Some(detail) = &decision.detail {
        details.insert("detail".to_owned(), detail.clone());
    }
    AuditSystemEvent {
        envelope: Envelope {
            // Not the id by which audit-fanout reports the decision's own event: both are in `audit-events`.
            event_id: derived_id(audited_id, AuditSystemEvent::TYPE, "decision"),
            event_type: AuditSystemEvent::TYPE.into(),
            timestamp: now,
            source: NAME.into(),
            version: VERSION,
            correlation_id: decision.correlation_id,
            causation_id: Some(audited_id),
        },
        entity: format!("contractor:{}", decision.contractor_id),
        actor: format!("service:{NAME}"),
        action: action.to_owned(),
        topic: cause.origin.topic.clone(),
        partition: cause.origin.partition,
        offset: cause.origin.offset,
        request_id: Some(decision.request_id),
        contractor_id: Some(decision.contractor_id),
        details,
    }
    .into()
}

fn count(decision: &Decision, now: Timestamp) {
    let reason = reason(decision.verdict).as_str();
    let waited = now.since(Timestamp::from_millis(decision.cause.timestamp_ms));
    match decision.verdict {
        Verdict::Granted => business::access_checked("granted", reason, waited),
        Verdict::Denied(Denial::NotVerified) => {
            business::access_checked("unknown_contractor", reason, waited);
        }
        Verdict::Denied(_) => business::access_checked("denied", reason, waited),
        Verdict::Revoked(_) => business::access_revoked(reason),
    }
}
