//! The simulated world: what is sent when. Knows nothing of Kafka; its time is that of its caller.
//!
//! New requests come at an even rate; everything else is a list of what is due. The content of every message follows from
//! the seed and from what it is about, so that the same seed gives the same messages whatever the machine's speed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kstreams::{Error, Result, Timestamp};

use crate::events::{
    DocumentType, HrDocumentCreated, HrEvent, Manager, RequestCreated, RequestEvent, SecurityEvent,
    WorkflowEvent, WorkflowManagerAssigned,
};

use super::contractors::Step;
use super::customers::{self, Change};
use super::poison::Poison;
use super::random::Random;
use super::regions;
use super::verification::{self, CONTRACTORS, Handling, REJECTED_FOR, REJECTION_EVERY};

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldSettings {
    /// Decides the content of everything.
    pub seed: u64,
    /// New requests per second.
    pub rate: f64,
    /// Share of them that cannot be processed, 0 to 1.
    pub poison: f64,
    /// Id of the first request; the others follow one by one.
    pub first_request_id: i64,
}

impl WorldSettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// `Invalid` naming the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name: &str, found: f64, wanted: &str| {
            Err(Error::invalid(format!("{name}: found {found}, wanted {wanted}")))
        };
        if !(self.rate > 0.0 && self.rate <= RATE_MAX) {
            return refuse("rate", self.rate, "more than 0 and at most 100000 requests per second");
        }
        if !(0.0..=1.0).contains(&self.poison) {
            return refuse("poison", self.poison, "a share from 0 to 1, such as 0.01");
        }
        if self.first_request_id < 1 {
            let found = self.first_request_id;
            return Err(Error::invalid(format!(
                "first request id: found {found}, wanted 1 or more"
            )));
        }
        Ok(())
    }
}

/// More than one thread can send.
const RATE_MAX: f64 = 100_000.0;
/// The time between two changes of the directory.
const DIRECTORY_CHANGE_EVERY: Duration = Duration::from_millis(2_500);
/// For how long a manager stays away.
const AWAY: Duration = Duration::from_secs(4);

/// A record to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    /// To `request-events`.
    Request(RequestEvent),
    /// To `request-events`, spoilt.
    Poison(Poison, RequestCreated),
    /// To `workflow-events`.
    Workflow(WorkflowEvent),
    /// To `managers`; `None` deletes.
    Manager(i64, Option<Manager>),
    /// To `security-events`.
    Security(SecurityEvent),
    /// To `hr-events`, under the contractor's id.
    Hr(i64, HrEvent),
}

impl Message {
    /// Whether it counts as a request: a `request.created`, spoilt or not.
    pub(crate) fn is_request(&self) -> bool {
        matches!(self, Self::Poison(..) | Self::Request(RequestEvent::Created(_)))
    }
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Duplicate(i64),
    Change(i64, Change),
    Question(i64),
    /// A step of the job with this attempt.
    Step(i64, i32, Step),
    DirectoryChange(i64),
    ManagerReturns(i64),
    /// Of a contractor, by number.
    Verification(i64, i64),
    Rejection(i64),
    /// Of a request's document.
    Handling(i64, Handling),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    settings: WorldSettings,
    directory: Vec<Manager>,
    /// Requests made so far.
    made: i64,
    /// What is due when; the second number keeps those of one moment in order.
    due: BTreeMap<(Duration, u64), Due>,
    scheduled: u64,
    /// Jobs that contractors are busy with; one leaves with its last step or its request's end.
    jobs: HashMap<i64, WorkflowManagerAssigned>,
    /// Documents that are not done, by request and what is to be done; one leaves when it is.
    documents: HashMap<(i64, bool), HrDocumentCreated>,
    /// Verifications so far, by contractor.
    verifications: HashMap<i64, i64>,
}

impl World {
    /// A world at its beginning.
    pub(crate) fn new(settings: WorldSettings) -> Self {
        let seed = settings.seed;
        let directory = regions::directory(seed, settings.rate);
        let mut world = Self {
            settings,
            directory,
            made: 0,
            due: BTreeMap::new(),
            scheduled: 0,
            jobs: HashMap::new(),
            documents: HashMap::new(),
            verifications: HashMap::new(),
        };
        world.schedule(DIRECTORY_CHANGE_EVERY, Due::DirectoryChange(0));
        for contractor_id in 1..=CONTRACTORS {
            let after = verification::verified_after_ms(seed, contractor_id);
            world.schedule_verification(millis(after), contractor_id);
        }
        world.schedule(REJECTION_EVERY, Due::Rejection(0));
        world
    }

    /// The managers' directory, to be sent before anything else.
    pub(crate) fn directory(&self) -> Vec<Message> {
        let message =
            |manager: &Manager| Message::Manager(manager.manager_id, Some(manager.clone()));
        self.directory.iter().map(message).collect()
    }

    /// When something is due next, as time since the beginning.
    pub(crate) fn next_due(&self) -> Duration {
        let request = self.next_request();
        self.due.first_key_value().map_or(request, |((at, _), _)| request.min(*at))
    }

    /// Appends what is due at `elapsed` since the beginning, at most `max` messages; `now` is the events' timestamp.
    pub(crate) fn advance(
        &mut self,
        elapsed: Duration,
        now: Timestamp,
        max: usize,
        out: &mut Vec<Message>,
    ) {
        while out.len() < max {
            let request_at = self.next_request();
            let due_at = self.due.first_key_value().map(|((at, _), _)| *at);
            if due_at.is_some_and(|at| at <= request_at && at <= elapsed) {
                if let Some(((at, _), due)) = self.due.pop_first() {
                    out.extend(self.happen(at, due, now));
                }
            } else if request_at <= elapsed {
                out.push(self.file_request(request_at, now));
            } else {
                return;
            }
        }
    }

    /// A manager has a request: its contractors begin.
    pub(crate) fn assigned(&mut self, job: WorkflowManagerAssigned, elapsed: Duration) {
        let (id, attempt) = (job.request_id, job.attempt);
        // Told again, or overtaken by a later assignment.
        if self.jobs.get(&id).is_some_and(|known| known.attempt >= attempt) {
            return;
        }
        self.jobs.insert(id, job);
        self.schedule_step(elapsed, id, attempt, Step::Sent);
    }

    /// Whether it was filed here. What others file is theirs to play on.
    pub(crate) fn is_ours(&self, request_id: i64) -> bool {
        let first = self.settings.first_request_id;
        (first..first + self.made).contains(&request_id)
    }

    /// A document was made: it is signed or paid some time later.
    pub(crate) fn documented(&mut self, document: HrDocumentCreated, elapsed: Duration) {
        let handling = match document.document_type {
            DocumentType::CompletionAct => Handling::Signature,
            DocumentType::PaymentOrder => Handling::Payment,
            DocumentType::Unknown => return,
        };
        let key = document_key(document.request_id, handling);
        let at = elapsed + millis(handling.delay_ms(&document));
        // Told again: this one is under way.
        if self.documents.insert(key, document).is_none() {
            self.schedule(at, Due::Handling(key.0, handling));
        }
    }

    fn next_request(&self) -> Duration {
        Duration::from_secs_f64(self.made as f64 / self.settings.rate)
    }

    fn schedule(&mut self, at: Duration, due: Due) {
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), due);
    }

    fn schedule_verification(&mut self, at: Duration, contractor_id: i64) {
        let number = self.verifications.entry(contractor_id).or_default();
        *number += 1;
        let number = *number;
        self.schedule(at, Due::Verification(contractor_id, number));
    }

    fn schedule_step(&mut self, now: Duration, id: i64, attempt: i32, step: Step) {
        let delay = millis(step.delay_ms(self.settings.seed, id));
        self.schedule(now + delay, Due::Step(id, attempt, step));
    }

    fn file_request(&mut self, at: Duration, now: Timestamp) -> Message {
        let id = self.settings.first_request_id + self.made;
        let seed = self.settings.seed;
        self.made += 1;
        let plan = customers::plan(seed, id, self.settings.poison);
        if let Some(poison) = plan.poison {
            return Message::Poison(poison, poison.event(seed, id, now));
        }
        if let Some(after) = plan.duplicate_after_ms {
            self.schedule(at + millis(after), Due::Duplicate(id));
        }
        if let Some((change, after)) = plan.change {
            self.schedule(at + millis(after), Due::Change(id, change));
        }
        if let Some(after) = plan.question_after_ms {
            self.schedule(at + millis(after), Due::Question(id));
        }
        Message::Request(customers::created(seed, id, now).into())
    }

    fn happen(&mut self, at: Duration, due: Due, now: Timestamp) -> Option<Message> {
        let seed = self.settings.seed;
        match due {
            Due::Duplicate(id) => Some(Message::Request(customers::created(seed, id, now).into())),
            Due::Change(id, Change::Cancel) => {
                self.jobs.remove(&id);
                Some(Message::Request(customers::cancelled(seed, id, now).into()))
            }
            Due::Change(id, change) => {
                if change == Change::Region {
                    // Its manager gives it back; the next one's contractors begin anew.
                    self.jobs.remove(&id);
                }
                Some(Message::Request(customers::updated(seed, id, change, now).into()))
            }
            Due::Question(id) => {
                Some(Message::Request(customers::clarification(seed, id, now).into()))
            }
            Due::Verification(contractor_id, number) => {
                let (event, again) = verification::verified(seed, contractor_id, number, now);
                if let Some(after) = again {
                    self.schedule_verification(at + after, contractor_id);
                }
                Some(Message::Security(event))
            }
            Due::Rejection(number) => {
                self.schedule(at + REJECTION_EVERY, Due::Rejection(number + 1));
                let (contractor_id, event) = verification::rejected(seed, number, now);
                self.schedule_verification(at + REJECTED_FOR, contractor_id);
                Some(Message::Security(event))
            }
            Due::Handling(id, handling) => {
                let key = document_key(id, handling);
                let document = self.documents.remove(&key)?;
                let (event, next) = handling.take(seed, &document, now);
                let contractor_id = document.contractor_id;
                if let Some(next) = next {
                    self.schedule(at + millis(next.delay_ms(&document)), Due::Handling(id, next));
                    self.documents.insert(key, document);
                }
                Some(Message::Hr(contractor_id, event))
            }
            Due::Step(id, attempt, step) => {
                let job = self.jobs.get(&id).filter(|job| job.attempt == attempt)?;
                let (event, next) = step.take(seed, job, now);
                match next {
                    Some(next) => self.schedule_step(at, id, attempt, next),
                    None => drop(self.jobs.remove(&id)),
                }
                Some(Message::Workflow(event))
            }
            Due::DirectoryChange(number) => {
                self.schedule(at + DIRECTORY_CHANGE_EVERY, Due::DirectoryChange(number + 1));
                Some(self.manager_leaves(at, number))
            }
            Due::ManagerReturns(id) => {
                let index = usize::try_from(id - 1).ok()?;
                let manager = self.directory.get(index)?.clone();
                Some(Message::Manager(id, Some(manager)))
            }
        }
    }

    /// Of three leaves, one deletes the manager from the directory; all come back, sometimes with another capacity.
    fn manager_leaves(&mut self, at: Duration, number: i64) -> Message {
        let mut random = Random::of(self.settings.seed, "directory", number);
        let count = self.directory.len() as u64;
        let index = usize::try_from(random.below(count)).expect("an index of a vector fits");
        let manager = &mut self.directory[index];
        let id = manager.manager_id;
        let message = if random.below(3) == 0 {
            Message::Manager(id, None)
        } else {
            Message::Manager(id, Some(Manager { active: false, ..manager.clone() }))
        };
        if random.below(2) == 0 && manager.capacity > 4 {
            manager.capacity += i32::try_from(random.between(-1, 1)).unwrap_or(0);
        }
        self.schedule(at + AWAY, Due::ManagerReturns(id));
        message
    }
}

/// Under which a request's document is remembered.
fn document_key(request_id: i64, handling: Handling) -> (i64, bool) {
    (request_id, handling == Handling::Signature)
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::TopicEvent;

    const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn settings(seed: u64) -> WorldSettings {
        WorldSettings { seed, rate: 100.0, poison: 0.05, first_request_id: 1 }
    }

    /// What a world sends in ten seconds, advanced in steps of `step`.
    fn run(seed: u64, step: Duration) -> Vec<Message> {
        let mut world = World::new(settings(seed));
        let mut messages = world.directory();
        let mut elapsed = Duration::ZERO;
        while elapsed <= Duration::from_secs(10) {
            world.advance(elapsed, NOW, usize::MAX, &mut messages);
            elapsed += step;
        }
        messages
    }

    #[test]
    fn a_seed_gives_the_same_messages_whatever_the_pace() {
        let fine = run(7, Duration::from_millis(1));
        assert_eq!(fine, run(7, Duration::from_millis(100)));
        assert_ne!(fine, run(8, Duration::from_millis(1)));
        assert!(fine.iter().filter(|message| message.is_request()).count() >= 1_001);
    }

    #[test]
    fn good_messages_keep_the_rules_and_bad_content_breaks_them() {
        for message in run(7, Duration::from_millis(10)) {
            match message {
                Message::Request(event) => event.validate(NOW).unwrap(),
                Message::Poison(kind, event) => {
                    let event = RequestEvent::Created(event);
                    let content = [Poison::NegativeRequestId, Poison::EmptyRegion].contains(&kind);
                    assert_eq!(TopicEvent::validate(&event, NOW).is_err(), content, "{kind:?}");
                }
                Message::Security(event) => event.validate(NOW).unwrap(),
                Message::Hr(_, event) => event.validate(NOW).unwrap(),
                Message::Workflow(_) | Message::Manager(..) => {}
            }
        }
    }

    fn job(request_id: i64, attempt: i32) -> WorkflowManagerAssigned {
        use crate::events::{Envelope, Event, Priority};
        let id = uuid::Uuid::from_u128(9);
        WorkflowManagerAssigned {
            envelope: Envelope::new(id, WorkflowManagerAssigned::TYPE, NOW, "test", None),
            request_id,
            manager_id: 3,
            region: "north".to_owned(),
            priority: Priority::P1,
            sla_deadline: NOW,
            attempt,
            escalated: false,
        }
    }

    fn steps(world: &mut World) -> Vec<WorkflowEvent> {
        let mut messages = Vec::new();
        world.advance(Duration::from_secs(60), NOW, usize::MAX, &mut messages);
        let workflow = |message| match message {
            Message::Workflow(event) => Some(event),
            _ => None,
        };
        messages.into_iter().filter_map(workflow).collect()
    }

    #[test]
    fn an_assignment_told_twice_is_worked_off_once() {
        let mut world = World::new(settings(1));
        // Somebody else's request, so that no customer of ours interferes.
        for _ in 0..2 {
            world.assigned(job(1_000_001, 1), Duration::ZERO);
        }
        let events = steps(&mut world);
        assert!(matches!(events.last(), Some(WorkflowEvent::WorkCompleted(_))), "{events:?}");
        assert_eq!(events.len(), 4);
        assert!(world.jobs.is_empty());
    }

    #[test]
    fn a_later_assignment_takes_the_job_over() {
        let mut world = World::new(settings(1));
        world.assigned(job(1_000_001, 1), Duration::ZERO);
        world.assigned(job(1_000_001, 2), Duration::from_millis(1));
        world.assigned(job(1_000_001, 1), Duration::from_millis(2));
        assert_eq!(steps(&mut world).len(), 4);
    }

    fn document(request_id: i64, document_type: DocumentType) -> HrDocumentCreated {
        use crate::events::{Envelope, Event};
        let id = uuid::Uuid::from_u64_pair(request_id.cast_unsigned(), document_type as u64);
        HrDocumentCreated {
            envelope: Envelope::new(id, HrDocumentCreated::TYPE, NOW, "test", None),
            document_id: id,
            document_type,
            request_id,
            contractor_id: 9,
            customer_id: 4,
            amount: None,
            currency: None,
            content_uri: None,
        }
    }

    #[test]
    fn every_act_is_signed_once_and_every_order_is_paid_in_the_end() {
        let mut world = World::new(settings(1));
        for id in 1..=200 {
            for kind in [DocumentType::CompletionAct, DocumentType::PaymentOrder] {
                world.documented(document(id, kind), Duration::ZERO);
                world.documented(document(id, kind), Duration::ZERO);
            }
        }
        let mut messages = Vec::new();
        world.advance(Duration::from_secs(60), NOW, usize::MAX, &mut messages);
        let (mut signed, mut paid, mut refused) = (0, 0, 0);
        for message in messages {
            match message {
                Message::Hr(9, HrEvent::DocumentSigned(_)) => signed += 1,
                Message::Hr(9, HrEvent::PaymentProcessed(e)) if e.status == "paid" => paid += 1,
                Message::Hr(9, HrEvent::PaymentProcessed(_)) => refused += 1,
                _ => {}
            }
        }
        assert_eq!((signed, paid), (200, 200));
        assert!((1..40).contains(&refused), "{refused}");
        assert!(world.documents.is_empty());
    }

    #[test]
    fn contractors_are_verified_rejected_and_verified_anew() {
        let messages = run(7, Duration::from_millis(100));
        let of = |wanted: i64| {
            let security = messages.iter().filter_map(move |message| match message {
                Message::Security(event) => Some(event),
                _ => None,
            });
            security.filter(move |event| event.key() == Some(wanted.to_string()))
        };
        let all = (1..=CONTRACTORS).filter(|id| of(*id).count() > 0).count();
        assert!(all > 450, "{all} of {CONTRACTORS}");
        let rejected =
            |event: &&SecurityEvent| matches!(event, SecurityEvent::ContractorRejected(_));
        let ids: Vec<i64> = (1..=CONTRACTORS).filter(|id| of(*id).any(|e| rejected(&e))).collect();
        assert!((3..=5).contains(&ids.len()), "{ids:?}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |change: fn(&mut WorldSettings)| {
            let mut settings = settings(1);
            change(&mut settings);
            settings.validate().unwrap_err().message().to_owned()
        };
        assert!(refused(|s| s.rate = 0.0).starts_with("rate: found 0"));
        assert!(refused(|s| s.rate = f64::NAN).starts_with("rate: found NaN"));
        assert!(refused(|s| s.poison = 1.5).starts_with("poison: found 1.5"));
        assert!(refused(|s| s.first_request_id = 0).contains("found 0"));
    }
}
