//! One run: a world of a seed, its director, and what must be true afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use kstreams::{Headers, ProcessingGuarantee, TopicPartition};

use crate::broker::{Entry, Limits, State as EntryState};
use crate::disk::Content;
use crate::faults::Faults;
use crate::fibers::pause;
use crate::history::History;
use crate::host::{MAX_POLL, SESSION, Setup, operate};
use crate::topologies::{INPUT_TIME, Kind};
use crate::world::{Event, World};

/// Virtual time after the last fault within which everything must be done.
const QUIET_MAX: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
/// A client that has run for so long has all of its tasks.
const SETTLED: Duration = Duration::from_secs(1);
/// Virtual time that no run needs.
const END: Duration = Duration::from_secs(600);

/// The key of a windowed store's row about itself, and what lies before values.
const WINDOWED_MARKER: &[u8] = &[2];
const TIMESTAMP_BYTES: usize = 8;

/// Results by key, in their order.
type Outputs = BTreeMap<String, Vec<String>>;

/// What a run has shown.
pub struct Outcome {
    /// The first rule that was broken; `None`: all held.
    pub violation: Option<String>,
    /// Of everything that happened, in order.
    pub hash: u64,
    /// What happened, where it was recorded.
    pub history: Vec<String>,
    /// Results that were told.
    pub records: usize,
    /// Virtual time that it took.
    pub took: Duration,
    /// Processes that were started.
    pub lives: usize,
}

/// Everything that a seed decides.
struct Plan {
    setup: Setup,
    hosts: usize,
    faults: Faults,
    world_seed: u64,
}

fn plan(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let kind = Kind::ALL[rng.usize(0..Kind::ALL.len())];
    let guarantee = if rng.u32(0..5) == 0 {
        ProcessingGuarantee::AtLeastOnce
    } else {
        ProcessingGuarantee::ExactlyOnceV2
    };
    let setup = Setup {
        kind,
        guarantee,
        threads: rng.usize(1..=2),
        commit_interval: Duration::from_millis([0, 30, 100, 100, 400][rng.usize(0..5)]),
        standbys: rng.usize(0..=1),
    };
    let hosts = rng.usize(1..=3);
    let until = INPUT_TIME + Duration::from_millis(rng.u64(0..8_000));
    let faults = Faults::of_seed(&mut rng, hosts, until);
    Plan { setup, hosts, faults, world_seed: rng.u64(..) }
}

/// Runs a seed and checks it; `record` keeps its history.
pub fn run(seed: u64, record: bool) -> Outcome {
    let plan = plan(seed);
    let undisturbed = Plan { hosts: 1, faults: Faults::none(), setup: plan.setup.clone(), ..plan };
    let (calm, expected) = play(seed, &undisturbed, false);
    if let Some(violation) = calm.violation {
        let violation = Some(format!("the undisturbed run: {violation}"));
        return Outcome { violation, ..calm };
    }
    let (mut outcome, outputs) = play(seed, &plan, record);
    if outcome.violation.is_none() {
        outcome.violation = difference(&plan.setup, &expected, &outputs);
    }
    if record {
        let first = format!("seed {seed}: {:?} {:?}", plan.setup, plan.faults);
        outcome.history.insert(0, first);
    }
    outcome
}

fn play(seed: u64, plan: &Plan, record: bool) -> (Outcome, Outputs) {
    let Plan { setup, hosts, faults, world_seed } = plan;
    let limits = Limits { session: SESSION, rebalance: MAX_POLL };
    // One more host, empty until all is over: what it restores is what changelogs say.
    let world = World::new(*world_seed, faults.clone(), hosts + 1, limits);
    let root = tempfile::tempdir().expect("temporary folders can be made");
    prepare(&world, seed, setup, record);
    for host in 0..=*hosts {
        world.lock().hosts[host].is_wanted = host < *hosts;
        let folder = root.path().join(format!("host{host}"));
        let (inner, setup) = (world.clone(), setup.clone());
        world.spawn(&format!("host {host}"), move || operate(&inner, host, &setup, &folder));
    }
    let inner = world.clone();
    world.spawn("director", move || direct(&inner));
    world.run(END);
    let outputs = outputs(&world);
    let mut state = world.lock();
    let outcome = Outcome {
        violation: state.violation.take(),
        hash: state.history.hash(),
        history: state.history.take_lines(),
        records: outputs.values().map(Vec::len).sum(),
        took: state.now,
        lives: state.lives.len(),
    };
    (outcome, outputs)
}

fn prepare(world: &Arc<World>, seed: u64, setup: &Setup, record: bool) {
    let mut state = world.lock();
    if record {
        state.history = History::recorded();
    }
    state.is_copartitioned = setup.kind.is_copartitioned();
    state.is_exactly_once = setup.guarantee == ProcessingGuarantee::ExactlyOnceV2;
    for (name, partitions) in setup.kind.topics() {
        state.broker.create_topic(name, *partitions, BTreeMap::new());
    }
    for input in setup.kind.inputs(&mut Rng::with_seed(seed)) {
        let entry = Entry {
            state: EntryState::Committed,
            timestamp: input.timestamp,
            key: Some(Bytes::from(input.key)),
            value: Some(Bytes::from(input.value)),
            headers: Headers::default(),
        };
        let partition = TopicPartition::new(input.topic, input.partition);
        state.later(input.at, Event::Input(partition, entry));
    }
}

/// Waits for the end of the trouble and of the work, and then has every host restore what it has, alone.
fn direct(world: &Arc<World>) {
    let until = world.lock().faults.until.max(INPUT_TIME);
    while world.lock().now < until {
        pause(LOOK);
    }
    {
        let mut state = world.lock();
        let now = state.now;
        state.note(|| "no more faults".to_owned());
        state.lives.iter_mut().for_each(|life| life.frozen_until = life.frozen_until.min(now));
        for host in &mut state.hosts {
            host.disconnected_until = host.disconnected_until.min(now);
        }
    }
    let deadline = until + QUIET_MAX;
    if !wait_until(world, deadline, "all records are processed", is_done) {
        return;
    }
    let count = world.lock().hosts.len();
    for host in 0..count {
        world.lock().hosts[host].is_wanted = false;
    }
    let ended = |world: &World| world.lock().hosts.iter().all(|host| host.life.is_none());
    if !wait_until(world, deadline, "all clients have ended", ended) {
        return;
    }
    let mut restored: Vec<BTreeMap<(String, String), Content>> = Vec::new();
    for host in 0..count {
        world.lock().hosts[host].is_wanted = true;
        let runs = |world: &World| {
            let state = world.lock();
            // Not every thread has its tasks at once.
            let since = state.hosts[host].running_since;
            since.is_some_and(|since| state.now > since + SETTLED)
                && state.broker.group.is_settled()
        };
        if !wait_until(world, deadline * 2, "a host has restored its stores", runs) {
            return;
        }
        world.lock().hosts[host].is_wanted = false;
        if !wait_until(world, deadline * 2, "a client has ended", ended) {
            return;
        }
        restored.push(world.lock().hosts[host].disk.stores());
    }
    let mut state = world.lock();
    // At least once, a process that has not noticed its end may still write to changelogs.
    if state.is_exactly_once
        && let Some((fresh, others)) = restored.split_last()
    {
        for (host, stores) in others.iter().enumerate() {
            if let Some(text) = store_difference(stores, fresh) {
                state.violate(format!("host {host}: {text}"));
            }
        }
    }
    state.is_over = true;
}

/// What a store holds. A windowed store's row about itself has the time of its last write before its value, which no changelog knows.
fn rows(content: &Content) -> BTreeMap<&[u8], &[u8]> {
    let strip = |key: &[u8]| if key == WINDOWED_MARKER { TIMESTAMP_BYTES } else { 0 };
    let entries = content.entries.iter();
    entries.map(|(key, value)| (&key[..], &value[strip(key).min(value.len())..])).collect()
}

fn store_difference(
    found: &BTreeMap<(String, String), Content>,
    fresh: &BTreeMap<(String, String), Content>,
) -> Option<String> {
    for ((task, store), wanted) in fresh {
        let empty = Content::default();
        let content = found.get(&(task.clone(), store.clone())).unwrap_or(&empty);
        if rows(content) != rows(wanted) {
            let (left, right) = (rows(content), rows(wanted));
            let differs = |key: &&Bytes| left.get(&key[..]) != right.get(&key[..]);
            let keys = wanted.entries.keys().chain(content.entries.keys()).find(differs);
            return Some(format!(
                "store {store} of task {task} at {:?} is not what its changelog says at {:?}: key {keys:?} has {:?}, wanted {:?}",
                content.position,
                wanted.position,
                keys.map(|key| content.entries.get(key)),
                keys.map(|key| wanted.entries.get(key)),
            ));
        }
    }
    None
}

fn wait_until(
    world: &World,
    deadline: Duration,
    what: &str,
    holds: impl Fn(&World) -> bool,
) -> bool {
    while !holds(world) {
        let mut state = world.lock();
        if state.now > deadline {
            state.violate(format!("waited until {deadline:?} until {what}"));
            return false;
        }
        drop(state);
        pause(LOOK);
    }
    true
}

/// Whether every input and repartition topic is read to its end, and nothing is open.
fn is_done(world: &World) -> bool {
    let mut state = world.lock();
    let broker = &mut state.broker;
    broker.partitions().iter().all(|partition| {
        let is_read = ["in", "fewer", "table"].contains(&&*partition.topic)
            || partition.topic.ends_with("-repartition");
        let committed = broker.group.offsets.get(partition).map_or(0, |found| found.offset);
        let Some(log) = broker.log(partition) else { return true };
        let unread = || log.committed(committed, log.end()).next().is_some();
        log.is_settled() && !(is_read && unread())
    })
}

fn outputs(world: &World) -> Outputs {
    let mut state = world.lock();
    let mut outputs = Outputs::new();
    let text = |bytes: Option<Bytes>| {
        bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    for partition in state.broker.partitions() {
        if &*partition.topic != "out" {
            continue;
        }
        let Some(log) = state.broker.log(&partition) else { continue };
        for record in log.committed(0, log.end()) {
            outputs.entry(text(record.key)).or_default().push(text(record.value));
        }
    }
    outputs
}

fn number(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// How results differ from those of the undisturbed run, where they must not.
fn difference(setup: &Setup, expected: &Outputs, found: &Outputs) -> Option<String> {
    if expected.is_empty() {
        return Some("the undisturbed run has told nothing".to_owned());
    }
    let none = Vec::new();
    let is_exactly_once = setup.guarantee == ProcessingGuarantee::ExactlyOnceV2;
    let all_keys = expected.keys().chain(found.keys());
    for key in all_keys {
        let wanted = expected.get(key).unwrap_or(&none);
        let told = found.get(key).unwrap_or(&none);
        let holds = match (is_exactly_once, setup.kind.is_determined()) {
            (true, true) => told == wanted,
            (true, false) => {
                told.last() == wanted.last()
                    && told.windows(2).all(|pair| number(&pair[0]) < number(&pair[1]))
            }
            (false, _) => covers(setup.kind, told, wanted),
        };
        if !holds {
            return Some(format!("key \"{key}\": found {told:?}, wanted {wanted:?}"));
        }
    }
    None
}

/// At least once: what was wanted is there, and more may be; counts may be too high.
fn covers(kind: Kind, told: &[String], wanted: &[String]) -> bool {
    match kind {
        Kind::Join => wanted.iter().all(|value| told.contains(value)),
        Kind::Merge if wanted.iter().any(|value| value.contains(':')) => {
            wanted.iter().all(|value| told.contains(value))
        }
        _ => {
            let most = |values: &[String]| values.iter().map(|value| number(value)).max();
            most(told) >= most(wanted)
        }
    }
}
