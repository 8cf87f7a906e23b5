//! Runs seeds of the simulation: `cargo run --release -p simulation -- --seeds 1..1000`.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use kstreams::{Clock, SystemClock};
use simulation::run;

/// Runs seeds, stops at the first that breaks a rule, and prints what happened in it.
#[derive(Parser)]
struct Arguments {
    /// Both ends are run: `1..1000`, or one seed.
    #[arg(long, default_value = "1..1000", value_parser = seeds)]
    seeds: RangeInclusive<u64>,
    /// Runs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Lines of the history of a failed seed, from its end.
    #[arg(long, default_value_t = 200)]
    lines: usize,
    /// Goes on after a seed that breaks a rule, and lists them all.
    #[arg(long)]
    keep_going: bool,
    /// Prints the engine's own log of a single seed, by `RUST_LOG`'s rules.
    #[arg(long)]
    log: Option<String>,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("\"{text}\": {error}"));
    match text.split_once("..") {
        Some((first, last)) => Ok(number(first)?..=number(last.trim_start_matches('='))?),
        None => number(text).map(|seed| seed..=seed),
    }
}

#[derive(Default)]
struct Totals {
    runs: u64,
    records: usize,
    lives: usize,
    virtual_seconds: f64,
    failed: Vec<(u64, String)>,
}

#[allow(clippy::print_stdout)] // it is what this program is for
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(filter) = &arguments.log {
        tracing_subscriber::fmt().without_time().with_env_filter(filter).init();
    }
    let clock = SystemClock::default();
    let (next, totals) = (AtomicU64::new(*arguments.seeds.start()), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| work(&arguments, &next, &totals));
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} seeds in {:.1} s: {} results, {} processes, {:.0} virtual seconds",
        totals.runs,
        clock.monotonic().as_secs_f64(),
        totals.records,
        totals.lives,
        totals.virtual_seconds
    );
    totals.failed.sort();
    let Some((seed, violation)) = totals.failed.first() else { return Ok(()) };
    for (seed, violation) in &totals.failed {
        println!("seed {seed}: {violation}");
    }
    let outcome = run(*seed, true);
    let skipped = outcome.history.len().saturating_sub(arguments.lines);
    for line in outcome.history.iter().take(1).chain(outcome.history.iter().skip(skipped.max(1))) {
        println!("{line}");
    }
    if outcome.violation.as_ref() != Some(violation) {
        println!("REPLAYED DIFFERENTLY: {:?}", outcome.violation);
    }
    println!("replay: cargo run --release -p simulation -- --seeds {seed}");
    anyhow::bail!("seed {seed} broke a rule: {violation}")
}

fn work(arguments: &Arguments, next: &AtomicU64, totals: &Mutex<Totals>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let lock = || totals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = !arguments.keep_going && !lock().failed.is_empty();
        if seed > *arguments.seeds.end() || is_over {
            return;
        }
        let outcome = run(seed, false);
        let mut totals = lock();
        totals.runs += 1;
        totals.records += outcome.records;
        totals.lives += outcome.lives;
        totals.virtual_seconds += outcome.took.as_secs_f64();
        totals.failed.extend(outcome.violation.map(|violation| (seed, violation)));
    }
}
