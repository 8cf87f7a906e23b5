//! `aggregator doctor`: looks at everything that the application needs, and says of each thing whether it is well and what to do if not.
//!
//! Called by the command; cold; changes nothing, in the cluster or in the registry. Each part looks at one side: `cluster`, `groups`,
//! `samples` of what producers wrote, `contracts` and `local`. A part that could not look says so as a finding of its own, so that one
//! thing that is down hides nothing else.

mod cluster;
mod contracts;
mod finding;
mod groups;
mod local;
mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{Admin, KafkaClients as _, NewTopic, TopicDescription};
use kstreams::serdes::HttpRegistry;
use kstreams::{Clock, ErrorKind, Result, SystemClock};
use serde::{Deserialize, Serialize};

pub use finding::{Finding, Findings, Status};

use crate::settings::Settings as AllSettings;
use crate::topics;

/// A single request is not waited for longer: whoever asks sits in front of it.
const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Between two looks at what is on its way.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What is still taken for healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Free bytes that the disk of `kafka.state_dir` has at least.
    pub disk_free_min_bytes: u64,
    /// How far two clocks may be apart.
    pub clock_skew_max_ms: u64,
    /// How many of the newest records of each partition are looked at.
    pub sample_records: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { disk_free_min_bytes: 1 << 30, clock_skew_max_ms: 5_000, sample_records: 200 }
    }
}

/// What the parts share.
struct Patient<'a> {
    settings: &'a AllSettings,
    clock: &'a dyn Clock,
    admin: Box<dyn Admin>,
    registry: HttpRegistry,
    timeout: Duration,
    /// Live brokers.
    brokers: usize,
    /// Every topic of the cluster.
    topics: BTreeMap<String, TopicDescription>,
    /// Every topic as it shall be.
    wanted: Vec<NewTopic>,
}

impl Patient<'_> {
    /// Looks again for a while where what is asked is on its way: a group's coordinator on a cluster that is young or has just lost a broker.
    fn patiently<T>(&mut self, mut look: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let clock = SystemClock::default();
        let deadline = clock.monotonic() + self.timeout;
        loop {
            match look(self) {
                Err(error)
                    if error.kind() == ErrorKind::Retriable && clock.monotonic() < deadline =>
                {
                    std::thread::park_timeout(LOOK_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// `Invalid` where the settings allow no look at all: a wrong client setting, an address that is none.
pub fn examine(settings: &AllSettings, clock: &Arc<dyn Clock>) -> Result<Findings> {
    let clients = LibrdkafkaClients::new(settings.client_settings("aggregator-doctor"))?;
    let mut patient = Patient {
        settings,
        clock: &**clock,
        admin: clients.admin()?,
        registry: HttpRegistry::new(settings.registry_config())?,
        timeout: settings.request_timeout().min(REQUEST_TIMEOUT_MAX),
        brokers: 0,
        topics: BTreeMap::new(),
        wanted: Vec::new(),
    };
    let mut findings = Findings::default();
    local::look(&patient, &mut findings);
    let has_registry = contracts::look(&patient, &mut findings);
    if cluster::find_brokers(&mut patient, &mut findings) {
        patient.wanted = topics::wanted(settings, topics::replication_factor(patient.brokers))?;
        cluster::look(&mut patient, &mut findings);
        groups::look(&mut patient, &mut findings);
        samples::look(&mut patient, &clients, has_registry, &mut findings);
    }
    Ok(findings)
}
