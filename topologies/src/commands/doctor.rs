//! `aggregator doctor`.

use std::sync::Arc;

use clap::Args;
use kstreams::{Clock, Result, SystemClock};

use super::Report;
use crate::doctor;
use crate::settings::Settings;

/// How to tell it.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As one JSON object, for machines
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &DoctorArgs, settings: &Settings) -> Result<Report> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let findings = doctor::examine(settings, &clock)?;
    let text = if args.json { findings.json() } else { findings.text() };
    Ok(Report { text, good: findings.is_good() })
}
