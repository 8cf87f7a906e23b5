//! What the program wrote, read by a plain client, and what it should have written.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::*;
use aggregator::manager_assignment::region_state;
use bytes::Bytes;
use kstreams::Headers;
use kstreams::serdes::Serde;
use test_support::{Follower, Message};

use crate::load::{Filed, Load, MANAGERS_EACH, REGIONS, home_of, region, registered_serdes};
use crate::site::Site;

const ERROR_HEADERS: &str = "__streams.errors.";

/// Follows all outputs of the program.
pub(crate) struct Ledger {
    workflow: Follower,
    letters: Follower,
    managers: Follower,
    serde: Serde<WorkflowEvent>,
    /// Every assignment ever committed, by request.
    pub(crate) assigned: BTreeMap<i64, Vec<(Message, WorkflowManagerAssigned)>>,
    /// Committed records of `workflow-events`.
    pub(crate) read: usize,
    /// Number of assignments.
    pub(crate) assignments: usize,
    /// Events that are neither assignments nor ours.
    pub(crate) others: Vec<WorkflowEvent>,
    /// Dead letters of `request-events`.
    pub(crate) set_aside: Vec<Message>,
    /// The stored count of open requests, by region and manager: what a restored store would have.
    pub(crate) stored: BTreeMap<(String, i64), u32>,
}

impl Ledger {
    /// The program must have been started once: its own topics are read too.
    pub(crate) fn new(site: &Site) -> Self {
        Self {
            workflow: Follower::new("workflow-events"),
            letters: Follower::new(&site.topic("request-events-dlq")),
            managers: Follower::new(&site.topic("region-managers-changelog")),
            serde: registered_serdes().workflow,
            assigned: BTreeMap::new(),
            read: 0,
            assignments: 0,
            others: Vec::new(),
            set_aside: Vec::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Reads what has come; says whether each topic was read to its end once.
    pub(crate) fn look(&mut self) -> bool {
        let mut messages = Vec::new();
        let mut complete = self.workflow.look(&mut |message| messages.push(message));
        messages.into_iter().for_each(|message| self.note(message));
        complete &= self.letters.look(&mut |message| self.set_aside.push(message));
        let stored = &mut self.stored;
        complete & self.managers.look(&mut |message| note_manager(stored, &message))
    }

    fn note(&mut self, message: Message) {
        self.read += 1;
        let value = Bytes::from(message.value.clone().expect("no deletions in workflow-events"));
        let event = self.serde.deserializer();
        let event = event.deserialize("workflow-events", &Headers::default(), Some(&value));
        match event.unwrap() {
            WorkflowEvent::ManagerAssigned(event) => {
                self.assignments += 1;
                self.assigned.entry(event.request_id).or_default().push((message, event));
            }
            other if other.envelope().is_some_and(|envelope| envelope.source == "load") => {}
            other => self.others.push(other),
        }
    }

    /// Whether everything has come that should; not yet whether more has.
    pub(crate) fn is_settled(&self, load: &Load) -> bool {
        self.assignments >= load.filed.len()
            && self.set_aside.len() >= load.poison.len()
            && self.stored == self.recomputed(load)
    }

    /// How far it is, for people.
    pub(crate) fn progress(&self, load: &Load) -> String {
        let recomputed = self.recomputed(load);
        let differ = recomputed.iter().filter(|(key, open)| self.stored.get(key) != Some(open));
        format!(
            "{} of {} assignments, {} of {} dead letters, {} of {} loads to be settled",
            self.assignments,
            load.filed.len(),
            self.set_aside.len(),
            load.poison.len(),
            differ.count(),
            recomputed.len()
        )
    }

    /// The open requests of each manager, from the events alone.
    fn recomputed(&self, load: &Load) -> BTreeMap<(String, i64), u32> {
        let all = 0..MANAGERS_EACH * REGIONS as i64;
        let mut open: BTreeMap<_, _> = all.map(|id| ((region(home_of(id)), id), 0)).collect();
        for (request_id, assignments) in &self.assigned {
            for (_, event) in assignments {
                let count = open.entry((event.region.clone(), event.manager_id)).or_default();
                *count += u32::from(!load.closed[index(*request_id)]);
            }
        }
        open
    }

    /// Checks every claim.
    pub(crate) fn check(&self, load: &Load) {
        let doubled: Vec<i64> =
            self.assigned.iter().filter(|(_, a)| a.len() > 1).map(|(id, _)| *id).collect();
        assert!(doubled.is_empty(), "{} requests assigned twice: {doubled:?}", doubled.len());
        let missing: Vec<usize> = (1..=load.filed.len())
            .filter(|id| !self.assigned.contains_key(&(*id as i64)))
            .collect();
        assert!(missing.is_empty(), "{} requests not assigned: {missing:?}", missing.len());
        assert_eq!(self.assigned.len(), load.filed.len(), "a request that nobody filed");
        assert!(self.others.is_empty(), "{:?}", self.others);
        let mut ids = BTreeSet::new();
        for (request_id, assignments) in &self.assigned {
            let (message, event) = &assignments[0];
            check_assignment(*request_id, message, event, &load.filed[index(*request_id)]);
            assert!(ids.insert(event.envelope.event_id), "event id {event:?} comes twice");
        }
        assert_eq!(self.stored, self.recomputed(load), "stored loads and those of the events");
        self.check_dead_letters(load);
    }

    fn check_dead_letters(&self, load: &Load) {
        let mut letters: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        for letter in &self.set_aside {
            let mut letter = letter.clone();
            let reasons = letter.headers.iter().filter(|(name, _)| name.starts_with(ERROR_HEADERS));
            assert!(reasons.count() >= 6, "no reason in {letter:?}");
            letter.headers.retain(|(name, _)| !name.starts_with(ERROR_HEADERS));
            (letter.partition, letter.offset) = (None, 0);
            letters.entry(number(&letter)).or_default().push(letter);
        }
        for poison in &load.poison {
            let found = letters.remove(&number(poison));
            assert_eq!(found.as_deref(), Some(std::slice::from_ref(poison)), "byte for byte, once");
        }
        assert!(letters.is_empty(), "set aside for nothing: {letters:?}");
    }
}

fn index(request_id: i64) -> usize {
    usize::try_from(request_id - 1).expect("the load's ids begin at 1")
}

fn check_assignment(
    request_id: i64,
    message: &Message,
    event: &WorkflowManagerAssigned,
    filed: &Filed,
) {
    assert_eq!(event.envelope.causation_id, Some(filed.event_id), "of the first filing: {event:?}");
    assert_eq!(event.envelope.correlation_id, Some(filed.correlation_id), "{event:?}");
    assert_eq!(event.region, region(filed.region), "{event:?}");
    assert_eq!(home_of(event.manager_id), filed.region, "a manager of the region: {event:?}");
    assert_eq!((event.attempt, event.escalated), (1, false), "{event:?}");
    let (priority, minutes) = match filed.urgency {
        Urgency::Critical => (Priority::P1, 1),
        Urgency::High => (Priority::P2, 5),
        Urgency::Medium | Urgency::Unknown => (Priority::P3, 15),
        Urgency::Low => (Priority::P4, 60),
    };
    assert_eq!(event.priority, priority, "{event:?}");
    let deadline = filed.timestamp_ms + minutes * 60_000;
    assert_eq!(event.sla_deadline.as_millis(), deadline, "{event:?}");
    assert_eq!(message.key, Some(request_id.to_string().into_bytes()));
    assert_eq!(message.timestamp_ms, Some(event.envelope.timestamp.as_millis()));
}

/// Which poison it is.
fn number(message: &Message) -> String {
    let header = message.headers.iter().find(|(name, _)| name == "poison");
    let value = header.and_then(|(_, value)| value.clone());
    String::from_utf8(value.unwrap_or_else(|| panic!("no poison of ours: {message:?}"))).unwrap()
}

/// Reads an entry of the managers' store; its format is described at the topology's serdes.
fn note_manager(stored: &mut BTreeMap<(String, i64), u32>, message: &Message) {
    let key = message.key.as_deref().unwrap();
    let (length, rest) = key.split_first_chunk::<4>().unwrap();
    let (name, id) = rest.split_at(u32::from_be_bytes(*length) as usize);
    let id = i64::from_be_bytes(id.try_into().unwrap()) ^ i64::MIN;
    let key = (String::from_utf8(name.to_vec()).unwrap(), id);
    let Some(value) = message.value.as_deref() else {
        stored.remove(&key);
        return;
    };
    assert_eq!(value[0], 1, "another format than this test knows");
    let manager: region_state::Manager = postcard::from_bytes(&value[1..]).unwrap();
    stored.insert(key, manager.open);
}
