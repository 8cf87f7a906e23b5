//! What must have come out of a story, and what may have: computed from the story alone.
//!
//! The order in which one topic's records of a key were written is the order in which they are read; between topics there
//! is none. What depends on that is a set of outcomes; everything else is exact.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::{AccessReason, DocumentType};
use uuid::Uuid;

use super::life::{Assignment, Completion, Life, REGIONS, Standing, Step, Story, Word};

/// The namespace of the ids of derived events.
const NAMESPACE: Uuid = Uuid::from_u128(0x9b1d_7a52_4c0e_5b0f_8f6a_3e7d_21c4_a916);

/// The id of what follows from an event: UUIDv5 of the event, of what it is, and of what tells it from others of that kind.
pub(crate) fn id_of(event_id: Uuid, what: &str, discriminator: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{event_id}:{what}:{discriminator}").as_bytes())
}

/// What may become of an assignment, and of the grant if it is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) request: i64,
    pub(crate) contractor: i64,
    /// Reasons of the decision; `verified` grants.
    pub(crate) decisions: BTreeSet<AccessReason>,
    /// Reasons for which a grant may be revoked, and by which events.
    pub(crate) revocations: BTreeSet<(AccessReason, Uuid)>,
    /// Whether a grant must have been revoked in the end.
    pub(crate) must_be_revoked: bool,
}

/// A document, by its id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) kind: DocumentType,
    pub(crate) request: i64,
    pub(crate) contractor: i64,
    pub(crate) completion: Uuid,
}

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// By the assignment's event.
    pub(crate) access: BTreeMap<Uuid, Access>,
    pub(crate) documents: BTreeMap<Uuid, Document>,
    /// By contractor: the verification that makes the contract.
    pub(crate) contracts: BTreeMap<i64, Uuid>,
    /// How many dead letters of each completion or payment.
    pub(crate) letters: BTreeMap<Uuid, usize>,
    /// Requests whose paperwork stays open.
    pub(crate) open: BTreeSet<i64>,
}

impl Wanted {
    pub(crate) fn of(story: &Story) -> Self {
        let mut wanted = Self::default();
        for (request, life) in &story.lives {
            for assignment in &life.assignments {
                let words = story.words.get(&assignment.contractor).map_or(&[][..], Vec::as_slice);
                let access = access(*request, life, assignment, words);
                wanted.access.insert(assignment.event_id, access);
            }
            wanted.paperwork(*request, life);
        }
        for (contractor, words) in &story.words {
            let verified = |word: &&Word| word.standing != Standing::Rejected;
            if let Some(first) = words.iter().find(verified) {
                wanted.contracts.insert(*contractor, first.event_id);
            }
        }
        wanted.close(story);
        wanted
    }

    /// Of how many assignments there is one possible decision, and of how many it is certain who has access in the end.
    pub(crate) fn certain(&self) -> (usize, usize) {
        let has_access_or_not = |access: &&Access| {
            let may_be_granted = access.decisions.contains(&AccessReason::Verified);
            let may_stay = access.decisions.len() == 1 && access.revocations.is_empty();
            !may_be_granted || access.must_be_revoked || may_stay
        };
        let one = self.access.values().filter(|access| access.decisions.len() == 1);
        (one.count(), self.access.values().filter(has_access_or_not).count())
    }

    /// Follows a request's completions in the order in which they were written.
    fn paperwork(&mut self, request: i64, life: &Life) {
        let mut assigned: Option<&Assignment> = None;
        let mut accepted: Option<&Completion> = None;
        let mut waiting: Vec<&Completion> = Vec::new();
        for step in &life.steps {
            let candidates = match step {
                Step::Assigned(assignment) => {
                    if assigned.is_none_or(|known| order(known) < order(assignment)) {
                        assigned = Some(assignment);
                    }
                    std::mem::take(&mut waiting)
                }
                Step::Completed(completion) => vec![completion],
            };
            for completion in candidates {
                let is_told_again = |other: &&Completion| other.event_id == completion.event_id;
                match (accepted, assigned) {
                    (Some(accepted), _) if accepted.contractor == completion.contractor => {}
                    (Some(_), _) => self.refuse(completion.event_id),
                    (None, None) if waiting.iter().any(is_told_again) => {}
                    (None, None) => waiting.push(completion),
                    (None, Some(by)) if by.contractor == completion.contractor => {
                        accepted = Some(completion);
                    }
                    (None, Some(_)) => self.refuse(completion.event_id),
                }
            }
        }
        waiting.iter().for_each(|completion| self.refuse(completion.event_id));
        let Some(Completion { event_id, contractor, .. }) = accepted else { return };
        if !life.is_known() {
            return self.refuse(*event_id); // the request never comes
        }
        for kind in [DocumentType::CompletionAct, DocumentType::PaymentOrder] {
            let document =
                Document { kind, request, contractor: *contractor, completion: *event_id };
            self.documents.insert(id_of(*event_id, "document", kind.as_str()), document);
        }
        self.open.insert(request);
    }

    fn refuse(&mut self, event_id: Uuid) {
        *self.letters.entry(event_id).or_default() += 1;
    }

    /// Brings signatures and payments to the documents.
    fn close(&mut self, story: &Story) {
        let mut done: BTreeMap<i64, usize> = BTreeMap::new();
        for paper in &story.papers {
            let Some(document) = self.documents.get(&paper.document) else { continue };
            let request = document.request;
            match paper.contractor {
                Some(_) if !paper.paid => {}
                Some(contractor) if contractor != document.contractor => {
                    self.refuse(paper.event_id);
                }
                _ => *done.entry(request).or_default() += 1,
            }
        }
        self.open.retain(|request| done.get(request) != Some(&2));
    }
}

fn order(assignment: &Assignment) -> (i64, Uuid) {
    (assignment.at_ms, assignment.event_id)
}

/// The standings that a contractor had, one after the other; the latest word by timestamp holds.
fn standings(words: &[Word]) -> Vec<(&Word, Standing)> {
    let order = |word: &Word| (word.at_ms, word.standing == Standing::Rejected, word.event_id);
    let mut current: Option<&Word> = None;
    let mut all = Vec::new();
    for word in words {
        if current.is_none_or(|known| order(known) < order(word)) {
            current = Some(word);
            all.push((word, word.standing));
        }
    }
    all
}

fn access(request: i64, life: &Life, assignment: &Assignment, words: &[Word]) -> Access {
    let later = life.assignments.iter().filter(|other| {
        other.contractor != assignment.contractor && order(other) > order(assignment)
    });
    let mut wanted = Access { request, contractor: assignment.contractor, ..Access::default() };
    let standings = standings(words);
    let ends = |standing: Standing| matches!(standing, Standing::Verified { ends: true, .. });
    for other in later {
        wanted.decisions.insert(AccessReason::Reassigned);
        wanted.revocations.insert((AccessReason::Reassigned, other.event_id));
        wanted.must_be_revoked = true;
    }
    for (reason, event_id) in life.ends() {
        wanted.decisions.insert(AccessReason::RequestClosed);
        wanted.revocations.insert((reason, event_id));
        wanted.must_be_revoked = true;
    }
    for (word, standing) in &standings {
        if *standing == Standing::Rejected {
            wanted.revocations.insert((AccessReason::Rejected, word.event_id));
        } else if ends(*standing) {
            wanted.revocations.insert((AccessReason::Expired, word.event_id));
        }
    }
    let last = standings.last().map(|(_, standing)| *standing);
    wanted.must_be_revoked |= last.is_some_and(|last| last == Standing::Rejected || ends(last));
    if !life.is_known() {
        // A later assignment or an end may deny it before the wait is over.
        wanted.decisions.insert(AccessReason::UnknownRequest);
        return wanted;
    }
    if standings.is_empty() {
        wanted.decisions.insert(AccessReason::NotVerified);
    }
    for (_, standing) in standings {
        let Standing::Verified { confined, ends } = standing else {
            wanted.decisions.insert(AccessReason::Rejected);
            continue;
        };
        if ends {
            wanted.decisions.insert(AccessReason::Expired);
        }
        for revision in &life.revisions {
            let is_allowed = !confined || revision.region == REGIONS[0];
            wanted.decisions.insert(match is_allowed {
                true => AccessReason::Verified,
                false => AccessReason::RegionNotAllowed,
            });
        }
    }
    wanted
}
