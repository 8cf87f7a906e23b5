//! Every example prints what its first comment says.

#![allow(clippy::unwrap_used)] // helpers of tests may fail the test

use std::path::{Path, PathBuf};
use std::process::Command;

/// The text block of an example's comment.
fn promised(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let block = lines.skip_while(|line| line.trim() != "```text").skip(1);
    let block = block.take_while(|line| line.trim() != "```");
    block.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect()
}

/// Where cargo puts examples: beside the folder of this test's own binary.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples").join(name)
}

#[test]
fn every_example_prints_what_it_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut sources: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.sort();
    assert!(!sources.is_empty(), "no examples found");
    for path in sources {
        let source = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let lines = source.lines().count();
        assert!(lines < 100, "{name} has {lines} lines; an example is read in one go");
        let wanted = promised(&source);
        assert!(!wanted.is_empty(), "{name} does not say what it prints");
        let binary = binary(name);
        let output = Command::new(&binary).output().unwrap_or_else(|error| {
            panic!(
                "{}: {error}; a plain `cargo test` builds it, as does `cargo build --examples`",
                binary.display()
            )
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} failed: {errors}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{name}: {errors}");
    }
}
