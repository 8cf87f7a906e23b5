//! `aggregator clickhouse`.

use std::fmt::Write as _;

use clap::Subcommand;
use kstreams::{Error, Result};

use super::Report;
use crate::clickhouse::{ClickHouse, apply};
use crate::settings::Settings;

/// What to do with ClickHouse.
#[derive(Debug, Subcommand)]
pub enum ClickHouseCommand {
    /// Create tables and views that are missing, up to the newest version; changes nothing that is there
    Apply,
}

pub(super) fn execute(command: &ClickHouseCommand, settings: &Settings) -> Result<Report> {
    match command {
        ClickHouseCommand::Apply => {
            if settings.clickhouse.url.is_empty() {
                return Err(Error::invalid(
                    "setting clickhouse.url: found nothing, wanted the address of ClickHouse's HTTP interface, \
                     such as http://127.0.0.1:8123",
                ));
            }
            let applied = apply(&ClickHouse::new(&settings.clickhouse))?;
            let mut text = String::new();
            for step in applied {
                let what = if step.now { "applied" } else { "was there" };
                let _ = writeln!(text, "version {} \"{}\" {what}", step.version, step.name);
            }
            Ok(Report::good(text))
        }
    }
}
