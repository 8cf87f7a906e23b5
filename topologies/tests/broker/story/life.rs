//! Seeded stories: what happens to requests and contractors, as facts, and the records in the order in which they are written.
//!
//! A life is made in the order in which it happened, which the timestamps say; what is written when is random within the
//! life, so that records come late and cross each other, and some come twice.

use std::collections::BTreeMap;

use aggregator::events::*;
use kstreams::Timestamp;
use kstreams::serdes::{Encoded, Serde};
use test_support::Message;
use uuid::Uuid;

use crate::load::Random;

/// Regions of requests; a contractor may be confined to the first.
pub(crate) const REGIONS: [&str; 4] = ["north", "south", "east", "west"];
/// Contractors, with ids from 1.
const CONTRACTORS: i64 = 400;
/// How far a record may be written after another one of its life, in records.
const LIFE: usize = 2_000;

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

/// `workflow.contractor_assigned`.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) event_id: Uuid,
    pub(crate) at_ms: i64,
    pub(crate) contractor: i64,
}

/// `workflow.work_completed`.
#[derive(Debug, Clone)]
pub(crate) struct Completion {
    pub(crate) event_id: Uuid,
    pub(crate) contractor: i64,
}

/// What is written to `workflow-events` and matters for documents, in that order.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Assigned(Assignment),
    Completed(Completion),
}

/// All that happens to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    /// By revision; empty: the request itself never comes.
    pub(crate) regions: Vec<&'static str>,
    pub(crate) assignments: Vec<Assignment>,
    /// Reasons for which its end revokes grants, and the events.
    pub(crate) ends: Vec<(AccessReason, Uuid)>,
    pub(crate) steps: Vec<Step>,
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
    /// Place in the writing, topic, record.
    records: Vec<(usize, &'static str, Message)>,
}

/// Ends a verification this long after the story was made.
const ENDS_AFTER_MS: i64 = 30_000;

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
            records: Vec::new(),
        };
        for contractor in 1..=CONTRACTORS {
            story.contractor(contractor, count * 4);
        }
        for number in 0..count {
            story.life(number as i64 + 1, number * 4);
        }
        story.sort();
        story
    }

    /// The records in `parts` parts, each by topic, in the order of writing.
    pub(crate) fn parts(&self, parts: usize) -> Vec<BTreeMap<&'static str, Vec<Message>>> {
        let size = self.records.len().div_ceil(parts);
        let part = |records: &[(usize, &'static str, Message)]| {
            let mut by_topic: BTreeMap<_, Vec<Message>> = BTreeMap::new();
            for (_, topic, message) in records {
                by_topic.entry(*topic).or_default().push(message.clone());
            }
            by_topic
        };
        self.records.chunks(size).map(part).collect()
    }

    /// The facts that depend on the order of writing take it over.
    fn sort(&mut self) {
        // Stable: a duplicate that has the place of its original follows it.
        self.records.sort_by_key(|(place, ..)| *place);
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn contractor(&mut self, id: i64, span: usize) {
        let count = [0, 1, 1, 1, 1, 1, 1, 1, 2, 3][self.random.below(10)];
        let mut places: Vec<usize> = (0..count).map(|_| self.random.below(span)).collect();
        places.sort_unstable();
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
                at_ms: self.now_ms - 50_000 + self.random.below(20_000) as i64,
                standing,
            };
            let event = self.security(id, &word);
            let message = message(&self.serdes.security, event);
            self.write(place, SecurityEvent::TOPIC, message);
            self.words.entry(id).or_default().push(word);
        }
    }

    fn security(&self, contractor_id: i64, word: &Word) -> SecurityEvent {
        let at = Timestamp::from_millis(word.at_ms);
        let envelope = |event_type| Envelope::new(word.event_id, event_type, at, "story", None);
        match word.standing {
            Standing::Rejected => SecurityContractorRejected {
                envelope: envelope(SecurityContractorRejected::TYPE),
                contractor_id,
                reason: "no papers".to_owned(),
                rejected_by: "officer:1".to_owned(),
            }
            .into(),
            Standing::Verified { confined, ends } => SecurityContractorVerified {
                envelope: envelope(SecurityContractorVerified::TYPE),
                contractor_id,
                verified_by: "officer:1".to_owned(),
                regions: confined.then(|| REGIONS[0].to_owned()).into_iter().collect(),
                valid_until: ends.then(|| Timestamp::from_millis(self.now_ms + ENDS_AFTER_MS)),
            }
            .into(),
        }
    }

    /// Writes a record, and a duplicate some time later now and then.
    fn write(&mut self, place: usize, topic: &'static str, message: Message) {
        if self.chance(3) {
            let later = place + self.random.below(LIFE);
            self.records.push((later, topic, message.clone()));
        }
        self.records.push((place, topic, message));
    }

    fn life(&mut self, id: i64, begin: usize) {
        let mut life = Life::default();
        let mut clock = Clock { at_ms: self.now_ms - 50_000 };
        // One of a hundred never comes.
        if !self.chance(1) {
            self.requests(id, begin, &mut clock, &mut life);
        }
        let mut workflow = Vec::new();
        for _ in 0..[0, 1, 1, 1, 1, 1, 1, 1, 2, 3][self.random.below(10)] {
            let mut contractor = self.random.below(CONTRACTORS as usize) as i64 + 1;
            while life.assignments.iter().any(|known| known.contractor == contractor) {
                contractor = contractor % CONTRACTORS + 1;
            }
            let assignment =
                Assignment { event_id: self.random.uuid(), at_ms: clock.next(), contractor };
            life.assignments.push(assignment.clone());
            workflow.push(Step::Assigned(assignment));
        }
        if self.chance(50) {
            // By whoever was assigned last; by somebody else now and then.
            let last = life.assignments.last().map_or(1, |last| last.contractor);
            let contractor = if self.chance(3) { last % CONTRACTORS + 1 } else { last };
            let event_id = self.random.uuid();
            life.ends.push((AccessReason::RequestCompleted, event_id));
            workflow.push(Step::Completed(Completion { event_id, contractor }));
            self.papers(event_id, contractor, begin);
        }
        self.steps(id, begin, workflow, &mut clock, &mut life);
        if self.chance(8) && !life.regions.is_empty() {
            let event_id = self.random.uuid();
            life.ends.push((AccessReason::RequestCancelled, event_id));
            let event = cancelled(id, envelope(id, event_id, RequestCancelled::TYPE, clock.next()));
            let place = self.place(begin);
            let message = message(&self.serdes.requests, event);
            self.write(place, RequestEvent::TOPIC, message);
        }
        self.lives.insert(id, life);
    }

    fn place(&mut self, begin: usize) -> usize {
        begin + self.random.below(LIFE)
    }

    fn requests(&mut self, id: i64, begin: usize, clock: &mut Clock, life: &mut Life) {
        let revisions = if self.chance(15) { 2 } else { 1 };
        for revision in 1..=revisions {
            let region = REGIONS[self.random.below(REGIONS.len())];
            life.regions.push(region);
            let event_id = self.random.uuid();
            let event = request(id, revision, region, event_id, clock.next());
            let place = self.place(begin);
            let message = message(&self.serdes.requests, event);
            self.write(place, RequestEvent::TOPIC, message);
        }
    }

    /// Writes the steps of a life, mostly in their order; notes them as they are written.
    fn steps(
        &mut self,
        id: i64,
        begin: usize,
        steps: Vec<Step>,
        clock: &mut Clock,
        life: &mut Life,
    ) {
        let in_order = self.chance(80);
        let mut places: Vec<usize> = steps.iter().map(|_| self.place(begin)).collect();
        if in_order {
            places.sort_unstable();
        }
        let mut written = Vec::new();
        for (place, step) in places.into_iter().zip(steps) {
            let event = match &step {
                Step::Assigned(assignment) => assigned(id, assignment),
                Step::Completed(completion) => completed(id, completion, clock.next()),
            };
            let message = message(&self.serdes.workflow, event);
            let before = self.records.len();
            self.write(place, WorkflowEvent::TOPIC, message);
            // With its duplicate: each has a place of its own.
            for number in before..self.records.len() {
                // The order of equal places is that of `records`.
                written.push(((self.records[number].0, number), step.clone()));
            }
        }
        written.sort_by_key(|(place, _)| *place);
        life.steps = written.into_iter().map(|(_, step)| step).collect();
    }

    /// Signature and payment of the documents that a completion makes, if it makes any.
    fn papers(&mut self, completion: Uuid, contractor: i64, begin: usize) {
        let document = |kind| derived_id(completion, "document", kind);
        let (act, order) = (document("completion_act"), document("payment_order"));
        let mut papers = Vec::new();
        if self.chance(80) {
            papers.push((act, None, true));
        }
        if self.chance(80) {
            let wrong = self.chance(2);
            let paid = !self.chance(4);
            papers.push((order, Some(if wrong { contractor + 1_000 } else { contractor }), paid));
        }
        for (document, contractor, paid) in papers {
            let paper = Paper { event_id: self.random.uuid(), document, contractor, paid };
            let place = self.place(begin + LIFE / 2);
            let event = paper_event(&paper, self.now_ms);
            let message = Message {
                key: Some(contractor.unwrap_or(1).to_string().into_bytes()),
                ..message(&self.serdes.hr, event)
            };
            self.records.push((place, HrEvent::TOPIC, message));
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

/// The correlation id of a request.
pub(crate) fn correlation(request_id: i64) -> Uuid {
    Uuid::from_u64_pair(0xc0, request_id.cast_unsigned())
}

fn envelope(request_id: i64, event_id: Uuid, event_type: &'static str, at_ms: i64) -> Envelope {
    let at = Timestamp::from_millis(at_ms);
    Envelope::new(event_id, event_type, at, "story", Some(correlation(request_id)))
}

fn request(id: i64, revision: i32, region: &str, event_id: Uuid, at_ms: i64) -> RequestEvent {
    let created = RequestCreated {
        envelope: envelope(id, event_id, RequestCreated::TYPE, at_ms),
        request_id: id,
        customer_id: id + 1_000_000,
        title: "Leaking tap".into(),
        description: String::new(),
        urgency: Urgency::Low,
        region: region.to_owned(),
        city: String::new(),
        address: String::new(),
        category: None,
        revision,
    };
    if revision == 1 {
        return created.into();
    }
    RequestUpdated {
        envelope: envelope(id, event_id, RequestUpdated::TYPE, at_ms),
        request_id: id,
        customer_id: created.customer_id,
        title: created.title,
        description: created.description,
        urgency: created.urgency,
        region: created.region,
        city: created.city,
        address: created.address,
        category: None,
        revision,
    }
    .into()
}

fn cancelled(request_id: i64, envelope: Envelope) -> RequestEvent {
    RequestCancelled {
        envelope,
        request_id,
        customer_id: request_id + 1_000_000,
        region: REGIONS[0].to_owned(),
        reason: String::new(),
        cancelled_by: String::new(),
    }
    .into()
}

fn assigned(request_id: i64, assignment: &Assignment) -> WorkflowEvent {
    let Assignment { event_id, at_ms, contractor } = *assignment;
    WorkflowContractorAssigned {
        envelope: envelope(request_id, event_id, WorkflowContractorAssigned::TYPE, at_ms),
        request_id,
        contractor_id: contractor,
        manager_id: 1,
    }
    .into()
}

fn completed(request_id: i64, completion: &Completion, at_ms: i64) -> WorkflowEvent {
    WorkflowWorkCompleted {
        envelope: envelope(request_id, completion.event_id, WorkflowWorkCompleted::TYPE, at_ms),
        request_id,
        contractor_id: completion.contractor,
        completion_data: CompletionData {
            completed_at: Timestamp::from_millis(at_ms),
            summary: String::new(),
            amount: amount(request_id),
            currency: "EUR".to_owned(),
            hours: None,
            photos: Vec::new(),
        },
    }
    .into()
}

/// What the work on a request costs.
pub(crate) fn amount(request_id: i64) -> Money {
    Money::from_hundredths(1_000 + request_id).unwrap()
}

fn paper_event(paper: &Paper, at_ms: i64) -> HrEvent {
    let at = Timestamp::from_millis(at_ms);
    let Paper { event_id, document: document_id, contractor, paid } = *paper;
    let envelope = |event_type| Envelope::new(event_id, event_type, at, "story", None);
    match contractor {
        None => HrDocumentSigned {
            envelope: envelope(HrDocumentSigned::TYPE),
            document_id,
            signed_by: "customer:1".to_owned(),
        }
        .into(),
        Some(contractor_id) => HrPaymentProcessed {
            envelope: envelope(HrPaymentProcessed::TYPE),
            document_id,
            contractor_id,
            amount: Money::default(),
            currency: "EUR".to_owned(),
            status: if paid { "paid" } else { "refused" }.to_owned(),
        }
        .into(),
    }
}

fn message<E: TopicEvent + 'static>(serde: &Serde<E>, event: E) -> Message {
    let mut value = Vec::new();
    let encoded = serde.serializer().serialize(E::TOPIC, &event, &mut value).unwrap();
    assert_eq!(encoded, Encoded::Bytes);
    Message {
        key: event.key().map(String::into_bytes),
        value: Some(value),
        timestamp_ms: event.envelope().map(|envelope| envelope.timestamp.as_millis()),
        ..Message::default()
    }
}
