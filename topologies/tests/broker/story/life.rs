//! Seeded stories: what happens to requests and contractors, as facts, and the records in the order in which they are written.
//!
//! A life is made in the order in which it happened, which the timestamps say; what is written when is random within the
//! life, so that records come late and cross each other, and some come twice.

use std::collections::BTreeMap;

use aggregator::events::{AccessReason, Serdes, Urgency};
use uuid::Uuid;

use super::people::{CONTRACTORS, manager_of};
use super::records::{self, Records};
use super::wanted::id_of;
use crate::load::Random;

/// Regions of requests; a contractor may be confined to the first.
pub(crate) const REGIONS: [&str; 4] = ["north", "south", "east", "west"];
/// How far a record may be written after another one of its life, in records.
const LIFE: usize = 2_000;
/// Ends a verification this long after the story was made.
const ENDS_AFTER_MS: i64 = 30_000;
/// What never comes is missing in the first of so many parts of the lives: the sooner somebody waits for it, the sooner that
/// is over.
const EARLY: usize = 4;
/// The first event of a life is this old when the story is made.
const BEGAN_BEFORE_MS: i64 = 50_000;

/// What is said of a contractor.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) event_id: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Rejected,
    /// Where: everywhere, or in the first region alone; and whether it ends while the test runs.
    Verified {
        confined: bool,
        ends: bool,
    },
}

/// `request.created` and `request.updated`.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) event_id: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) region: &'static str,
    pub(crate) urgency: Urgency,
}

/// `workflow.contractor_assigned`.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) event_id: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) contractor: i64,
    pub(crate) manager: i64,
}

/// `workflow.work_completed`.
#[derive(Debug, Clone)]
pub(crate) struct Completion {
    pub(crate) event_id: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) contractor: i64,
}

/// What is written to `workflow-events`, in that order.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Assigned(Assignment),
    Completed(Completion),
}

/// All that happens to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    /// Empty: the request itself never comes.
    pub(crate) revisions: Vec<Revision>,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) completion: Option<Completion>,
    pub(crate) cancelled: Option<Uuid>,
    pub(crate) steps: Vec<Step>,
}

impl Life {
    /// The ends of it, with the reason for which each revokes a grant.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (AccessReason, Uuid)> {
        let completed = self.completion.as_ref().map(|completion| completion.event_id);
        let completed = completed.map(|id| (AccessReason::RequestCompleted, id));
        let cancelled = self.cancelled.map(|id| (AccessReason::RequestCancelled, id));
        completed.into_iter().chain(cancelled)
    }

    /// Whether the request ever comes.
    pub(crate) fn is_known(&self) -> bool {
        !self.revisions.is_empty()
    }
}

/// A signature (no contractor) or payment.
#[derive(Debug, Clone)]
pub(crate) struct Paper {
    pub(crate) event_id: Uuid,
    pub(crate) document: Uuid,
    pub(crate) contractor: Option<i64>,
    pub(crate) paid: bool,
}

/// Everything, and the records that tell it.
pub(crate) struct Story {
    random: Random,
    serdes: Serdes,
    now_ms: i64,
    pub(crate) lives: BTreeMap<i64, Life>,
    /// By contractor, in the order of writing.
    pub(crate) words: BTreeMap<i64, Vec<Word>>,
    pub(crate) papers: Vec<Paper>,
    pub(crate) records: Records,
}

impl Story {
    /// Makes `count` lives; `now_ms` is the wall clock, and later than everything that happens.
    pub(crate) fn new(seed: u64, count: usize, serdes: Serdes, now_ms: i64) -> Self {
        let mut story = Self {
            random: Random(seed),
            serdes,
            now_ms,
            lives: BTreeMap::new(),
            words: BTreeMap::new(),
            papers: Vec::new(),
            records: Records::default(),
        };
        for contractor in 1..=CONTRACTORS {
            story.contractor(contractor, count * 4);
        }
        for number in 0..count {
            story.life(number as i64 + 1, number * 4, number < count / EARLY);
        }
        story.records.sort();
        story
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn place(&mut self, begin: usize) -> usize {
        begin + self.random.below(LIFE)
    }

    /// A place, and another one after it where the record is written twice.
    fn places(&mut self, place: usize) -> Vec<usize> {
        match self.chance(3) {
            true => vec![place, self.place(place)],
            false => vec![place],
        }
    }

    fn contractor(&mut self, id: i64, span: usize) {
        let count = [0, 1, 1, 1, 1, 1, 1, 1, 2, 3][self.random.below(10)];
        let mut places: Vec<usize> = (0..count).map(|_| self.random.below(span)).collect();
        places.sort_unstable();
        // The first word of a contractor is early, for everybody waits for it.
        if let Some(first) = places.first_mut() {
            *first /= EARLY;
        }
        for (number, place) in places.into_iter().enumerate() {
            let confined = self.chance(15);
            let ends = self.chance(5);
            let standing = match self.chance(if number == 0 { 10 } else { 50 }) {
                true => Standing::Rejected,
                false => Standing::Verified { confined, ends },
            };
            let word = Word {
                event_id: self.random.uuid(),
                // Older than the one before it, now and then.
                at_ms: self.now_ms - BEGAN_BEFORE_MS + self.random.below(20_000) as i64,
                standing,
            };
            let event = records::said(id, &word, self.now_ms + ENDS_AFTER_MS);
            for place in self.places(place) {
                self.records.add(&self.serdes.security, place, id.to_string(), &event);
            }
            self.words.entry(id).or_default().push(word);
        }
    }

    fn life(&mut self, id: i64, begin: usize, is_early: bool) {
        let mut life = Life::default();
        let mut clock = Clock { at_ms: self.now_ms - BEGAN_BEFORE_MS };
        if !is_early || !self.chance(4) {
            self.requests(id, begin, &mut clock, &mut life);
        }
        let manager = manager_of(life.revisions.first().map_or(REGIONS[0], |first| first.region));
        let mut steps = Vec::new();
        for _ in 0..[0, 1, 1, 1, 1, 1, 1, 1, 2, 3][self.random.below(10)] {
            let mut contractor = self.random.below(CONTRACTORS as usize) as i64 + 1;
            while life.assignments.iter().any(|known| known.contractor == contractor)
                || !(is_early || self.words.contains_key(&contractor))
            {
                contractor = contractor % CONTRACTORS + 1;
            }
            let (event_id, at_ms) = (self.random.uuid(), clock.next());
            let assignment = Assignment { event_id, at_ms, contractor, manager };
            life.assignments.push(assignment.clone());
            steps.push(Step::Assigned(assignment));
        }
        if self.chance(50) && (is_early || !life.assignments.is_empty()) {
            // By whoever was assigned last; by somebody else now and then.
            let last = life.assignments.last().map_or(1, |last| last.contractor);
            let contractor = if self.chance(3) { last % CONTRACTORS + 1 } else { last };
            let (event_id, at_ms) = (self.random.uuid(), clock.next());
            let completion = Completion { event_id, at_ms, contractor };
            life.completion = Some(completion.clone());
            steps.push(Step::Completed(completion));
            self.papers(event_id, contractor, begin);
        }
        self.steps(id, begin, steps, &mut life);
        if self.chance(8) && life.is_known() {
            let event_id = self.random.uuid();
            life.cancelled = Some(event_id);
            let event = records::cancelled(id, event_id, clock.next());
            let place = self.place(begin);
            for place in self.places(place) {
                self.records.add(&self.serdes.requests, place, REGIONS[0].to_owned(), &event);
            }
        }
        self.lives.insert(id, life);
    }

    fn requests(&mut self, id: i64, begin: usize, clock: &mut Clock, life: &mut Life) {
        for number in 0..if self.chance(15) { 2 } else { 1 } {
            let revision = Revision {
                event_id: self.random.uuid(),
                at_ms: clock.next(),
                region: REGIONS[self.random.below(REGIONS.len())],
                urgency: Urgency::ALL[self.random.below(Urgency::ALL.len())],
            };
            let event = records::filed(id, number, &revision);
            let place = self.place(begin);
            for place in self.places(place) {
                let key = revision.region.to_owned();
                self.records.add(&self.serdes.requests, place, key, &event);
            }
            life.revisions.push(revision);
        }
    }

    /// Writes the steps of a life, mostly in their order; notes them as they are written.
    fn steps(&mut self, id: i64, begin: usize, steps: Vec<Step>, life: &mut Life) {
        let mut places: Vec<usize> = steps.iter().map(|_| self.place(begin)).collect();
        if self.chance(80) {
            places.sort_unstable();
        }
        let mut written = Vec::new();
        for (place, step) in places.into_iter().zip(steps) {
            let event = match &step {
                Step::Assigned(assignment) => records::assigned(id, assignment),
                Step::Completed(completion) => records::completed(id, completion),
            };
            for place in self.places(place) {
                let key = id.to_string();
                let number = self.records.add(&self.serdes.workflow, place, key, &event);
                written.push(((place, number), step.clone()));
            }
        }
        written.sort_by_key(|(order, _)| *order);
        life.steps = written.into_iter().map(|(_, step)| step).collect();
    }

    /// Signature and payment of the documents that a completion makes, if it makes any.
    fn papers(&mut self, completion: Uuid, contractor: i64, begin: usize) {
        let document = |kind| id_of(completion, "document", kind);
        let mut papers = Vec::new();
        if self.chance(80) {
            papers.push((document("completion_act"), None, true));
        }
        if self.chance(80) {
            let wrong = self.chance(2);
            let paid = !self.chance(4);
            let contractor = if wrong { contractor + 1_000 } else { contractor };
            papers.push((document("payment_order"), Some(contractor), paid));
        }
        for (document, paid_to, paid) in papers {
            let paper = Paper { event_id: self.random.uuid(), document, contractor: paid_to, paid };
            let place = self.place(begin + LIFE / 2);
            let event = records::paper(&paper, self.now_ms);
            // One that is refused is not told again: how often it is refused then depends on when the document is known.
            let is_refused = paid_to.is_some_and(|paid_to| paid_to != contractor);
            let places = if is_refused { vec![place] } else { self.places(place) };
            for place in places {
                self.records.add(&self.serdes.hr, place, contractor.to_string(), &event);
            }
            self.papers.push(paper);
        }
    }
}

/// The time within a life.
struct Clock {
    at_ms: i64,
}

impl Clock {
    fn next(&mut self) -> i64 {
        self.at_ms += 100;
        self.at_ms
    }
}
