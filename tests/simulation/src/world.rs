//! One simulated world: its time, its brokers, its hosts, and whose turn it is. Everything random comes from one generator, in the order
//! in which fibers run, which the same generator decides: a seed is a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use kstreams::{Clock, Error, ErrorKind, Scheduler, Timestamp};

use crate::broker::{Broker, Entry, GroupEvent, Limits, State as EntryState};
use crate::disk::Disk;
use crate::faults::{Call, Fault, Faults, Moment};
use crate::fibers::{self, Fiber};
use crate::history::History;
use crate::ports::Client;

/// Wall-clock time at a world's beginning.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// A thread that waits for a message or a state looks at it again after this time.
const LOOK_MAX_MS: u64 = 40;
/// More turns than any run needs: one that takes them is stuck without time passing.
const TURNS_MAX: u64 = 3_000_000;
/// How often coordinator and members, and the transaction coordinator, look around.
const TICK: Duration = Duration::from_millis(150);

/// A process: from its start to its end or its death.
pub(crate) struct Life {
    pub(crate) host: usize,
    pub(crate) is_dead: bool,
    pub(crate) frozen_until: Duration,
    /// Fibers that have not ended.
    pub(crate) fibers: usize,
}

pub(crate) struct Host {
    pub(crate) disk: Disk,
    pub(crate) life: Option<usize>,
    pub(crate) disconnected_until: Duration,
    /// Whether somebody wants the application to run here.
    pub(crate) is_wanted: bool,
    /// Since when it has had tasks, and all of them have processed.
    pub(crate) running_since: Option<Duration>,
    /// Told to stop in order.
    pub(crate) is_stopping: bool,
    /// Not to be started before.
    pub(crate) down_until: Duration,
}

/// What happens at a moment.
pub(crate) enum Event {
    Group(GroupEvent),
    /// Transactions are looked at for ones open too long.
    Transactions,
    /// A decision reaches a partition, or the offsets (`None`).
    Marker(String, Option<kstreams::TopicPartition>),
    /// A record of the workload.
    Input(kstreams::TopicPartition, Entry),
    Fault(usize, Fault),
}

struct NewFiber {
    name: String,
    life: Option<usize>,
    body: Box<dyn FnOnce() + Send>,
}

struct Running {
    fiber: Fiber,
    life: Option<usize>,
    wake_at: Duration,
}

/// The state of a world; ports lock it for a moment, never over a pause.
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) broker: Broker,
    pub(crate) clients: Vec<Client>,
    pub(crate) lives: Vec<Life>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) faults: Faults,
    pub(crate) limits: Limits,
    pub(crate) history: History,
    /// The first rule that was broken.
    pub(crate) violation: Option<String>,
    /// Whether each partition of a task has the same owner in every topic.
    pub(crate) is_copartitioned: bool,
    pub(crate) is_exactly_once: bool,
    /// Nothing is started any more.
    pub(crate) is_over: bool,
    events: BTreeMap<(Duration, u64), Event>,
    last_event: u64,
    spawned: Vec<NewFiber>,
    /// Fibers in a consumer's wait, to be woken when a log changes.
    pub(crate) waiting: BTreeSet<usize>,
    woken: BTreeSet<usize>,
    pub(crate) current: usize,
}

/// A world, shared by all that live in it.
pub(crate) struct World {
    state: Mutex<State>,
}

pub(crate) fn killed() -> Error {
    Error::new(ErrorKind::Fatal, "the simulated process was killed")
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, hosts: usize, limits: Limits) -> Arc<Self> {
        let mut state = State {
            now: Duration::ZERO,
            rng: Rng::with_seed(seed),
            broker: Broker::default(),
            clients: Vec::new(),
            lives: Vec::new(),
            hosts: Vec::new(),
            faults,
            limits,
            history: History::default(),
            violation: None,
            is_copartitioned: true,
            is_exactly_once: true,
            is_over: false,
            events: BTreeMap::new(),
            last_event: 0,
            spawned: Vec::new(),
            waiting: BTreeSet::new(),
            woken: BTreeSet::new(),
            current: 0,
        };
        for _ in 0..hosts {
            state.add_host();
        }
        for (at, host, fault) in std::mem::take(&mut state.faults.timed) {
            state.later(at, Event::Fault(host, fault));
        }
        state.later(TICK, Event::Group(GroupEvent::Heartbeats));
        state.later(TICK, Event::Transactions);
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a fiber that belongs to no process.
    pub(crate) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) {
        self.lock().spawn(name, None, Box::new(body));
    }

    /// Runs until every fiber has ended, a rule is broken, or virtual time is over.
    pub(crate) fn run(&self, until: Duration) {
        let mut running: Vec<Option<Running>> = Vec::new();
        for turn in 0.. {
            let next = {
                let mut state = self.lock();
                state.take_spawned(&mut running);
                if running.iter().all(Option::is_none) || state.violation.is_some() {
                    return;
                }
                if turn > TURNS_MAX || state.now > until {
                    let (now, turns) = (state.now, turn);
                    state.violate(format!("no end after {now:?} and {turns} turns"));
                    return;
                }
                state.next_turn(&mut running)
            };
            let Some(next) = next else { continue };
            let entry = running[next].as_mut().expect("it was chosen among those that run");
            let paused = entry.fiber.resume();
            let mut state = self.lock();
            match paused {
                Some(pause) => entry.wake_at = state.now + pause,
                None => {
                    if let Some(life) = entry.life {
                        state.lives[life].fibers -= 1;
                    }
                    running[next] = None;
                }
            }
        }
    }
}

impl State {
    pub(crate) fn add_host(&mut self) {
        self.hosts.push(Host {
            disk: Disk::default(),
            life: None,
            disconnected_until: Duration::ZERO,
            is_wanted: false,
            running_since: None,
            is_stopping: false,
            down_until: Duration::ZERO,
        });
    }

    pub(crate) fn begin_life(&mut self, host: usize) -> usize {
        let life = Life { host, is_dead: false, frozen_until: Duration::ZERO, fibers: 0 };
        self.lives.push(life);
        let id = self.lives.len() - 1;
        self.hosts[host].life = Some(id);
        self.hosts[host].is_stopping = false;
        self.hosts[host].disk.begin_life();
        id
    }

    fn spawn(&mut self, name: &str, life: Option<usize>, body: Box<dyn FnOnce() + Send>) {
        if let Some(life) = life {
            self.lives[life].fibers += 1;
        }
        self.spawned.push(NewFiber { name: name.to_owned(), life, body });
    }

    fn take_spawned(&mut self, running: &mut Vec<Option<Running>>) {
        for NewFiber { name, life, body } in std::mem::take(&mut self.spawned) {
            let wake_at = self.now + Duration::from_micros(self.rng.u64(0..500));
            let id = running.len();
            self.note(|| format!("fiber {id} is {name} of process {life:?}"));
            running.push(Some(Running { fiber: Fiber::new(body), life, wake_at }));
        }
    }

    /// Carries out what is due, and chooses whose turn it is; `None`: an event came first.
    fn next_turn(&mut self, running: &mut [Option<Running>]) -> Option<usize> {
        for woken in std::mem::take(&mut self.woken) {
            let soon = self.now + Duration::from_micros(self.rng.u64(0..3_000));
            if let Some(Some(fiber)) = running.get_mut(woken) {
                fiber.wake_at = fiber.wake_at.min(soon);
            }
        }
        let ready_at = |fiber: &Running| match fiber.life {
            Some(life) => fiber.wake_at.max(self.lives[life].frozen_until),
            None => fiber.wake_at,
        };
        let fibers = running.iter().enumerate();
        let fibers =
            fibers.filter_map(|(id, fiber)| fiber.as_ref().map(|fiber| (id, ready_at(fiber))));
        let fibers: Vec<(usize, Duration)> = fibers.collect();
        let first = fibers.iter().map(|(_, at)| *at).min().unwrap_or(Duration::MAX);
        if let Some(entry) = self.events.first_entry()
            && entry.key().0 <= first.max(self.now)
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(event);
            return None;
        }
        self.now = self.now.max(first);
        let ready: Vec<usize> =
            fibers.into_iter().filter(|(_, at)| *at <= self.now).map(|(id, _)| id).collect();
        let chosen = ready[self.rng.usize(0..ready.len())];
        self.current = chosen;
        self.history.turn(self.now, chosen);
        Some(chosen)
    }

    pub(crate) fn later(&mut self, after: Duration, event: Event) {
        self.last_event += 1;
        self.events.insert((self.now + after, self.last_event), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Group(GroupEvent::Heartbeats) => {
                self.heartbeats();
                self.later(TICK, Event::Group(GroupEvent::Heartbeats));
            }
            Event::Group(GroupEvent::Join(client)) => self.join(client),
            Event::Group(GroupEvent::Assign(joined)) => self.deliver_assignment(joined),
            Event::Transactions => {
                for id in self.broker.transactions.expire(self.now) {
                    self.note(|| format!("transaction of {id} took too long"));
                    self.broker.transactions.abort(&id);
                    self.send_markers(&id);
                }
                self.later(TICK, Event::Transactions);
            }
            Event::Marker(id, partition) => self.write_marker(&id, partition.as_ref()),
            Event::Input(partition, entry) => self.append(&partition, entry),
            Event::Fault(host, fault) => {
                if let Some(life) = self.hosts[host].life {
                    self.strike(life, fault);
                }
            }
        }
    }

    /// Appends to a log and wakes its readers.
    pub(crate) fn append(&mut self, partition: &kstreams::TopicPartition, entry: Entry) {
        if let Some(log) = self.broker.log(partition) {
            let is_open = matches!(entry.state, EntryState::Open(_));
            let offset = log.append(entry);
            self.note(|| {
                format!("{partition} has offset {offset}{}", if is_open { ", open" } else { "" })
            });
            self.wake_readers();
        }
    }

    pub(crate) fn wake_readers(&mut self) {
        self.woken.extend(&self.waiting);
    }

    pub(crate) fn wake(&mut self, fiber: usize) {
        self.woken.insert(fiber);
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        self.history.note(now, text);
    }

    pub(crate) fn violate(&mut self, text: String) {
        self.note(|| format!("BROKEN: {text}"));
        self.violation.get_or_insert(text);
    }

    /// Whether faults may still happen.
    pub(crate) fn is_troubled(&self) -> bool {
        self.now < self.faults.until
    }

    /// So many times of a thousand as the faults say, while there is trouble.
    pub(crate) fn chance(&mut self, per_mille: impl Fn(&Faults) -> u32) -> bool {
        let per_mille = per_mille(&self.faults);
        per_mille > 0 && self.is_troubled() && self.rng.u32(0..1000) < per_mille
    }

    /// Lets the fault that waits for this call strike, if there is one; says how long the calling thread stands still.
    pub(crate) fn struck(&mut self, life: usize, call: Call, moment: Moment) -> Duration {
        if !self.is_troubled() || self.lives[life].is_dead {
            return Duration::ZERO;
        }
        let mut due = None;
        for (index, trigger) in self.faults.triggers.iter_mut().enumerate() {
            if trigger.call == call && trigger.moment == moment {
                trigger.countdown -= 1;
                if trigger.countdown == 0 {
                    due = Some(index);
                }
            }
        }
        let Some(index) = due else { return Duration::ZERO };
        let trigger = self.faults.triggers.swap_remove(index);
        self.note(|| format!("{:?} {:?} {:?}", trigger.fault, trigger.moment, trigger.call));
        match trigger.fault {
            Fault::Stall(time) => time,
            fault => {
                self.strike(life, fault);
                Duration::ZERO
            }
        }
    }

    fn strike(&mut self, life: usize, fault: Fault) {
        let host = self.lives[life].host;
        if self.lives[life].is_dead || !self.is_troubled() {
            return;
        }
        self.note(|| format!("{fault:?} of process {life} on host {host}"));
        match fault {
            Fault::Crash => {
                self.lives[life].is_dead = true;
                self.lives[life].frozen_until = Duration::ZERO;
                let down = Duration::from_millis(self.rng.u64(0..5_000));
                self.hosts[host].down_until = self.now + down;
                self.hosts[host].life = None;
                let rng = &mut self.rng;
                self.hosts[host].disk.crash(rng);
            }
            Fault::Freeze(time) => self.lives[life].frozen_until = self.now + time,
            Fault::Disconnect(time) => self.hosts[host].disconnected_until = self.now + time,
            Fault::Stop => {
                self.hosts[host].is_stopping = true;
                let down = Duration::from_millis(self.rng.u64(0..3_000));
                self.hosts[host].down_until = self.now + down;
            }
            // Only a thread in a call can be stalled.
            Fault::Stall(_) => {}
        }
    }

    /// Whether a process can talk to brokers now.
    pub(crate) fn is_connected(&self, life: usize) -> bool {
        let life = &self.lives[life];
        !life.is_dead
            && life.frozen_until <= self.now
            && self.hosts[life.host].disconnected_until <= self.now
    }

    /// When a process that cannot talk to brokers may be able to again.
    pub(crate) fn connected_at(&self, life: usize) -> Duration {
        let life = &self.lives[life];
        life.frozen_until.max(self.hosts[life.host].disconnected_until)
    }
}

/// The engine's threads of one process.
pub(crate) struct Threads {
    pub(crate) world: Arc<World>,
    pub(crate) life: usize,
}

impl Scheduler for Threads {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) {
        self.world.lock().spawn(name, Some(self.life), body);
    }

    fn pause(&self, timeout: Duration) {
        let look = {
            let mut state = self.world.lock();
            Duration::from_micros(state.rng.u64(100..LOOK_MAX_MS * 1000))
        };
        fibers::pause(timeout.min(look));
    }
}

/// Virtual time.
pub(crate) struct WorldClock(pub(crate) Arc<World>);

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(EPOCH_MS + millis)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().now
    }
}
