//! Metrics of a client as a whole: its state, the group, restoration, and what lies around it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Histogram, counter, histogram};

use super::board::Placed;
use crate::error::ErrorKind;
use crate::ids::TaskId;

/// What the group protocol said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupEvent {
    Assigned,
    Revoked,
    Lost,
    Fenced,
}

const EVENTS: [&str; 4] = ["assigned", "revoked", "lost", "fenced"];

/// The metrics of a client.
pub(crate) struct ClientMetrics {
    app: String,
    rebalance_duration: Histogram,
    last_rebalance: Placed,
    threads: [Placed; 2],
    by_state: Mutex<ByState>,
}

/// Gauges that come and go with states.
#[derive(Default)]
struct ByState {
    client: BTreeMap<String, Placed>,
    tasks: BTreeMap<&'static str, Placed>,
    /// A task's thread and state, and the gauge that says so.
    placement: BTreeMap<TaskId, (usize, &'static str, Placed)>,
    info: Vec<Placed>,
}

impl ClientMetrics {
    pub(crate) fn new(app: &str) -> Self {
        for event in EVENTS {
            rebalances(app, event, 0);
        }
        for reason in ["retriable", "invalid", "fatal", "other"] {
            failures(app, reason, 0);
        }
        for direction in ["in", "out"] {
            moved(app, direction, 0);
        }
        let threads = ["alive", "failed"];
        Self {
            app: app.to_owned(),
            rebalance_duration: histogram!("kstreams_rebalance_duration_seconds", "app" => app.to_owned()),
            last_rebalance: Placed::new(
                "kstreams_last_rebalance_timestamp_seconds",
                &[("app", app)],
            ),
            threads: threads
                .map(|state| Placed::new("kstreams_threads", &[("app", app), ("state", state)])),
            by_state: Mutex::default(),
        }
    }

    fn by_state(&self) -> MutexGuard<'_, ByState> {
        self.by_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells once what runs.
    pub(crate) fn set_info(&self, hash: &str, subtopologies: usize, guarantee: &str) {
        let subtopologies = subtopologies.to_string();
        let labels = [("app", self.app.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        let version = Placed::new("kstreams_build_info", &labels);
        let labels = [
            ("app", self.app.as_str()),
            ("topology_hash", hash),
            ("subtopologies", &subtopologies),
            ("guarantee", guarantee),
        ];
        let topology = Placed::new("kstreams_topology_info", &labels);
        version.set(1.0);
        topology.set(1.0);
        self.by_state().info = vec![version, topology];
    }

    /// Sets the gauge of the state the client is in to 1, and those of the others to 0.
    pub(crate) fn set_state(&self, states: impl Iterator<Item = (String, bool)>) {
        let gauges = &mut self.by_state().client;
        for (state, is_current) in states {
            let labels = [("app", self.app.as_str()), ("state", state.as_str())];
            let make = || Placed::new("kstreams_client_state", &labels);
            let gauge = match gauges.get(&state) {
                Some(gauge) => gauge,
                None => gauges.entry(state.clone()).or_insert_with(make),
            };
            gauge.set(f64::from(u8::from(is_current)));
        }
    }

    /// Sets the number of tasks in a state.
    pub(crate) fn set_tasks(&self, state: &'static str, count: usize) {
        let labels = [("app", self.app.as_str()), ("state", state)];
        let gauges = &mut self.by_state().tasks;
        let gauge = gauges.entry(state).or_insert_with(|| Placed::new("kstreams_tasks", &labels));
        gauge.set_count(count as u64);
    }

    /// Says where the tasks are; those that it does not name are gone.
    pub(crate) fn set_placement(&self, tasks: impl Iterator<Item = (TaskId, usize, &'static str)>) {
        let mut by_state = self.by_state();
        let mut before = std::mem::take(&mut by_state.placement);
        for (task, thread, state) in tasks {
            let same = before.remove(&task).filter(|(at, was, _)| (*at, *was) == (thread, state));
            let entry = same.unwrap_or_else(|| {
                let (id, number) = (task.to_string(), thread.to_string());
                let labels = [
                    ("app", self.app.as_str()),
                    ("task", &id),
                    ("thread", &number),
                    ("state", state),
                ];
                let gauge = Placed::new("kstreams_task_info", &labels);
                gauge.set(1.0);
                (thread, state, gauge)
            });
            by_state.placement.insert(task, entry);
        }
    }

    /// The number of stream threads that run.
    pub(crate) fn set_threads(&self, alive: usize) {
        self.threads[0].set_count(alive as u64);
        self.threads[1].add(0.0);
    }

    /// A failure ends the client.
    pub(crate) fn failed(&self, kind: ErrorKind) {
        let reason = match kind {
            ErrorKind::Retriable => "retriable",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Fatal => "fatal",
            ErrorKind::AbortTransaction
            | ErrorKind::TaskMigrated
            | ErrorKind::TaskCorrupted
            | ErrorKind::BadRecord => "other",
        };
        self.threads[1].set(1.0);
        failures(&self.app, reason, 1);
    }

    pub(crate) fn group_event(&self, event: GroupEvent) {
        rebalances(&self.app, EVENTS[event as usize], 1);
    }

    /// All tasks process again, so long after the first one stopped.
    pub(crate) fn rebalanced(&self, took: Duration, now_ms: i64) {
        self.rebalance_duration.record(took.as_secs_f64());
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact
        self.last_rebalance.set(now_ms as f64 / 1000.0);
    }

    pub(crate) fn tasks_moved(&self, came: usize, went: usize) {
        moved(&self.app, "in", came as u64);
        moved(&self.app, "out", went as u64);
    }
}

fn rebalances(app: &str, event: &'static str, count: u64) {
    let labels = [("app", app.to_owned()), ("event", event.to_owned())];
    counter!("kstreams_rebalances_total", &labels).increment(count);
}

fn failures(app: &str, reason: &'static str, count: u64) {
    let labels = [("app", app.to_owned()), ("reason", reason.to_owned())];
    counter!("kstreams_thread_failures_total", &labels).increment(count);
}

fn moved(app: &str, direction: &'static str, count: u64) {
    let labels = [("app", app.to_owned()), ("direction", direction.to_owned())];
    counter!("kstreams_tasks_moved_total", &labels).increment(count);
}

/// The metrics of restoration.
pub(crate) struct RestoreMetrics {
    app: String,
    duration: Histogram,
}

impl RestoreMetrics {
    pub(crate) fn new(app: &str) -> Self {
        let duration = histogram!("kstreams_restore_duration_seconds", "app" => app.to_owned());
        Self { app: app.to_owned(), duration }
    }

    /// What a store still lacks; gone with the value.
    pub(crate) fn remaining(&self, task: TaskId, store: &str) -> Placed {
        let (task, app) = (task.to_string(), self.app.as_str());
        let labels = [("app", app), ("task", &task), ("store", store)];
        Placed::new("kstreams_restore_remaining_records", &labels)
    }

    /// How far a standby's store is behind; gone with the value.
    pub(crate) fn standby_lag(&self, task: TaskId, store: &str) -> Placed {
        let (task, app) = (task.to_string(), self.app.as_str());
        let labels = [("app", app), ("task", &task), ("store", store)];
        Placed::new("kstreams_standby_lag_records", &labels)
    }

    /// Once a batch of a standby.
    pub(crate) fn followed(&self, store: &str, records: u64) {
        let labels = [("app", self.app.clone()), ("store", store.to_owned())];
        counter!("kstreams_standby_records_total", &labels).increment(records);
    }

    /// How long a task's restoration will take; gone with the value.
    pub(crate) fn eta(&self, task: TaskId) -> Placed {
        let task = task.to_string();
        Placed::new("kstreams_restore_eta_seconds", &[("app", self.app.as_str()), ("task", &task)])
    }

    /// Once a batch.
    pub(crate) fn restored(&self, store: &str, records: u64, bytes: u64) {
        let labels = [("app", self.app.clone()), ("store", store.to_owned())];
        counter!("kstreams_restore_records_total", &labels).increment(records);
        counter!("kstreams_restore_bytes_total", &labels).increment(bytes);
    }

    pub(crate) fn finished(&self, took: Duration) {
        self.duration.record(took.as_secs_f64());
    }
}

/// What lies around a client: its disk, its cluster, the memory that stores share.
pub(crate) struct SurroundingsMetrics {
    disk: [Placed; 2],
    cluster: [Placed; 3],
    block_cache: [Placed; 3],
}

impl SurroundingsMetrics {
    pub(crate) fn new(app: &str) -> Self {
        let of_app = |name| Placed::new(name, &[("app", app)]);
        let cache = |kind| {
            Placed::new("kstreams_rocksdb_block_cache_bytes", &[("app", app), ("kind", kind)])
        };
        Self {
            disk: ["kstreams_state_dir_bytes", "kstreams_state_dir_free_bytes"].map(of_app),
            cluster: [
                "kstreams_cluster_brokers",
                "kstreams_cluster_under_replicated_partitions",
                "kstreams_cluster_offline_partitions",
            ]
            .map(of_app),
            block_cache: ["capacity", "usage", "pinned"].map(cache),
        }
    }

    pub(crate) fn disk(&self, used_bytes: u64, free_bytes: u64) {
        self.disk[0].set_count(used_bytes);
        self.disk[1].set_count(free_bytes);
    }

    pub(crate) fn cluster(&self, brokers: usize, under_replicated: usize, offline: usize) {
        for (gauge, count) in self.cluster.iter().zip([brokers, under_replicated, offline]) {
            gauge.set_count(count as u64);
        }
    }

    pub(crate) fn block_cache(&self, capacity: usize, usage: usize, pinned: usize) {
        for (gauge, bytes) in self.block_cache.iter().zip([capacity, usage, pinned]) {
            gauge.set_count(bytes as u64);
        }
    }
}
