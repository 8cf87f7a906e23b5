//! `conformance check DIR…`: runs cases, prints a diff for each that differs, and counts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use conformance::files;
use conformance::run::{InMemory, Outcome, Stores, check_committing};

/// Compares kstreams with recorded results of Kafka Streams.
#[derive(Parser)]
enum Command {
    /// Runs the cases in these folders and files.
    Check {
        /// Folders or files (.json: one case, .jsonl: one a line).
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Keeps stores in memory.
        #[arg(long)]
        in_memory: bool,
        /// Keeps stores on RocksDB (the default where it is built in).
        #[arg(long, conflicts_with = "in_memory")]
        rocksdb: bool,
        /// Commits, closes and opens the stores again after each N inputs.
        #[arg(long, value_name = "N")]
        commit_every: Option<NonZeroUsize>,
        /// Does not fail for cases whose operations the engine does not have.
        #[arg(long)]
        skip_unsupported: bool,
        /// Counts per kind of case.
        #[arg(long)]
        kinds: bool,
    },
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

fn main() -> Result<ExitCode> {
    let Command::Check { paths, in_memory, rocksdb, commit_every, skip_unsupported, kinds } =
        Command::parse();
    let stores = stores(in_memory, rocksdb)?;
    let (mut total, mut by_kind) = (Counts::default(), BTreeMap::<String, Counts>::new());
    let mut unsupported = BTreeMap::<String, usize>::new();
    for path in &paths {
        for case in files::read(path)? {
            let kind = by_kind.entry(case.kind().to_owned()).or_default();
            match check_committing(&case.json, &*stores, commit_every) {
                Outcome::Passed => {
                    total.passed += 1;
                    kind.passed += 1;
                }
                Outcome::Failed(difference) => {
                    total.failed += 1;
                    kind.failed += 1;
                    println!("FAIL {}\n{difference}", case.place);
                }
                Outcome::Unsupported(what) if !skip_unsupported => {
                    total.failed += 1;
                    kind.failed += 1;
                    println!("FAIL {}\n  unsupported: {what}", case.place);
                }
                Outcome::Unsupported(what) => {
                    total.skipped += 1;
                    kind.skipped += 1;
                    *unsupported.entry(what).or_default() += 1;
                }
            }
        }
    }
    for (what, count) in &unsupported {
        println!("unsupported: {what}: {count}");
    }
    if kinds {
        for (kind, Counts { passed, failed, skipped }) in &by_kind {
            println!("{kind:26} {passed:5} passed, {failed:5} failed, {skipped:5} skipped");
        }
    }
    let Counts { passed, failed, skipped } = total;
    if skipped > 0 {
        println!("{skipped} skipped");
    }
    println!("{passed} passed, {failed} failed");
    let good = failed == 0 && passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(feature = "rocksdb")]
fn stores(in_memory: bool, _: bool) -> Result<Box<dyn Stores>> {
    Ok(if in_memory {
        Box::new(InMemory)
    } else {
        Box::new(conformance::on_disk::OnDisk::default())
    })
}

#[cfg(not(feature = "rocksdb"))]
fn stores(_: bool, rocksdb: bool) -> Result<Box<dyn Stores>> {
    if rocksdb {
        anyhow::bail!("this runner was built without RocksDB; build it with --features rocksdb");
    }
    Ok(Box::new(InMemory))
}
