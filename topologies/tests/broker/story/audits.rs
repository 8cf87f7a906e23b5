//! What must have been audited: every record of the domain topics and every dead letter once, where it lies, and every decision on
//! access once more.

use std::collections::BTreeMap;

use aggregator::events::*;
use uuid::Uuid;

use super::found::{Found, Place};
use super::wanted::{Wanted, id_of};

/// An audit event that must be there.
#[derive(Debug, PartialEq)]
struct Entry {
    id: Uuid,
    kind: &'static str,
    action: String,
    cause: Option<Uuid>,
    request: Option<i64>,
}

/// By topic and place.
type Entries = BTreeMap<(String, Place), Entry>;
/// Request, contractor, action.
type Decision = (Option<i64>, Option<i64>, String);

const USER: &str = "audit.user_action";
const SYSTEM: &str = "audit.system_event";
const ERROR: &str = "audit.error_occurred";

/// Says what differs.
pub(crate) fn check(wanted: &Wanted, found: &Found, problems: &mut Vec<String>) {
    let mut decisions = decisions(wanted, found);
    let mut wanted = entries(found);
    let mut figures: BTreeMap<(&str, i64, &str), usize> = BTreeMap::new();
    for (_, event) in &found.audit.read {
        macro_rules! entry {
            ($event:expr, $kind:expr) => {{
                let envelope = &$event.envelope;
                let entry = Entry {
                    id: envelope.event_id,
                    kind: $kind,
                    action: $event.action.clone(),
                    cause: envelope.causation_id,
                    request: $event.request_id,
                };
                (($event.topic.clone(), ($event.partition, $event.offset)), entry)
            }};
        }
        let (place, entry) = match event {
            AuditEvent::SystemEvent(event) if event.envelope.source == "contractor-access" => {
                let found = (event.request_id, event.contractor_id, event.action.clone());
                let wanted = decisions.remove(&event.envelope.causation_id);
                let id = event.envelope.causation_id.map(|id| id_of(id, SYSTEM, "decision"));
                if wanted != Some(found) || id != Some(event.envelope.event_id) {
                    problems.push(format!("a wrong audit of a decision: {event:?}, {wanted:?}"));
                }
                continue;
            }
            AuditEvent::SystemEvent(event) => entry!(event, SYSTEM),
            AuditEvent::UserAction(event) => entry!(event, USER),
            AuditEvent::ErrorOccurred(event) => entry!(event, ERROR),
            AuditEvent::PerformanceMetric(event) => {
                let window = (&*event.topic, event.window_start.as_millis(), &*event.name);
                *figures.entry(window).or_default() += 1;
                continue;
            }
            AuditEvent::Unknown => continue,
        };
        match wanted.remove(&place) {
            Some(wanted) if wanted == entry => {}
            wanted => {
                problems.push(format!("{place:?} is audited by {entry:?}, wanted {wanted:?}"))
            }
        }
    }
    for (place, entry) in wanted {
        problems.push(format!("{place:?} is not audited: {entry:?}"));
    }
    for (id, decision) in decisions {
        problems.push(format!("the decision {id:?} is not audited: {decision:?}"));
    }
    for (window, count) in figures.iter().filter(|(_, count)| **count > 1) {
        problems.push(format!("the figure {window:?} is there {count} times"));
    }
}

/// The decisions on access, by event id: request, contractor and what the audit calls it.
fn decisions(wanted: &Wanted, found: &Found) -> BTreeMap<Option<Uuid>, Decision> {
    // What a decision is made on is the assignment of its contractor; whatever else it follows from revokes a grant.
    let denies = |cause: Option<Uuid>, contractor: i64| {
        let access = cause.and_then(|cause| wanted.access.get(&cause));
        access.is_some_and(|access| access.contractor == contractor)
    };
    let decision = |(_, event): &(Place, SecurityEvent)| match event {
        SecurityEvent::AccessGranted(e) => Some((
            Some(e.envelope.event_id),
            (Some(e.request_id), Some(e.contractor_id), "access.granted".to_owned()),
        )),
        SecurityEvent::AccessRevoked(e) => {
            let is_denial = denies(e.envelope.causation_id, e.contractor_id);
            let action = if is_denial { "access.denied" } else { "access.revoked" };
            let decision = (Some(e.request_id), Some(e.contractor_id), action.to_owned());
            Some((Some(e.envelope.event_id), decision))
        }
        _ => None,
    };
    found.security.read.iter().filter_map(decision).collect()
}

/// What must be there for the domain's records and the dead letters, each at its place.
fn entries(found: &Found) -> Entries {
    let mut entries = Entries::new();
    macro_rules! add {
        ($log:ident, $finding:expr) => {
            let log = &found.$log;
            for (place, event) in &log.read {
                let Some(Envelope { event_id, event_type, .. }) = event.envelope() else {
                    continue;
                };
                let (kind, request) = $finding(event);
                let (id, cause) = (id_of(*event_id, kind, ""), Some(*event_id));
                let entry = Entry { id, kind, action: event_type.to_string(), cause, request };
                entries.insert((log.topic.to_owned(), *place), entry);
            }
        };
    }
    add!(requests, of_request);
    add!(workflow, of_workflow);
    add!(security, of_security);
    add!(hr, of_hr);
    add!(notifications, of_notification);
    for (topic, message) in &found.set_aside {
        let (partition, offset) = (message.partition.unwrap(), message.offset);
        let entry = Entry {
            id: id_of(Uuid::nil(), ERROR, &format!("{topic}:{partition}:{offset}")),
            kind: ERROR,
            action: "dead_lettered".to_owned(),
            cause: None,
            request: None,
        };
        entries.insert((topic.clone(), (partition, offset)), entry);
    }
    entries
}

/// The kind of audit event that an event becomes: of the person who acted, or of the service.
type Finding = (&'static str, Option<i64>);

fn of_request(event: &RequestEvent) -> Finding {
    match event {
        RequestEvent::Created(e) => (USER, Some(e.request_id)),
        RequestEvent::Updated(e) => (USER, Some(e.request_id)),
        RequestEvent::Cancelled(e) => (USER, Some(e.request_id)),
        RequestEvent::ClarificationNeeded(e) => (USER, Some(e.request_id)),
        RequestEvent::Unknown => (SYSTEM, None),
    }
}

fn of_workflow(event: &WorkflowEvent) -> Finding {
    match event {
        WorkflowEvent::ManagerAssigned(e) => (SYSTEM, Some(e.request_id)),
        WorkflowEvent::ContractorAssigned(e) => (USER, Some(e.request_id)),
        WorkflowEvent::WorkCompleted(e) => (USER, Some(e.request_id)),
        _ => (SYSTEM, None), // of which there are none
    }
}

fn of_security(event: &SecurityEvent) -> Finding {
    match event {
        SecurityEvent::AccessGranted(e) => (SYSTEM, Some(e.request_id)),
        SecurityEvent::AccessRevoked(e) => (SYSTEM, Some(e.request_id)),
        _ => (USER, None),
    }
}

fn of_hr(event: &HrEvent) -> Finding {
    match event {
        HrEvent::DocumentCreated(e) => (SYSTEM, Some(e.request_id)),
        HrEvent::DocumentSigned(_) => (USER, None),
        _ => (SYSTEM, None),
    }
}

fn of_notification(event: &NotificationEvent) -> Finding {
    match event {
        NotificationEvent::EmailSent(e) => (SYSTEM, e.request_id),
        NotificationEvent::TelegramSent(e) => (SYSTEM, e.request_id),
        NotificationEvent::SmsSent(e) => (SYSTEM, e.request_id),
        NotificationEvent::Failed(e) => (ERROR, e.request_id),
        NotificationEvent::Unknown => (SYSTEM, None),
    }
}
