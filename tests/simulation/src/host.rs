//! Whoever runs the application on a host: starts it, stops it in order, and starts it again when it has died.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kstreams::dlq::ErrorHandlers;
use kstreams::{
    Components, KafkaStreams, ProcessingGuarantee, State, StreamsConfig, TaskState,
    Threads as EngineThreads,
};

use crate::disk::DiskEngines;
use crate::fibers::pause;
use crate::ports::{Port, SimulatedClients};
use crate::topologies::Kind;
use crate::world::{Threads, World, WorldClock};

pub(crate) const APPLICATION: &str = "app";
pub(crate) const SESSION: Duration = Duration::from_secs(2);
pub(crate) const MAX_POLL: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_millis(20);
const RESTART: Duration = Duration::from_millis(300);
const CLOSE_WITHIN: Duration = Duration::from_secs(60);
/// A client that is unwell this long after the last fault has a fault of its own.
const GRACE: Duration = Duration::from_secs(15);

/// What is run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) guarantee: ProcessingGuarantee,
    pub(crate) threads: usize,
    pub(crate) commit_interval: Duration,
    pub(crate) standbys: usize,
}

impl Setup {
    fn config(&self, folder: &Path) -> StreamsConfig {
        StreamsConfig {
            state_dir: folder.to_owned(),
            num_stream_threads: self.threads,
            num_standby_replicas: self.standbys,
            processing_guarantee: self.guarantee,
            commit_interval: self.commit_interval,
            record_cache_bytes_max: self.kind.record_cache_bytes(),
            session_timeout: SESSION,
            heartbeat_interval: SESSION / 4,
            max_poll_interval: MAX_POLL,
            transaction_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(3),
            task_timeout: Duration::from_secs(60),
            repartition_purge_interval: Duration::from_secs(2),
            ..StreamsConfig::new(APPLICATION, "simulated:9092")
        }
    }
}

/// Runs the application on a host for as long as it is wanted there.
pub(crate) fn operate(world: &Arc<World>, host: usize, setup: &Setup, folder: &Path) {
    // Transactional ids are made of it; a real one is random.
    let process = folder.join(APPLICATION);
    std::fs::create_dir_all(&process).expect("a temporary folder can be written");
    std::fs::write(process.join("process"), format!("host{host}"))
        .expect("a temporary folder can be written");
    loop {
        let wait = {
            let state = world.lock();
            if state.is_over {
                return;
            }
            let host = &state.hosts[host];
            if host.is_wanted { host.down_until.saturating_sub(state.now) } else { LOOK }
        };
        if !wait.is_zero() {
            pause(wait);
            continue;
        }
        let life = world.lock().begin_life(host);
        live(world, host, life, setup, folder);
        let mut state = world.lock();
        state.lives[life].is_dead = true;
        if state.hosts[host].life == Some(life) {
            state.hosts[host].life = None;
        }
        state.hosts[host].running_since = None;
        drop(state);
        while world.lock().lives[life].fibers > 0 {
            pause(LOOK);
        }
        let down = world.lock().hosts[host].is_wanted;
        pause(if down { RESTART } else { LOOK });
    }
}

/// One life of the application: from its start to its end, in order or not.
fn live(world: &Arc<World>, host: usize, life: usize, setup: &Setup, folder: &Path) {
    let port = Port { world: world.clone(), life };
    let scheduler = Threads { world: world.clone(), life };
    let components = Components {
        clients: Arc::new(SimulatedClients(port.clone())),
        engines: Arc::new(DiskEngines { port, host }),
        clock: Arc::new(WorldClock(world.clone())),
        handlers: ErrorHandlers::default(),
        threads: EngineThreads::scheduled(Arc::new(scheduler)),
        tracing: None,
    };
    let topology = setup.kind.build().expect("the simulated topologies are valid");
    let started = KafkaStreams::with_components(topology, setup.config(folder), components);
    let mut streams = match started.and_then(|mut streams| streams.start().map(|()| streams)) {
        Ok(streams) => streams,
        Err(error) => {
            world.lock().note(|| format!("host {host} cannot start: {error:?}"));
            return;
        }
    };
    let handle = streams.handle();
    loop {
        pause(LOOK);
        let (is_dead, is_stopped) = {
            let mut state = world.lock();
            let tasks = handle.tasks();
            let is_running = handle.state() == State::Running
                && !tasks.is_empty()
                && tasks.iter().all(|task| task.state == TaskState::Running);
            let now = state.now;
            let place = &mut state.hosts[host];
            place.running_since = is_running.then(|| place.running_since.unwrap_or(now));
            let is_stopped = place.is_stopping || !place.is_wanted;
            (state.lives[life].is_dead, is_stopped)
        };
        let has_ended = matches!(handle.state(), State::Error | State::NotRunning);
        if !is_dead && !is_stopped && !has_ended {
            continue;
        }
        let closed = streams.close(CLOSE_WITHIN);
        if let Err(error) = closed {
            let mut state = world.lock();
            state.note(|| format!("host {host} ends: {error:?}"));
            if !state.lives[life].is_dead && state.now > state.faults.until + GRACE {
                state.violate(format!("a client failed without a fault: {error:?}"));
            }
        }
        return;
    }
}
