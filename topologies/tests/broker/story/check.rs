//! What is there against what must be: decisions, papers, managers, and that nothing else is there.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::*;
use bytes::Bytes;
use kstreams::Headers;
use test_support::Message;
use uuid::Uuid;

use super::found::{Found, counted};
use super::life::{Life, Story};
use super::people::{customer_of, manager_of};
use super::records::{self, amount, correlation};
use super::wanted::{Wanted, id_of};
use super::{audits, told};
use crate::load::registered_serdes;

/// Whatever is not as it should be.
pub(crate) fn problems(story: &Story, wanted: &Wanted, found: &Found) -> Vec<String> {
    let mut problems = Vec::new();
    check_origins(story, found, &mut problems);
    check_access(wanted, found, &mut problems);
    check_papers(wanted, found, &mut problems);
    check_letters(wanted, found, &mut problems);
    check_managers(story, found, &mut problems);
    told::check(story, found, &mut problems);
    audits::check(wanted, found, &mut problems);
    problems
}

/// Each topic has the records of the story as often as they were written, and beside them only what its topologies write, each
/// with an id that no other event has.
///
/// What audit-fanout says of an event that was told twice has one id, and is there for each telling.
fn check_origins(story: &Story, found: &Found, problems: &mut Vec<String>) {
    let told: BTreeMap<Uuid, usize> =
        story.records.counts.values().flatten().map(|(id, count)| (*id, *count)).collect();
    let tellings = |envelope: &Envelope| match envelope.source == "audit-fanout" {
        true => envelope.causation_id.and_then(|cause| told.get(&cause)).copied(),
        false => None,
    };
    // How often each is there, and how often it must be.
    let mut derived: BTreeMap<Uuid, (usize, usize)> = BTreeMap::new();
    macro_rules! check {
        ($log:ident, $source:expr) => {
            let log = &found.$log;
            let envelopes: Vec<&Envelope> =
                log.read.iter().filter_map(|(_, event)| event.envelope()).collect();
            let (input, ours): (Vec<&Envelope>, Vec<_>) =
                envelopes.into_iter().partition(|envelope| envelope.source == records::SOURCE);
            let input = counted(input.into_iter().map(|envelope| envelope.event_id));
            if &input != story.records.counts.get(log.topic).unwrap_or(&BTreeMap::new()) {
                problems.push(format!("the records of the story in {} have changed", log.topic));
            }
            for envelope in ours {
                let wanted = tellings(envelope).unwrap_or(1);
                derived.entry(envelope.event_id).or_insert((0, wanted)).0 += 1;
                let sources: &[&str] = &$source;
                if !sources.contains(&&*envelope.source) {
                    problems.push(format!("{} holds {envelope:?}", log.topic));
                }
            }
            if log.mistimed > 0 {
                problems.push(format!(
                    "{} records of {} have another time than their events",
                    log.mistimed, log.topic
                ));
            }
        };
    }
    check!(requests, []);
    check!(workflow, ["manager-assignment"]);
    check!(security, ["contractor-access"]);
    check!(hr, ["hr-documents"]);
    check!(notifications, ["notifications", "notification-delivery"]);
    check!(audit, ["contractor-access", "audit-fanout"]);
    for (_, command) in &found.commands.read {
        derived.entry(command.envelope.event_id).or_insert((0, 1)).0 += 1;
    }
    for (id, (count, wanted)) in derived.iter().filter(|(_, (count, wanted))| count != wanted) {
        problems.push(format!("event id {id} comes {count} times, wanted {wanted}"));
    }
}

/// A decision on access, or a revocation.
#[derive(Debug, Clone, Copy)]
struct Decision<'a> {
    envelope: &'a Envelope,
    request: i64,
    contractor: i64,
    reason: AccessReason,
    granted: bool,
}

/// In the order of the partition of their contractor.
fn decisions(found: &Found) -> impl Iterator<Item = Decision<'_>> {
    macro_rules! decision {
        ($event:expr, $granted:expr) => {
            Some(Decision {
                envelope: &$event.envelope,
                request: $event.request_id,
                contractor: $event.contractor_id,
                reason: $event.reason,
                granted: $granted,
            })
        };
    }
    found.security.read.iter().filter_map(|(_, event)| match event {
        SecurityEvent::AccessGranted(event) => decision!(event, true),
        SecurityEvent::AccessRevoked(event) => decision!(event, false),
        _ => None,
    })
}

fn check_access(wanted: &Wanted, found: &Found, problems: &mut Vec<String>) {
    let mut decided: BTreeMap<Uuid, Decision<'_>> = BTreeMap::new();
    let mut granted: BTreeMap<(i64, i64), Uuid> = BTreeMap::new();
    let mut revoked: BTreeSet<(i64, i64)> = BTreeSet::new();
    for decision in decisions(found) {
        let Decision { envelope, request, contractor, reason, granted: is_grant } = decision;
        let cause = envelope.causation_id.unwrap_or_default();
        let id = id_of(cause, &envelope.event_type, &format!("{contractor}:{request}"));
        if envelope.event_id != id || envelope.correlation_id != Some(correlation(request)) {
            problems.push(format!("a wrong envelope: {decision:?}"));
        }
        let pair = (request, contractor);
        let of_cause = wanted.access.get(&cause).filter(|access| access.contractor == contractor);
        if let Some(access) = of_cause {
            let fits = access.request == request
                && access.decisions.contains(&reason)
                && is_grant == (reason == AccessReason::Verified);
            if !fits || decided.insert(cause, decision).is_some() {
                problems.push(format!("a wrong decision: {decision:?}, wanted {access:?}"));
            }
            if is_grant {
                granted.insert(pair, cause);
            }
            continue;
        }
        let access = granted.get(&pair).and_then(|assignment| wanted.access.get(assignment));
        let fits = access.is_some_and(|access| access.revocations.contains(&(reason, cause)));
        if is_grant || !fits || !revoked.insert(pair) {
            problems.push(format!("a wrong revocation: {decision:?}, wanted {access:?}"));
        }
    }
    for (assignment, access) in &wanted.access {
        let is_open = !revoked.contains(&(access.request, access.contractor));
        match decided.get(assignment) {
            None => problems.push(format!("not decided: {access:?}")),
            Some(decision) if decision.granted && access.must_be_revoked && is_open => {
                problems.push(format!("not revoked: {access:?}"));
            }
            Some(_) => {}
        }
    }
}

fn check_papers(wanted: &Wanted, found: &Found, problems: &mut Vec<String>) {
    let mut documents = BTreeSet::new();
    let mut contracts = BTreeMap::new();
    for (_, event) in &found.hr.read {
        let is_new = match event {
            HrEvent::DocumentCreated(event) => {
                is_wanted(event, wanted) && documents.insert(event.document_id)
            }
            HrEvent::ContractGenerated(event) => {
                let cause = event.envelope.causation_id.unwrap_or_default();
                contracts.insert(event.contractor_id, cause).is_none()
            }
            _ => true,
        };
        if !is_new {
            problems.push(format!("a wrong or doubled paper: {event:?}"));
        }
    }
    for (id, document) in wanted.documents.iter().filter(|(id, _)| !documents.contains(id)) {
        problems.push(format!("no document {id}: {document:?}"));
    }
    if contracts != wanted.contracts {
        let (found, wanted) = (contracts.len(), wanted.contracts.len());
        problems.push(format!("{found} contracts, wanted {wanted}, by other verifications?"));
    }
    if found.open != wanted.open {
        let differ: Vec<_> = found.open.symmetric_difference(&wanted.open).take(5).collect();
        problems.push(format!("open paperwork differs, such as of requests {differ:?}"));
    }
}

fn is_wanted(event: &HrDocumentCreated, wanted: &Wanted) -> bool {
    wanted.documents.get(&event.document_id).is_some_and(|document| {
        let kind = event.document_type.as_str();
        event.document_type == document.kind
            && event.request_id == document.request
            && event.contractor_id == document.contractor
            && event.customer_id == customer_of(document.request)
            && event.amount == Some(amount(document.request))
            && event.envelope.event_id == id_of(document.completion, "hr.document_created", kind)
            && event.envelope.correlation_id == Some(correlation(document.request))
    })
}

/// Dead letters are completions and payments by the wrong contractor, or of what never came; no others, in no other topic.
fn check_letters(wanted: &Wanted, found: &Found, problems: &mut Vec<String>) {
    let serdes = registered_serdes();
    let id = |topic: &str, message: &Message| {
        let value = message.value.clone().map(Bytes::from);
        let none = Headers::default();
        if topic.ends_with("hr-documents-workflow-events-dlq") {
            let event = serdes.workflow.deserializer().deserialize(topic, &none, value.as_ref());
            event.ok()?.envelope().map(|envelope| envelope.event_id)
        } else if topic.ends_with("hr-documents-hr-events-dlq") {
            let event = serdes.hr.deserializer().deserialize(topic, &none, value.as_ref());
            event.ok()?.envelope().map(|envelope| envelope.event_id)
        } else {
            None
        }
    };
    let mut refused: BTreeMap<Uuid, usize> = BTreeMap::new();
    for (topic, message) in &found.set_aside {
        match id(topic, message) {
            Some(id) => *refused.entry(id).or_default() += 1,
            None => problems.push(format!("a dead letter in {topic}: {message:?}")),
        }
    }
    for id in wanted.letters.keys().chain(refused.keys()) {
        let (found, wanted) = (refused.get(id), wanted.letters.get(id));
        if found != wanted {
            problems.push(format!("{found:?} dead letters of {id}, wanted {wanted:?}"));
        }
    }
}

/// Each request has one manager, of its region; another one where the region has changed.
fn check_managers(story: &Story, found: &Found, problems: &mut Vec<String>) {
    let mut assigned: BTreeMap<i64, Vec<&WorkflowManagerAssigned>> = BTreeMap::new();
    for (_, event) in &found.workflow.read {
        match event {
            WorkflowEvent::ManagerAssigned(event) => {
                assigned.entry(event.request_id).or_default().push(event);
            }
            // Nobody has to wait for a manager, so nothing is escalated.
            WorkflowEvent::ContractorAssigned(_) | WorkflowEvent::WorkCompleted(_) => {}
            other => problems.push(format!("nobody asked for {other:?}")),
        }
    }
    for (request, life) in &story.lives {
        let some = assigned.remove(request).unwrap_or_default();
        if !is_well_managed(*request, life, &some) {
            problems.push(format!("request {request} has {some:?}, and its life is {life:?}"));
        }
    }
    for (request, some) in assigned {
        problems.push(format!("there is no request {request}: {some:?}"));
    }
}

/// In the order of the partition of their request.
fn is_well_managed(request: i64, life: &Life, assigned: &[&WorkflowManagerAssigned]) -> bool {
    let fits = |(attempt, event): (usize, &&WorkflowManagerAssigned)| {
        let revisions = || life.revisions.iter().filter(|revision| revision.region == event.region);
        let terms = |urgency| match urgency {
            Urgency::Critical => (Priority::P1, 1),
            Urgency::High => (Priority::P2, 5),
            Urgency::Medium | Urgency::Unknown => (Priority::P3, 15),
            Urgency::Low => (Priority::P4, 60),
        };
        let is_of = |opened_ms: i64, urgency| {
            let (priority, minutes) = terms(urgency);
            let deadline_ms = opened_ms + minutes * 60_000;
            (event.priority, event.sla_deadline.as_millis()) == (priority, deadline_ms)
        };
        let cause = event.envelope.causation_id;
        event.attempt == i32::try_from(attempt).unwrap() + 1
            && !event.escalated
            && event.manager_id == manager_of(&event.region)
            && event.envelope.correlation_id == Some(correlation(request))
            && revisions().any(|revision| Some(revision.event_id) == cause)
            // The time from which its deadline counts, and the urgency, may be of different revisions.
            && life.revisions.iter().any(|opened| {
                life.revisions.iter().any(|terms| is_of(opened.at_ms, terms.urgency))
            })
    };
    let regions: Vec<&str> = assigned.iter().map(|event| event.region.as_str()).collect();
    let is_right = match (&life.revisions[..], life.ends().next()) {
        ([], _) => regions.is_empty(),
        ([.., last], None) => regions.last() == Some(&last.region),
        // An end may come before any manager.
        (_, Some(_)) => true,
    };
    let moves = regions.windows(2).all(|pair| pair[0] != pair[1]);
    is_right
        && moves
        && regions.len() <= life.revisions.len()
        && assigned.iter().enumerate().all(fits)
}
