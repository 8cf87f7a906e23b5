//! Two processes in one group: they share the tasks; one is stopped, one is killed, the other takes over.

use std::time::Duration;

use kstreams::{Clock, SystemClock};
use test_support::{DEADLINE, Outcome, Signal, produce, wait_until};

use crate::ledger::Ledger;
use crate::load::Load;
use crate::site::{Instance, Site, TASKS};

/// Requests of each of the three waves.
const WAVE: usize = 10_000;
/// Longer than the session time-out, the transaction time-out and the restoration together.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);
/// Ends a hung test.
const WAVE_DEADLINE: Duration = Duration::from_secs(120);
const SEED: u64 = 20_260_302;

const SETTINGS: &[(&str, &str)] =
    &[("kafka.session_timeout_ms", "6000"), ("kafka.heartbeat_interval_ms", "1500")];

#[test]
fn two_processes_share_the_tasks_and_the_survivor_takes_over() {
    let clock = SystemClock::default();
    let site = Site::new();
    let mut load = Load::new(SEED);
    produce("managers", &load.managers(), Outcome::Plain);
    let mut first = site.start("first", SETTINGS);
    first.wait_for_tasks(TASKS);
    let mut ledger = Ledger::new(&site);
    wait_until("all managers to be known", WAVE_DEADLINE, || {
        ledger.look();
        ledger.is_settled(&load)
    });
    let mut second = site.start("second", SETTINGS);
    wait_for_halves(&mut first, &mut second);

    // Stopped while it works: what it had begun is committed or begun again.
    let settle = |ledger: &mut Ledger, load: &Load| {
        wait_until("the wave to be settled", WAVE_DEADLINE, || {
            ledger.look();
            ledger.is_settled(load)
        });
    };
    begin_wave(&mut load, &mut ledger);
    second.stop();
    first.wait_for_tasks(TASKS);
    settle(&mut ledger, &load);

    // It comes back to its own folder; then the other one is killed while it works.
    let mut second = site.start("second", SETTINGS);
    wait_for_halves(&mut first, &mut second);
    begin_wave(&mut load, &mut ledger);
    first.kill();
    let killed = clock.monotonic();
    second.wait_for_tasks(TASKS);
    let took_over = clock.monotonic() - killed;
    settle(&mut ledger, &load);
    let settled = clock.monotonic() - killed;
    eprintln!("after the kill: all tasks in {took_over:?}, all results in {settled:?}");
    assert!(settled < TAKEOVER_MAX, "settled only {settled:?} after the kill");

    begin_wave(&mut load, &mut ledger);
    settle(&mut ledger, &load);
    second.stop();
    let mut whole = Ledger::new(&site);
    wait_until("the ends of all topics", DEADLINE, || whole.look());
    whole.check(&load);
}

/// A process that stands still for longer than the session and its transaction may, and then goes on
/// as if nothing had been, has lost its tasks: none of what it had in hand may count.
#[test]
fn a_process_that_was_frozen_writes_nothing_that_counts() {
    let site = Site::new();
    let mut load = Load::new(SEED + 1);
    produce("managers", &load.managers(), Outcome::Plain);
    let mut first = site.start("first", SETTINGS);
    first.wait_for_tasks(TASKS);
    let mut ledger = Ledger::new(&site);
    let settle = |ledger: &mut Ledger, load: &Load| {
        wait_until("the wave to be settled", WAVE_DEADLINE, || {
            ledger.look();
            ledger.is_settled(load)
        });
    };
    settle(&mut ledger, &load);
    let mut frozen = site.start("second", SETTINGS);
    wait_for_halves(&mut first, &mut frozen);

    begin_wave(&mut load, &mut ledger);
    frozen.process.signal(Signal::Stop);
    first.wait_for_tasks(TASKS);
    settle(&mut ledger, &load);
    begin_wave(&mut load, &mut ledger);
    frozen.process.signal(Signal::Continue);
    // It joins again, or ends because its producer was fenced; then whoever watches over it restarts it.
    wait_until("the frozen one to notice", DEADLINE, || {
        frozen.process.exit_status().is_some() || is_shared(&mut first, &mut frozen)
    });
    if frozen.process.exit_status().is_some() {
        eprintln!("it ended: {}", frozen.process.tail());
        frozen = site.start("second", SETTINGS);
    }
    wait_for_halves(&mut first, &mut frozen);
    settle(&mut ledger, &load);
    begin_wave(&mut load, &mut ledger);
    settle(&mut ledger, &load);
    first.stop();
    frozen.stop();
    let mut whole = Ledger::new(&site);
    wait_until("the ends of all topics", DEADLINE, || whole.look());
    whole.check(&load);
}

/// Writes a wave, and returns when part of it is processed, but not all.
fn begin_wave(load: &mut Load, ledger: &mut Ledger) {
    let (cancelled, finished) = load.closings();
    produce("request-events", &cancelled, Outcome::Plain);
    produce("workflow-events", &finished, Outcome::Plain);
    let before = load.filed.len();
    produce("request-events", &load.requests(WAVE), Outcome::Plain);
    wait_until("the wave to begin", DEADLINE, || {
        ledger.look();
        ledger.assignments > before
    });
}

fn wait_for_halves(first: &mut Instance, second: &mut Instance) {
    wait_until("half of the tasks each", DEADLINE, || is_shared(first, second));
}

/// No task in two places, none in none, and about as many here as there.
fn is_shared(first: &mut Instance, second: &mut Instance) -> bool {
    let (one, two) = (first.running_tasks(), second.running_tasks());
    let mut all: Vec<&String> = one.iter().chain(&two).collect();
    all.sort_unstable();
    all.dedup();
    let apart = all.len() == one.len() + two.len();
    apart && all.len() == TASKS && one.len().abs_diff(two.len()) <= TASKS / 4
}
