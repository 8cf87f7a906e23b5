//! `make chaos`: four processes in one group under a steady load, while processes, brokers, the registry and the network between them
//! fail in turn. Afterwards an independent reader counts: nothing lost, nothing doubled.
//!
//! Not part of `cargo test`: it needs a cluster of three brokers of its own (`scripts/chaos.sh`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failures;
mod fleet;
#[allow(dead_code, reason = "what the tests on one broker use of it")]
#[path = "../broker/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "what the tests on one broker use of it")]
#[path = "../broker/load.rs"]
mod load;
mod network;
#[allow(dead_code, reason = "what the tests on one broker use of it")]
#[path = "../broker/site.rs"]
mod site;
mod traffic;

use std::time::Duration;

use kstreams::{Clock, SystemClock};
use test_support::{Cluster, Outcome, produce, wait_until};

use crate::failures::{Chaos, Failure};
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::network::Network;
use crate::site::Site;
use crate::traffic::Traffic;

const SEED: u64 = 20_260_303;
/// Ends a hung run: reading a million records takes a while.
const END_DEADLINE: Duration = Duration::from_secs(300);

#[test]
fn a_group_survives_whatever_fails() {
    let whole = std::env::var("KSTREAMS_CHAOS_SHORT").is_err();
    let setting = |name: &str, short: u32, long: u32| match std::env::var(name) {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("{name}: found \"{text}\", wanted a number"))
        }
        Err(_) if whole => long,
        Err(_) => short,
    };
    let rate = setting("KSTREAMS_CHAOS_RATE", 500, 2_000);
    let seconds = setting("KSTREAMS_CHAOS_SECONDS", 40, 600);
    let usual = if whole { "classic,consumer" } else { "classic" };
    let protocols = std::env::var("KSTREAMS_CHAOS_PROTOCOLS").unwrap_or_else(|_| usual.to_owned());
    let failures = if whole { Failure::all() } else { Failure::few() };
    for protocol in protocols.split(',') {
        eprintln!("{protocol}: {rate} events/s for {seconds} s and {} failures", failures.len());
        run(protocol, rate, Duration::from_secs(seconds.into()), &failures);
    }
}

fn run(protocol: &str, rate: u32, time: Duration, failures: &[Failure]) {
    let (site, cluster) = (Site::new(), Cluster::of_environment());
    let network = Network::start(&cluster.proxied());
    let load = Load::new(SEED);
    produce("managers", &load.managers(), Outcome::Plain);
    let mut fleet = Fleet::start(&site, protocol, &network);
    fleet.wait_until_whole();
    let traffic = Traffic::new(load, Ledger::new(&site), rate);
    let mut chaos = Chaos { cluster, network, fleet, traffic };
    let clock = SystemClock::default();
    let start = clock.monotonic();
    for (number, failure) in failures.iter().enumerate() {
        let told = clock.monotonic();
        chaos.play(*failure);
        let healed = clock.monotonic() - told;
        eprintln!(
            "{failure:?}: whole and caught up after {healed:.1?}; {}",
            chaos.traffic.progress()
        );
        let until = start + time * (number as u32 + 1) / failures.len() as u32;
        chaos.wait("the next failure's time", time, |_| clock.monotonic() >= until);
    }
    let Chaos { mut fleet, mut traffic, .. } = chaos;
    traffic.finish();
    let mut show = String::new();
    wait_until("all that must come", END_DEADLINE, || {
        traffic.look();
        show = traffic.progress();
        traffic.is_settled()
    });
    eprintln!("after the last event: {show}");
    fleet.stop();
    let mut whole = Ledger::new(&site);
    wait_until("the ends of all topics", END_DEADLINE, || whole.look());
    whole.check(&traffic.load);
    let (filed, poison) = (traffic.load.filed.len(), traffic.load.poison.len());
    eprintln!(
        "{protocol}: {} events written; {filed} requests assigned once each, {poison} dead letters once each; \
         {} processes ended by themselves and were started again",
        traffic.written, fleet.ended
    );
}
