//! Seeds as an ordinary test, and that a seed is a run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};

use simulation::run;

/// Runs all seeds, two at a time.
fn all(seeds: std::ops::Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed, false);
                    assert_eq!(outcome.violation, None, "seed {seed}");
                    assert!(outcome.records > 0, "seed {seed} has told nothing");
                }
            });
        }
    });
}

#[test]
fn two_hundred_seeds_keep_every_rule() {
    all(1..201);
}

#[test]
fn a_seed_replays_exactly_and_its_history_can_be_read() {
    for seed in [3, 17, 29] {
        let (first, second) = (run(seed, true), run(seed, true));
        assert_eq!(first.history, second.history, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(run(seed, false).hash, first.hash, "seed {seed}: recording changes nothing");
        assert!(first.history.iter().any(|line| line.contains("committed:")), "seed {seed}");
    }
}

#[test]
fn seeds_meet_crashes_rebalances_and_damaged_stores() {
    let histories: Vec<String> = (1..60).map(|seed| run(seed, true).history.join("\n")).collect();
    let with = |text: &str| histories.iter().filter(|history| history.contains(text)).count();
    for fault in [
        "Crash of",
        "Freeze(",
        "Disconnect(",
        "is thrown out",
        "Lost(",
        "wipes",
        "is fenced, what it left open",
    ] {
        assert!(with(fault) > 1, "{fault}: found in {} of 59 seeds", with(fault));
    }
}
