//! The command `aggregator`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use aggregator::cli::Cli;
use aggregator::commands::{self, Report};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not `vars`: a name or value that is not UTF-8 is none of ours, and no reason to panic.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match commands::execute(&cli, environment).map_err(anyhow::Error::from).and_then(print) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // The whole chain on one line, once.
            let line = format!("{error:#}").replace(['\n', '\r'], " ");
            eprintln!("error: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what a command says; a reader that has gone (`| head`) is no error.
fn print(report: Report) -> anyhow::Result<bool> {
    match std::io::stdout().write_all(report.text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(report.good),
    }
}
