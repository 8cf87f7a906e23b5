//! Exactly once: the program is killed again and again while it works, and nobody can tell from its results.

use std::collections::BTreeMap;
use std::time::Duration;

use kstreams::{Clock, SystemClock};
use test_support::{DEADLINE, Follower, Outcome, produce, wait_until};

use crate::ledger::Ledger;
use crate::load::{Load, Random};
use crate::site::{Instance, Restoration, Restorations, Site, TASKS};

/// Customers' requests in all.
const REQUESTS: usize = 100_000;
/// Requests that are filed after the last kill.
const LAST: usize = 2_000;
/// Kills of each of the two waves, and one more.
const KILLS_EACH: usize = 5;
/// A few commits long.
const KILL_AFTER_MAX_MS: usize = 250;
/// Ends a hung test.
const WAVE_DEADLINE: Duration = Duration::from_secs(150);
const KILLS_AT_LEAST: usize = 5;
/// Stores that always come back whole from their changelogs.
const IN_MEMORY: &[&str] = &["region-candidates", "region-places"];
/// Stores of a few rows: when RocksDB flushes them is a matter of what lies beside them.
const UNFLUSHED_MAX: usize = 3;
const SEED: u64 = 20_260_301;

/// Static membership, so that a restart need not wait for its own past to time out; memtables so
/// small that a kill finds part of the stores on the disk and part of them lost.
const SETTINGS: &[(&str, &str)] = &[
    ("kafka.group_instance_id", "one"),
    ("kafka.session_timeout_ms", "10000"),
    ("kafka.rocksdb_memory_max_bytes", "4194304"),
];

/// The program, over all its lives.
struct Lives<'a> {
    site: &'a Site,
    now: Instance,
    past: Vec<Restorations>,
}

impl Lives<'_> {
    /// Kills it and starts it again on the same state folder.
    fn kill(&mut self) {
        self.now.kill();
        self.past.push(self.now.restorations());
        self.now = self.site.start("state", SETTINGS);
    }

    fn is_ready(&self) -> bool {
        self.now.restorations().tasks == TASKS
    }

    fn stop(&mut self) {
        self.now.stop();
        self.past.push(self.now.restorations());
    }
}

/// When to kill: some time after it has begun to work, wherever in its transactions it is then.
struct Plan {
    left: usize,
    at: Option<Duration>,
    /// Assignments at the last kill.
    seen: usize,
}

impl Plan {
    fn is_due(
        &mut self,
        now: Duration,
        assignments: usize,
        works: bool,
        lives: &mut Lives<'_>,
        random: &mut Random,
    ) -> bool {
        match self.at {
            None if self.left > 0 && works && assignments > self.seen && lives.is_ready() => {
                self.at = Some(now + Duration::from_millis(random.below(KILL_AFTER_MAX_MS) as u64));
                false
            }
            Some(at) if now >= at => {
                (self.left, self.at, self.seen) = (self.left - 1, None, assignments);
                true
            }
            _ => false,
        }
    }
}

impl Drop for Lives<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last lines of life {}:\n{}", self.past.len(), self.now.process.tail());
        }
    }
}

#[test]
fn hundred_thousand_requests_survive_sigkill_exactly_once() {
    let clock = SystemClock::default();
    let site = Site::new();
    let mut load = Load::new(SEED);
    let mut kills = Random(SEED ^ 1);
    produce("managers", &load.managers(), Outcome::Plain);
    let mut now = site.start("state", SETTINGS);
    now.process.wait_for_line("serving /metrics", DEADLINE);
    let mut lives = Lives { site: &site, now, past: Vec::new() };
    let mut ledger = Ledger::new(&site);
    wait_until("all managers to be known", WAVE_DEADLINE, || {
        ledger.look();
        ledger.is_settled(&load)
    });

    // Every wave is assigned before the next one closes part of it: so each request has one
    // assignment, whatever the order in which the topics are read.
    for count in [REQUESTS / 2, REQUESTS / 2 - LAST] {
        let before = load.filed.len();
        let (cancelled, finished) = load.closings();
        produce("request-events", &cancelled, Outcome::Plain);
        produce("workflow-events", &finished, Outcome::Plain);
        produce("request-events", &load.requests(count), Outcome::Plain);
        let start = clock.monotonic();
        let mut plan = Plan { left: KILLS_EACH, at: None, seen: before };
        wait_until("a wave to be settled", WAVE_DEADLINE * 2, || {
            ledger.look();
            let now = clock.monotonic();
            let works = ledger.assignments < load.filed.len();
            if plan.is_due(now, ledger.assignments, works, &mut lives, &mut kills) {
                eprintln!("killed after {:?}: {}", now - start, ledger.progress(&load));
                lives.kill();
                if plan.left == 1 {
                    // Once more, while it restores.
                    lives.now.process.wait_for_line("restoring", DEADLINE);
                    lives.kill();
                }
            }
            let progress = || ledger.progress(&load);
            assert!(ledger.assignments <= load.filed.len(), "too many: {}", progress());
            assert!(now - start < WAVE_DEADLINE, "stuck at {}", progress());
            assert_eq!(lives.now.process.exit_status(), None, "{}", lives.now.process.tail());
            ledger.is_settled(&load)
        });
        eprintln!("{count} requests: {:?} with kills and restarts", clock.monotonic() - start);
    }
    // After the last kill the restored stores go on; and once these are through, so is all before.
    let (cancelled, finished) = load.closings();
    produce("workflow-events", &finished, Outcome::Plain);
    produce("request-events", &cancelled, Outcome::Plain);
    produce("request-events", &load.requests(LAST), Outcome::Plain);
    wait_until("the last wave", WAVE_DEADLINE, || {
        ledger.look();
        ledger.is_settled(&load)
    });
    lives.stop();

    let mut whole = Ledger::new(&site);
    wait_until("the ends of all topics", WAVE_DEADLINE, || whole.look());
    whole.check(&load);
    // A kill between two transactions proves nothing; what it interrupted is there, but not committed.
    let written = count_uncommitted("workflow-events");
    let interrupted = written - whole.read;
    eprintln!("{interrupted} results of interrupted transactions");
    assert!(interrupted > 0, "no kill interrupted a transaction");
    check_restorations(&lives.past);
    eprintln!("{} requests, {} poison", load.filed.len(), load.poison.len());
}

/// Records of a topic, those of aborted transactions included.
fn count_uncommitted(topic: &str) -> usize {
    let (mut all, mut count) = (Follower::uncommitted(topic), 0);
    wait_until("the topic's end", WAVE_DEADLINE, || all.look(&mut |_| count += 1));
    count
}

/// A store that was wiped, or lost its position, would be read from an earlier offset than before.
fn check_restorations(lives: &[Restorations]) {
    let mut last: BTreeMap<(&str, &str), Option<i64>> = BTreeMap::new();
    for (number, life) in lives.iter().enumerate() {
        for Restoration { store, partition, from } in &life.stores {
            // What was never flushed is lost with a kill; what was, never again.
            let before = last.insert((store, partition), *from).flatten();
            assert!(*from >= before, "{partition} fell from {before:?} to {from:?}");
        }
        let own = life.stores.iter().filter(|store| store.from.is_some()).count();
        let (tasks, stores, records) = (life.tasks, life.stores.len(), life.records);
        eprintln!(
            "life {number}: {own} of {stores} stores from their own position, \
             {tasks} tasks ready, {records} records restored"
        );
    }
    let mut unflushed = Vec::new();
    for ((store, partition), from) in last {
        match (IN_MEMORY.contains(&store), from) {
            (true, from) => assert_eq!(from, None, "{partition}"),
            (false, None) => unflushed.push(partition),
            (false, Some(_)) => {}
        }
    }
    assert!(unflushed.len() <= UNFLUSHED_MAX, "always restored whole: {unflushed:?}");
    assert!(lives.len() > KILLS_AT_LEAST, "{} lives", lives.len());
}
