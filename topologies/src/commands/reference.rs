//! `aggregator managers import`, `aggregator contacts import`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kstreams::serdes::Serde;
use kstreams::{Clock as _, Error, Result, SystemClock};

use super::Report;
use crate::events::{self, Serdes};
use crate::reference::{Entry, Missing, current, difference, entries, write};
use crate::settings::Settings;

/// What to do with reference data.
#[derive(Debug, Subcommand)]
pub enum ReferenceCommand {
    /// Show what a file would change on the topic, and write it after a yes
    Import(ImportArgs),
}

/// Which file, and how.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV with a line of names, or JSON (an array of objects, or an object a line), by its name's end
    file: PathBuf,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// Also delete what the topic has and the file does not
    #[arg(long)]
    prune: bool,
}

pub(super) fn managers(command: &ReferenceCommand, settings: &Settings) -> Result<Report> {
    import(command, settings, |serdes| serdes.managers)
}

pub(super) fn contacts(command: &ReferenceCommand, settings: &Settings) -> Result<Report> {
    import(command, settings, |serdes| serdes.contacts)
}

/// Good where the topic is as the file says in the end.
fn import<T: Entry>(
    ReferenceCommand::Import(args): &ReferenceCommand,
    settings: &Settings,
    serde_of: impl Fn(Serdes) -> Serde<T>,
) -> Result<Report> {
    let clock = SystemClock::default();
    let file = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Error::invalid(format!("file \"{file}\" cannot be read: {error}")))?;
    let wanted = entries::<T>(&file, &text, clock.now())?;
    let schemas = super::schema_cache(settings)?;
    let about = |error| super::about_registry(error, settings);
    events::check_registered(&schemas, &[T::TOPIC]).map_err(about)?;
    let clock_of_serdes: std::sync::Arc<dyn kstreams::Clock> =
        std::sync::Arc::new(SystemClock::default());
    let serde = serde_of(events::serdes(&schemas, &clock_of_serdes)?);
    let clients = super::clients(settings)?;
    let timeout = settings.request_timeout();
    let there = current(&clients, &serde, timeout).map_err(about)?;
    let missing = if args.prune { Missing::Prune } else { Missing::Keep };
    let difference = difference(wanted, &there, missing);
    let count = difference.changes.len();
    let mut text = difference.show();
    if count == 0 {
        return Ok(Report { text: text + "nothing to write\n", good: true });
    }
    if !args.yes {
        let asked = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if !asked {
            return Ok(Report {
                text: text + "nothing was written; --yes writes it\n",
                good: false,
            });
        }
        if !confirmed(&text, count, T::TOPIC)? {
            return Ok(Report { text: "nothing was written\n".to_owned(), good: false });
        }
        text.clear(); // it was shown with the question
    }
    let id = settings.application_id(&format!("{}-import", T::TOPIC));
    write(&clients, &serde, &difference, &id, (clock.now(), timeout))?;
    text.push_str(&format!("{count} records written to topic \"{}\"\n", T::TOPIC));
    Ok(Report { text, good: true })
}

/// Asks on the terminal; standard output is left to the result.
fn confirmed(difference: &str, count: usize, topic: &str) -> Result<bool> {
    let lost = |error| Error::fatal("the terminal went away").with_source(error);
    let mut terminal = std::io::stderr();
    write!(terminal, "{difference}write {count} records to topic \"{topic}\"? [y/N] ")
        .map_err(lost)?;
    terminal.flush().map_err(lost)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(lost)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
