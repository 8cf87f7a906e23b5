//! Logs, set up once at start: lines for people or JSON, on standard error, so that standard output is the commands' own.

use std::io::{self, IsTerminal as _};

use kstreams::{Error, Result};
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, LogSettings};

/// Begins to log.
///
/// # Errors
/// `Invalid` for a level that is none, or when called twice.
pub fn init(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| {
        Error::invalid(format!(
            "setting log.level: found \"{}\", wanted error, warn, info, debug, trace, or directives such as info,kstreams=debug",
            settings.level
        ))
        .with_source(error)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let set = match settings.format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        // Fields beside the message, not below it: that is where log searches look.
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Error::invalid(format!("logs are set up already: {error}")))
}
