//! Who must have been told what: of each event that concerns somebody, one notification for each person, by the table of
//! messages; and whether by a message, or as failed because nobody is known or reached.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::{Channel, DocumentType, HrEvent, SecurityEvent, WorkflowEvent};
use uuid::Uuid;

use super::found::Found;
use super::life::{Life, Story};
use super::people::{contractor, customer, customer_of, manager, reach};
use super::records::{correlation, title};
use super::wanted::id_of;

/// Messages that are wanted by Telegram; all others by e-mail.
const BY_TELEGRAM: [&str; 2] = ["job_assigned", "access_revoked"];
/// Messages that give the title of their request.
const WITH_TITLE: [&str; 7] = [
    "request_created",
    "manager_assigned",
    "job_assigned",
    "contractor_found",
    "work_completed",
    "work_report",
    "request_cancelled",
];

/// A notification that must have been made.
#[derive(Debug, Clone)]
struct Notice {
    request: Option<i64>,
    correlation: Option<Uuid>,
    /// Whom it may be for: one, unless it depends on the order in which topics are read.
    recipients: BTreeSet<String>,
    title: Option<String>,
}

/// What became of a notification.
#[derive(Debug, Clone)]
struct Made {
    id: Uuid,
    recipient: String,
    /// `None`: it has failed.
    channel: Option<Channel>,
    request: Option<i64>,
    correlation: Option<Uuid>,
    title: Option<String>,
}

/// By the event that caused it, and the message.
type Notices = BTreeMap<(Uuid, &'static str), Notice>;

/// Says what differs.
pub(crate) fn check(story: &Story, found: &Found, problems: &mut Vec<String>) {
    let wanted = notices(story, found);
    let mut made: BTreeMap<(Uuid, &str), Vec<Made>> = BTreeMap::new();
    for (cause, template, one) in all_made(found) {
        made.entry((cause, template)).or_default().push(one);
    }
    for (key, notice) in &wanted {
        match made.get(key).map_or(&[][..], Vec::as_slice) {
            [one] if fits(key, notice, one) => {}
            other => problems.push(format!("notification {key:?}: {other:?}, wanted {notice:?}")),
        }
    }
    for (key, some) in made.iter().filter(|(key, _)| !wanted.contains_key(key)) {
        problems.push(format!("notification {key:?} for nothing: {some:?}"));
    }
    check_sent(found, problems);
}

fn fits((cause, template): &(Uuid, &'static str), notice: &Notice, made: &Made) -> bool {
    let Made { id, recipient, channel, request, correlation, title } = made;
    let is_named = !recipient.starts_with("request:");
    let reached = is_named.then(|| reach(recipient, BY_TELEGRAM.contains(template))).flatten();
    let own_id = id_of(*cause, "notification.command", &format!("{template}:{recipient}"));
    notice.recipients.contains(recipient)
        && *channel == reached
        && (*id == own_id || !is_named)
        && (*request, *correlation) == (notice.request, notice.correlation)
        && (channel.is_none() || *title == notice.title)
}

fn all_made(found: &Found) -> impl Iterator<Item = (Uuid, &str, Made)> {
    let commands = found.commands.read.iter().map(|(_, command)| {
        let made = Made {
            id: command.notification_id,
            recipient: command.recipient.clone(),
            channel: Some(command.channel),
            request: command.request_id,
            correlation: command.envelope.correlation_id,
            title: command.parameters.get("title").cloned(),
        };
        (command.envelope.causation_id.unwrap_or_default(), command.template.as_str(), made)
    });
    // A notification that fails at once; those of the deliverers had a command.
    let failed = found.failed().filter(|event| event.envelope.source == "notifications");
    let failed = failed.map(|event| {
        let made = Made {
            id: event.notification_id,
            recipient: event.recipient.clone(),
            channel: None,
            request: event.request_id,
            correlation: event.envelope.correlation_id,
            title: None,
        };
        (event.envelope.causation_id.unwrap_or_default(), event.template.as_str(), made)
    });
    commands.chain(failed)
}

/// Every message was sent once, on its channel; nothing else was sent.
fn check_sent(found: &Found, problems: &mut Vec<String>) {
    let mut sent: BTreeMap<Uuid, Vec<(Channel, &str)>> = BTreeMap::new();
    for (id, channel, recipient) in found.sent() {
        sent.entry(id).or_default().push((channel, recipient));
    }
    for (_, command) in &found.commands.read {
        let wanted = (command.channel, command.recipient.as_str());
        match sent.remove(&command.notification_id).as_deref() {
            Some([one]) if *one == wanted => {}
            other => problems.push(format!("sent {other:?}, wanted {wanted:?}: {command:?}")),
        }
    }
    for (id, some) in sent {
        problems.push(format!("notification {id} is sent, but nobody asked for it: {some:?}"));
    }
    for event in found.failed().filter(|event| event.envelope.source != "notifications") {
        problems.push(format!("a message could not be sent: {event:?}"));
    }
}

fn notices(story: &Story, found: &Found) -> Notices {
    let mut notices = Notices::new();
    let mut managers: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for (_, event) in &found.workflow.read {
        if let WorkflowEvent::ManagerAssigned(event) = event {
            let recipient = manager(event.manager_id);
            managers.entry(event.request_id).or_default().insert(recipient.clone());
            add(
                &mut notices,
                event.envelope.event_id,
                "manager_assigned",
                event.request_id,
                [recipient],
            );
        }
    }
    for (request, life) in &story.lives {
        of_life(*request, life, managers.remove(request).unwrap_or_default(), &mut notices);
    }
    for (_, event) in &found.security.read {
        if let SecurityEvent::AccessRevoked(event) = event {
            let to = [contractor(event.contractor_id)];
            add(&mut notices, event.envelope.event_id, "access_revoked", event.request_id, to);
        }
    }
    for (_, event) in &found.hr.read {
        match event {
            HrEvent::ContractGenerated(event) => {
                let to = [contractor(event.contractor_id)];
                add(&mut notices, event.envelope.event_id, "contract_generated", None, to);
            }
            HrEvent::DocumentCreated(event) => {
                let (template, to) = match event.document_type {
                    DocumentType::CompletionAct => ("completion_act", customer(event.customer_id)),
                    _ => ("payment_order", contractor(event.contractor_id)),
                };
                add(&mut notices, event.envelope.event_id, template, event.request_id, [to]);
            }
            _ => {}
        }
    }
    for paper in &story.papers {
        if let Some(id) = paper.contractor {
            add(&mut notices, paper.event_id, "payment_processed", None, [contractor(id)]);
        }
    }
    notices
}

/// What the events of a life, as they were written, ask for; `managers` were assigned to it.
fn of_life(request: i64, life: &Life, mut managers: BTreeSet<String>, notices: &mut Notices) {
    let nobody = format!("request:{request}");
    let of_request = match life.is_known() {
        true => customer(customer_of(request)),
        false => nobody.clone(),
    };
    let mut add = |cause: Uuid, template, to: BTreeSet<String>| {
        add(notices, cause, template, request, to);
        if !life.is_known() {
            // Without its request, nobody knows the title.
            notices.entry((cause, template)).and_modify(|notice| {
                notice.title = notice.title.as_ref().map(|_| String::new());
            });
        }
    };
    let to_customer = || BTreeSet::from([of_request.clone()]);
    if let Some(created) = life.revisions.first() {
        add(created.event_id, "request_created", to_customer());
    }
    if let Some(event_id) = life.cancelled {
        add(event_id, "request_cancelled", to_customer());
    }
    for assignment in &life.assignments {
        let to = BTreeSet::from([contractor(assignment.contractor)]);
        add(assignment.event_id, "job_assigned", to);
        add(assignment.event_id, "contractor_found", to_customer());
    }
    if let Some(completion) = &life.completion {
        add(completion.event_id, "work_completed", to_customer());
        // An assignment of a contractor names the manager too. Without one, the wait may be over before any manager is known.
        match life.assignments.first() {
            Some(assignment) => managers.insert(manager(assignment.manager)),
            None => managers.insert(nobody),
        };
        add(completion.event_id, "work_report", managers);
    }
}

fn add(
    notices: &mut Notices,
    cause: Uuid,
    template: &'static str,
    request: impl Into<Option<i64>>,
    recipients: impl IntoIterator<Item = String>,
) {
    let request = request.into();
    // Those of no request: a contract and a payment, which have no correlation.
    let title = request.filter(|_| WITH_TITLE.contains(&template)).map(title);
    let (correlation, recipients) = (request.map(correlation), recipients.into_iter().collect());
    notices.insert((cause, template), Notice { request, correlation, recipients, title });
}
