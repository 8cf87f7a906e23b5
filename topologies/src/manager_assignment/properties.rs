//! Random events against the plain model, and invariants under any interleaving of the three parties.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;

use super::by_region::RegionRules;
use super::by_request::{RequestEntry, RequestRules};
use super::directory::{DirectoryEntry, directory_changes};
use super::model::{Event, Model, Published};
use super::region_state::{Queue, Tier};
use super::rules::{ManagerId, Priority, RegionOutput, RequestInput, ToRegion};
use super::sample::{MemoryState, submission};
use super::settings::Settings;

pub(super) const CASES: u32 = 1_000;
pub(super) const START_MS: i64 = 1_000_000;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Created { id: i64, region: u8, priority: Priority },
    Updated { id: i64, revision: i32, region: u8, priority: Priority },
    Closed { id: i64 },
    Manager { id: i64, region: u8, capacity: u32, active: bool },
    Gone { id: i64 },
    Repeat(Index),
    Advance { ms: i64 },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = || prop::sample::select(Priority::ALL.to_vec());
    let step = prop_oneof![
        8 => (1..16i64, 0..3u8, priority())
            .prop_map(|(id, region, priority)| Step::Created { id, region, priority }),
        4 => (1..16i64, 2..6i32, 0..3u8, priority()).prop_map(|(id, revision, region, priority)| {
            Step::Updated { id, revision, region, priority }
        }),
        3 => (1..16i64).prop_map(|id| Step::Closed { id }),
        4 => (1..6i64, 0..3u8, 0..4u32, prop::bool::weighted(0.8)).prop_map(
            |(id, region, capacity, active)| Step::Manager { id, region, capacity, active }
        ),
        1 => (1..6i64).prop_map(|id| Step::Gone { id }),
        3 => any::<Index>().prop_map(Step::Repeat),
        4 => prop_oneof![0..5_000i64, 0..3_000_000i64].prop_map(|ms| Step::Advance { ms }),
    ];
    prop::collection::vec(step, 1..80)
}

pub(super) fn settings() -> impl Strategy<Value = Settings> {
    let fallback = [("r0", "r1"), ("r1", "r2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    prop::sample::select(vec![0, 2_000]).prop_map(move |handover_after_ms| Settings {
        handover_after_ms,
        fallback_regions: fallback.clone().into(),
        ..Settings::default()
    })
}

/// Events with their times; a repetition is the same event later. Each advance ends with a punctuation.
pub(super) fn events(steps: &[Step]) -> Vec<(i64, Event)> {
    let mut now_ms = START_MS;
    let mut events: Vec<(i64, Event)> = Vec::new();
    for step in steps {
        now_ms += 1;
        let submission = |id, revision, region: u8, priority| {
            let mut submission = submission(id, revision, &format!("r{region}"), priority);
            submission.timestamp_ms = now_ms;
            submission
        };
        let event = match step {
            Step::Created { id, region, priority } => {
                Event::Created(submission(*id, 1, *region, *priority))
            }
            Step::Updated { id, revision, region, priority } => {
                Event::Updated(submission(*id, *revision, *region, *priority))
            }
            Step::Closed { id } => Event::Closed(*id),
            Step::Manager { id, region, capacity, active } => {
                let region = format!("r{region}");
                let entry = DirectoryEntry { region, capacity: *capacity, active: *active };
                Event::Manager(*id, Some(entry))
            }
            Step::Gone { id } => Event::Manager(*id, None),
            Step::Repeat(_) if events.is_empty() => continue,
            Step::Repeat(index) => index.get(&events).1.clone(),
            Step::Advance { ms } => {
                now_ms += ms;
                Event::Punctuated
            }
        };
        events.push((now_ms, event));
    }
    events
}

/// Which messages keep their order.
#[derive(PartialEq)]
enum Order {
    /// All of them: one channel.
    Total,
    /// Those of one channel, as on Kafka.
    PerChannel,
}

/// The three parties with first-in-first-out channels between them.
struct Network {
    settings: Settings,
    order: Order,
    state: MemoryState,
    directory: BTreeMap<ManagerId, DirectoryEntry>,
    now_ms: i64,
    /// One channel for each pair of sender and receiver, by name.
    channels: BTreeMap<String, VecDeque<Message>>,
    published: Vec<Published>,
}

/// What is on its way, by addressee.
#[allow(clippy::large_enum_variant)] // a few hundred of them live at a time
enum Message {
    Request(RequestInput),
    Directory(ManagerId, Option<DirectoryEntry>),
    Region(ToRegion),
}

impl Network {
    fn new(settings: Settings, order: Order) -> Self {
        Self {
            settings,
            order,
            state: MemoryState::default(),
            directory: BTreeMap::new(),
            now_ms: START_MS,
            channels: BTreeMap::new(),
            published: Vec::new(),
        }
    }

    fn send(&mut self, channel: String, message: Message) {
        let channel = if self.order == Order::Total { String::new() } else { channel };
        self.channels.entry(channel).or_default().push_back(message);
    }

    /// Puts an event on the channel of its source partition; punctuations happen at once.
    fn accept(&mut self, event: Event) {
        match event {
            Event::Created(s) => {
                let channel = format!("events {}", s.region);
                self.send(channel, Message::Request(RequestInput::Created(s)));
            }
            Event::Updated(s) => {
                let channel = format!("events {}", s.region);
                self.send(channel, Message::Request(RequestInput::Updated(s)));
            }
            Event::Closed(id) => {
                self.send("workflow".to_owned(), Message::Request(RequestInput::Closed(id)));
            }
            Event::Manager(id, entry) => {
                self.send(format!("managers {id}"), Message::Directory(id, entry));
            }
            Event::Punctuated => {
                let out = self.regions(|rules| _ = rules.punctuate().unwrap());
                self.sort_out(out);
            }
        }
    }

    /// Delivers the oldest message of the `choice`-th channel that has one; false if none has.
    fn deliver(&mut self, choice: usize) -> bool {
        self.channels.retain(|_, messages| !messages.is_empty());
        let count = self.channels.len().max(1);
        let message = self.channels.values_mut().nth(choice % count).and_then(VecDeque::pop_front);
        match message {
            None => return false,
            Some(Message::Request(input)) => {
                let mut out = Vec::new();
                RequestRules::new(&self.settings, &mut self.state, &mut out, self.now_ms)
                    .apply(input)
                    .unwrap();
                for to_region in out {
                    let channel = format!("request to {}", to_region.region);
                    self.send(channel, Message::Region(to_region));
                }
            }
            Some(Message::Directory(id, new)) => {
                let changes = directory_changes(id, self.directory.get(&id), new.as_ref());
                self.directory.remove(&id);
                self.directory.extend(new.map(|new| (id, new)));
                for to_region in changes {
                    let channel = format!("directory to {}", to_region.region);
                    self.send(channel, Message::Region(to_region));
                }
            }
            Some(Message::Region(ToRegion { region, input })) => {
                let out = self.regions(|rules| rules.apply(&region, input).unwrap());
                self.check_limits(&out);
                self.sort_out(out);
            }
        }
        true
    }

    /// Delivers everything in the order of sending.
    fn drain(&mut self) {
        while self.deliver(0) {}
    }

    fn regions(&mut self, f: impl FnOnce(&mut RegionRules<'_, MemoryState>)) -> Vec<RegionOutput> {
        let mut out = Vec::new();
        f(&mut RegionRules::new(&self.settings, &mut self.state, &mut out, self.now_ms));
        out
    }

    fn sort_out(&mut self, out: Vec<RegionOutput>) {
        for output in out {
            match output {
                RegionOutput::Returned(returned) => {
                    let channel = format!("region to request {}", returned.request_id);
                    self.send(channel, Message::Request(RequestInput::Returned(returned)));
                }
                RegionOutput::Assigned(a) => self.published.push(Published::Assigned {
                    request_id: a.request_id,
                    manager_id: a.manager_id,
                    region: a.region,
                    attempt: a.attempt,
                    escalated: a.escalated,
                    sla_deadline_ms: a.sla_deadline_ms,
                }),
                RegionOutput::Escalated(e) => self.published.push(Published::Escalated {
                    request_id: e.request_id,
                    was_assigned: e.was_assigned,
                }),
            }
        }
    }

    /// No assignment exceeds capacity, and an escalated one not the overload limit.
    fn check_limits(&self, out: &[RegionOutput]) {
        let assigned = || {
            out.iter().filter_map(|output| match output {
                RegionOutput::Assigned(assignment) => Some(assignment),
                _ => None,
            })
        };
        for a in assigned() {
            let manager = self.state.managers[&(a.region.clone(), a.manager_id)];
            let mut of_manager = assigned().filter(|other| other.manager_id == a.manager_id);
            let limit = if of_manager.any(|other| other.escalated) {
                self.settings.overload_limit(manager.capacity)
            } else {
                manager.capacity
            };
            assert!(manager.active && manager.open <= limit, "{a:?} {manager:?}");
        }
    }

    /// What is stored agrees with itself: counts, indices, and one holder for each open request.
    fn check_state(&self) {
        let state = &self.state;
        for ((region, id), manager) in &state.managers {
            let held = state.held.values();
            let counted = held.filter(|h| h.region == *region && h.manager_id == Some(*id)).count();
            assert_eq!(manager.open as usize, counted, "{region} {id}");
            assert!(manager.present || manager.open > 0, "{region} {id} is never forgotten");
        }
        let ranked: BTreeSet<_> = state
            .managers
            .iter()
            .filter_map(|((region, id), m)| Some((region.clone(), m.rank?, *id)))
            .collect();
        assert_eq!(state.candidates, ranked);
        for (region, summary) in &state.regions {
            let here = state.places.iter().filter(|(r, _)| r == region).count();
            assert_eq!(summary.waiting as usize, here, "{region}");
            let active = state.managers.iter().filter(|((r, _), m)| r == region && m.active);
            assert_eq!(summary.active_managers as usize, active.count(), "{region}");
        }
        let waiting = state.held.values().filter(|held| held.manager_id.is_none()).count();
        assert_eq!(state.places.len(), waiting);
        for (region, place) in &state.places {
            let held = &state.held[&place.request_id];
            assert_eq!((&held.region, held.manager_id), (region, None));
            assert_eq!(held.ticket.escalated, place.queue == Queue::Escalated);
            let free = |c: &(String, _, _)| c.0 == *region;
            let idle = state
                .candidates
                .iter()
                .filter(|c| free(c))
                .any(|(_, rank, _)| rank.tier == Tier::Free || held.ticket.escalated);
            assert!(!idle, "{place:?} waits in {region} although a manager may take it");
        }
    }

    /// Nothing was published twice: attempts count 1, 2, 3 …, escalation comes once.
    fn check_published(&self) {
        let mut attempts: BTreeMap<i64, u32> = BTreeMap::new();
        let mut escalated = BTreeSet::new();
        for event in &self.published {
            match event {
                Published::Assigned { request_id, attempt, .. } => {
                    let last = attempts.entry(*request_id).or_default();
                    assert_eq!(*attempt, *last + 1, "attempt of {request_id}");
                    *last = *attempt;
                }
                Published::Escalated { request_id, .. } => {
                    assert!(escalated.insert(*request_id), "{request_id} escalated twice");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    /// One event after the other: every publication, in order, and all loads as the plain model has them.
    #[test]
    fn rules_equal_the_plain_model(steps in steps(), settings in settings()) {
        let mut network = Network::new(settings.clone(), Order::Total);
        let mut model = Model::new(settings);
        for (now_ms, event) in events(&steps) {
            (network.now_ms, model.now_ms) = (now_ms, now_ms);
            model.apply(&event);
            network.accept(event);
            network.drain();
            network.check_state();
            prop_assert_eq!(&network.published, &model.published);
        }
        let open: Vec<_> = model.cards.iter().filter(|(_, card)| !card.closed).collect();
        prop_assert_eq!(open.len(), network.state.held.len());
        for (id, card) in open {
            let held = &network.state.held[id];
            prop_assert_eq!((&held.region, held.manager_id), (&card.region, card.manager_id));
            prop_assert_eq!(held.ticket.attempts, card.attempts);
        }
        for ((region, id), manager) in &network.state.managers {
            prop_assert_eq!(manager.open, model.open_count(region, *id));
        }
        network.check_published();
    }

    /// Every event twice in a row publishes what once does.
    #[test]
    fn duplicates_publish_nothing(steps in steps(), settings in settings()) {
        let mut once = Network::new(settings.clone(), Order::Total);
        let mut twice = Network::new(settings, Order::Total);
        for (now_ms, event) in events(&steps) {
            (once.now_ms, twice.now_ms) = (now_ms, now_ms);
            once.accept(event.clone());
            once.drain();
            twice.accept(event.clone());
            twice.drain();
            twice.accept(event);
            twice.drain();
            prop_assert_eq!(&once.published, &twice.published);
        }
    }

    /// Any interleaving between sources, parties and punctuations comes to the same requests, each in one place.
    #[test]
    fn any_interleaving_converges(
        steps in steps(),
        settings in settings(),
        choices in prop::collection::vec(any::<Index>(), 600),
    ) {
        let mut choices = choices.iter().cycle().map(|index| index.index(1 << 16));
        let events = events(&steps);
        let mut network = Network::new(settings, Order::PerChannel);
        for (now_ms, event) in &events {
            network.now_ms = *now_ms;
            network.accept(event.clone());
            for _ in 0..choices.next().unwrap() % 4 {
                network.deliver(choices.next().unwrap());
                network.check_state();
            }
        }
        for _ in 0..12 {
            while network.deliver(choices.next().unwrap()) {}
            network.check_state();
            network.now_ms += 61_000;
            network.accept(Event::Punctuated);
        }
        while network.deliver(choices.next().unwrap()) {}
        network.check_state();
        network.check_published();
        check_convergence(&network, &events);
    }
}

/// The final requests are those of the events, whatever their order: closed by any closing, else the
/// highest revision, filed when created; held by one region, which is home unless that has no manager.
fn check_convergence(network: &Network, events: &[(i64, Event)]) {
    let mut closed = BTreeSet::new();
    let mut seen = BTreeMap::new();
    for (_, event) in events {
        match event {
            Event::Closed(id) => {
                closed.insert(*id);
            }
            Event::Created(s) | Event::Updated(s) => {
                let newest: &mut i32 = seen.entry(s.request_id).or_default();
                *newest = s.revision.max(*newest);
            }
            _ => {}
        }
    }
    let open: BTreeSet<_> = seen.keys().filter(|id| !closed.contains(id)).copied().collect();
    let held: BTreeSet<_> = network.state.held.keys().copied().collect();
    assert_eq!(held, open, "exactly the open requests are held");
    for (id, entry) in &network.state.entries {
        assert_eq!(matches!(entry, RequestEntry::Closed { .. }), closed.contains(id), "{id}");
    }
    for (id, held) in &network.state.held {
        let newest = seen[id];
        let candidates: Vec<_> = events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Created(s) | Event::Updated(s) => Some(s),
                _ => None,
            })
            .filter(|s| s.request_id == *id)
            .collect();
        let of_newest = || candidates.iter().filter(|s| s.revision == newest);
        assert!(of_newest().any(|s| s.priority == held.ticket.terms.priority), "{id} priority");
        let may_be_in = |home: &str| {
            (0..3).any(|hops| network.settings.region_after(home, hops) == held.region)
        };
        assert!(of_newest().any(|s| may_be_in(&s.region)), "{id} is in {}", held.region);
        let created: Vec<_> =
            candidates.iter().filter(|s| s.revision == 1).map(|s| s.timestamp_ms).collect();
        let opened_at_ms = held.ticket.terms.opened_at_ms;
        assert!(created.is_empty() || created.contains(&opened_at_ms), "{id} filed {opened_at_ms}");
    }
}
