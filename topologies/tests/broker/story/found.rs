//! What came out: committed records only, read by a plain client.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::*;
use bytes::Bytes;
use kstreams::Headers;
use kstreams::serdes::Serde;
use test_support::{Follower, Message};
use uuid::Uuid;

use super::life::{Story, amount, correlation};
use super::wanted::Wanted;
use crate::site::Site;

const ACCESS: &str = "contractor-access";
const HR: &str = "hr-documents";

/// A decision on access.
#[derive(Debug, Clone)]
struct Decision {
    envelope: Envelope,
    request: i64,
    contractor: i64,
    reason: AccessReason,
    granted: bool,
}

/// Follows all outputs.
pub(crate) struct Found {
    security: Follower,
    hr: Follower,
    audit: Follower,
    workflow: Follower,
    letters: Vec<Follower>,
    foreign_letters: Vec<Follower>,
    paperwork: Follower,
    serdes: Serdes,
    decisions: Vec<Decision>,
    documents: Vec<HrDocumentCreated>,
    contracts: Vec<HrContractGenerated>,
    audits: Vec<AuditSystemEvent>,
    /// How often audit-fanout reports a record, by topic, partition and offset.
    reported: BTreeMap<(String, i32, i64), usize>,
    /// Records of the domain topics that are followed, read so far.
    domain: BTreeSet<(String, i32, i64)>,
    managed: BTreeMap<i64, usize>,
    refused: BTreeMap<Uuid, usize>,
    /// Letters that nobody wanted, by topic.
    unwanted: Vec<Message>,
    /// Requests with open paperwork, by the store's changelog.
    open: BTreeSet<i64>,
    /// Ids of events that topologies published.
    ids: BTreeMap<Uuid, usize>,
}

fn read<E>(serde: &Serde<E>, topic: &str, message: &Message) -> E {
    let value = message.value.clone().map(Bytes::from);
    serde.deserializer().deserialize(topic, &Headers::default(), value.as_ref()).unwrap()
}

impl Found {
    /// The program must have been started once: its own topics are read too.
    pub(crate) fn new(site: &Site, serdes: Serdes) -> Self {
        let letters = |topology: &str, topics: &[&str]| -> Vec<Follower> {
            let name = |topic: &&str| site.topic_of(topology, &format!("{topic}-dlq"));
            topics.iter().map(|topic| Follower::new(&name(topic))).collect()
        };
        let inputs = ["request-events", "workflow-events", "security-events"];
        let mut foreign_letters = letters(ACCESS, &inputs);
        foreign_letters.extend(letters(HR, &["request-events", "security-events"]));
        Self {
            security: Follower::new(SecurityEvent::TOPIC),
            hr: Follower::new(HrEvent::TOPIC),
            audit: Follower::new(AuditEvent::TOPIC),
            workflow: Follower::new(WorkflowEvent::TOPIC),
            letters: letters(HR, &["workflow-events", "hr-events"]),
            foreign_letters,
            paperwork: Follower::new(&site.topic_of(HR, "paperwork-changelog")),
            serdes,
            decisions: Vec::new(),
            documents: Vec::new(),
            contracts: Vec::new(),
            audits: Vec::new(),
            reported: BTreeMap::new(),
            domain: BTreeSet::new(),
            managed: BTreeMap::new(),
            refused: BTreeMap::new(),
            unwanted: Vec::new(),
            open: BTreeSet::new(),
            ids: BTreeMap::new(),
        }
    }

    /// Reads what has come; says whether each topic was read to its end once.
    pub(crate) fn look(&mut self) -> bool {
        let mut all = Vec::new();
        let mut complete = self.security.look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            self.note_domain(SecurityEvent::TOPIC, &message);
            let event = read(&self.serdes.security, SecurityEvent::TOPIC, &message);
            self.note_security(event);
        }
        complete &= self.hr.look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            self.note_domain(HrEvent::TOPIC, &message);
            let event = read(&self.serdes.hr, HrEvent::TOPIC, &message);
            self.note_hr(event);
        }
        complete &= self.audit.look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            let event = read(&self.serdes.audit, AuditEvent::TOPIC, &message);
            self.note_audit(event);
        }
        complete &= self.workflow.look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            self.note_domain(WorkflowEvent::TOPIC, &message);
            let event = read(&self.serdes.workflow, WorkflowEvent::TOPIC, &message);
            if let WorkflowEvent::ManagerAssigned(event) = event {
                self.note_id(&event.envelope);
                *self.managed.entry(event.request_id).or_default() += 1;
            }
        }
        complete & self.look_at_letters()
    }

    fn look_at_letters(&mut self) -> bool {
        let mut all = Vec::new();
        let mut complete = self.letters[0].look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            let event = read(&self.serdes.workflow, WorkflowEvent::TOPIC, &message);
            *self.refused.entry(event.envelope().unwrap().event_id).or_default() += 1;
        }
        complete &= self.letters[1].look(&mut |message| all.push(message));
        for message in std::mem::take(&mut all) {
            let event = read(&self.serdes.hr, HrEvent::TOPIC, &message);
            *self.refused.entry(event.envelope().unwrap().event_id).or_default() += 1;
        }
        for follower in &mut self.foreign_letters {
            complete &= follower.look(&mut |message| self.unwanted.push(message));
        }
        let open = &mut self.open;
        complete
            & self.paperwork.look(&mut |message| {
                let key = message.key.as_deref().unwrap();
                let request = i64::from_be_bytes(key.try_into().unwrap());
                match message.value {
                    Some(_) => open.insert(request),
                    None => open.remove(&request),
                };
            })
    }

    fn note_domain(&mut self, topic: &str, message: &Message) {
        self.domain.insert((topic.to_owned(), message.partition.unwrap(), message.offset));
    }

    fn note_audit(&mut self, event: AuditEvent) {
        let (envelope, topic, partition, offset) = match event {
            AuditEvent::SystemEvent(event) if event.envelope.source == ACCESS => {
                self.note_id(&event.envelope);
                self.audits.push(event);
                return;
            }
            AuditEvent::SystemEvent(e) => (e.envelope, e.topic, e.partition, e.offset),
            AuditEvent::UserAction(e) => (e.envelope, e.topic, e.partition, e.offset),
            AuditEvent::ErrorOccurred(e) => (e.envelope, e.topic, e.partition, e.offset),
            AuditEvent::PerformanceMetric(_) | AuditEvent::Unknown => return,
        };
        self.note_id(&envelope);
        *self.reported.entry((topic, partition, offset)).or_default() += 1;
    }

    fn note_id(&mut self, envelope: &Envelope) {
        *self.ids.entry(envelope.event_id).or_default() += 1;
    }

    fn note_security(&mut self, event: SecurityEvent) {
        let decision = match event {
            SecurityEvent::AccessGranted(e) => Decision {
                envelope: e.envelope,
                request: e.request_id,
                contractor: e.contractor_id,
                reason: e.reason,
                granted: true,
            },
            SecurityEvent::AccessRevoked(e) => Decision {
                envelope: e.envelope,
                request: e.request_id,
                contractor: e.contractor_id,
                reason: e.reason,
                granted: false,
            },
            _ => return,
        };
        self.note_id(&decision.envelope);
        self.decisions.push(decision);
    }

    fn note_hr(&mut self, event: HrEvent) {
        match event {
            HrEvent::DocumentCreated(event) => {
                self.note_id(&event.envelope);
                self.documents.push(event);
            }
            HrEvent::ContractGenerated(event) => {
                self.note_id(&event.envelope);
                self.contracts.push(event);
            }
            _ => {}
        }
    }

    /// How many decisions have come.
    pub(crate) fn decided(&self) -> usize {
        self.decisions.len()
    }

    /// How far it is, for people.
    pub(crate) fn progress(&self) -> String {
        format!(
            "{} decisions and revocations, {} documents, {} contracts, {} dead letters, {} open",
            self.decisions.len(),
            self.documents.len(),
            self.contracts.len(),
            self.refused.values().sum::<usize>(),
            self.open.len()
        )
    }

    /// Whatever is not as it should be, some of it.
    pub(crate) fn problems(&self, story: &Story, wanted: &Wanted) -> Vec<String> {
        let mut problems = Vec::new();
        self.check_access(wanted, &mut problems);
        self.check_papers(wanted, &mut problems);
        for (id, count) in self.ids.iter().filter(|(_, count)| **count > 1) {
            problems.push(format!("event id {id} comes {count} times"));
        }
        let audited: BTreeSet<Uuid> = self.audits.iter().map(|a| a.envelope.event_id).collect();
        let audit_id =
            |decision: &Decision| derived_id(decision.envelope.event_id, "audit.system_event", "");
        let expected: BTreeSet<Uuid> = self.decisions.iter().map(audit_id).collect();
        if audited != expected {
            problems.push(format!("{} audit events, {} decisions", audited.len(), expected.len()));
        }
        for (place, count) in self.reported.iter().filter(|(_, count)| **count > 1) {
            problems.push(format!("{place:?} is reported {count} times"));
        }
        let silent = self.domain.iter().filter(|place| !self.reported.contains_key(*place));
        if let count @ 1.. = silent.count() {
            problems.push(format!("{count} records of the domain are not reported"));
        }
        for (request, life) in &story.lives {
            let count = self.managed.get(request).copied().unwrap_or(0);
            let is_good = match (life.regions.len(), life.ends.is_empty()) {
                (0, _) => count == 0,
                (1, true) => count == 1,
                (_, true) => (1..=2).contains(&count),
                (_, false) => count <= 2,
            };
            if !is_good {
                problems.push(format!("request {request} has {count} managers: {life:?}"));
            }
        }
        if let Some(letter) = self.unwanted.first() {
            problems.push(format!("{} unwanted letters: {letter:?}", self.unwanted.len()));
        }
        problems
    }

    fn check_access(&self, wanted: &Wanted, problems: &mut Vec<String>) {
        let mut decided: BTreeMap<Uuid, &Decision> = BTreeMap::new();
        let mut granted: BTreeMap<(i64, i64), Uuid> = BTreeMap::new();
        let mut revoked: BTreeSet<(i64, i64)> = BTreeSet::new();
        // In the order of the partition of their contractor.
        for decision in &self.decisions {
            let Decision { envelope, request, contractor, reason, granted: is_grant } = decision;
            let cause = envelope.causation_id.unwrap();
            let discriminator = format!("{contractor}:{request}");
            let id = derived_id(cause, &envelope.event_type, &discriminator);
            if envelope.event_id != id || envelope.correlation_id != Some(correlation(*request)) {
                problems.push(format!("a wrong envelope: {decision:?}"));
            }
            let pair = (*request, *contractor);
            let of_cause =
                wanted.access.get(&cause).filter(|access| access.contractor == *contractor);
            if let Some(access) = of_cause {
                let fits = access.request == *request
                    && access.decisions.contains(reason)
                    && *is_grant == (*reason == AccessReason::Verified);
                if !fits || decided.insert(cause, decision).is_some() {
                    problems.push(format!("a wrong decision: {decision:?}, wanted {access:?}"));
                }
                if *is_grant {
                    granted.insert(pair, cause);
                }
                continue;
            }
            let access = granted.get(&pair).and_then(|assignment| wanted.access.get(assignment));
            let fits = access.is_some_and(|access| access.revocations.contains(&(*reason, cause)));
            if *is_grant || !fits || !revoked.insert(pair) {
                problems.push(format!("a wrong revocation: {decision:?}, wanted {access:?}"));
            }
        }
        for (assignment, access) in &wanted.access {
            match decided.get(assignment) {
                None => problems.push(format!("not decided: {access:?}")),
                Some(decision) if decision.granted && access.must_be_revoked => {
                    if !revoked.contains(&(access.request, access.contractor)) {
                        problems.push(format!("not revoked: {access:?}"));
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn check_papers(&self, wanted: &Wanted, problems: &mut Vec<String>) {
        let mut found = BTreeSet::new();
        for event in &self.documents {
            let fits = wanted.documents.get(&event.document_id).is_some_and(|document| {
                let id = derived_id(
                    document.completion,
                    "hr.document_created",
                    event.document_type.as_str(),
                );
                event.document_type == document.kind
                    && event.request_id == document.request
                    && event.contractor_id == document.contractor
                    && event.customer_id == document.request + 1_000_000
                    && event.amount == Some(amount(document.request))
                    && event.envelope.event_id == id
            });
            if !fits || !found.insert(event.document_id) {
                problems.push(format!("a wrong document: {event:?}"));
            }
        }
        for (id, document) in wanted.documents.iter().filter(|(id, _)| !found.contains(id)) {
            problems.push(format!("no document {id}: {document:?}"));
        }
        let contracts: BTreeMap<i64, Uuid> = self
            .contracts
            .iter()
            .map(|event| (event.contractor_id, event.envelope.causation_id.unwrap()))
            .collect();
        if contracts != wanted.contracts || contracts.len() != self.contracts.len() {
            let (found, wanted) = (self.contracts.len(), wanted.contracts.len());
            problems.push(format!("{found} contracts, wanted {wanted}, by other verifications?"));
        }
        for (id, count) in &wanted.letters {
            if self.refused.get(id) != Some(count) {
                problems
                    .push(format!("{:?} letters of {id}, wanted {count}", self.refused.get(id)));
            }
        }
        for id in self.refused.keys().filter(|id| !wanted.letters.contains_key(id)) {
            problems.push(format!("event {id} is a dead letter for nothing"));
        }
        if self.open != wanted.open {
            let differ: Vec<_> = self.open.symmetric_difference(&wanted.open).take(5).collect();
            problems.push(format!("open paperwork differs, such as of requests {differ:?}"));
        }
    }
}
