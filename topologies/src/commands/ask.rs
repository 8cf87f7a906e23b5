//! `aggregator get`, `waiting`, `paperwork`: questions to a running instance, which asks the others.

use clap::{Args, Subcommand};
use kstreams::{Error, Result};

use super::Report;
use crate::queries::{Question, ask, render};
use crate::settings::Settings;

/// What to ask for.
#[derive(Debug, Subcommand)]
pub enum GetCommand {
    /// Status, manager, priority, grants, documents, notifications
    Request(OneArgs),
    /// Region, capacity, and the requests in hand
    Manager(OneArgs),
    /// Verification, grants and contract
    Contractor(OneArgs),
}

/// One thing to ask for.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Its id
    id: i64,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which requests.
#[derive(Debug, Args)]
pub struct WaitingArgs {
    /// Of this region only
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Which documents.
#[derive(Debug, Args)]
pub struct PaperworkArgs {
    /// Only where a signature or a payment is missing
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Whom to ask, and how to show the answer.
#[derive(Debug, Args)]
struct AskArgs {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    /// Any running instance; http.advertised or http.bind where none is given
    #[arg(long, value_name = "HOST:PORT")]
    instance: Option<String>,
}

pub(super) fn get(command: &GetCommand, settings: &Settings) -> Result<Report> {
    let (question, args) = match command {
        GetCommand::Request(args) => (Question::Request(args.id), args),
        GetCommand::Manager(args) => (Question::Manager(args.id), args),
        GetCommand::Contractor(args) => (Question::Contractor(args.id), args),
    };
    report(&question, &args.ask, settings)
}

pub(super) fn waiting(args: &WaitingArgs, settings: &Settings) -> Result<Report> {
    let question = Question::Waiting { region: args.region.clone() };
    report(&question, &args.ask, settings)
}

pub(super) fn paperwork(args: &PaperworkArgs, settings: &Settings) -> Result<Report> {
    report(&Question::Paperwork { open_only: args.open }, &args.ask, settings)
}

/// Good where every topology concerned has answered.
fn report(question: &Question, args: &AskArgs, settings: &Settings) -> Result<Report> {
    let configured = settings.application_server();
    let instance = args.instance.as_ref().unwrap_or(&configured);
    if instance.is_empty() {
        return Err(Error::invalid(
            "found no address to ask, wanted that of a running instance; give --instance HOST:PORT or set http.advertised",
        ));
    }
    let answer = ask(instance, question, &settings.http)?;
    let good = answer.get("incomplete").is_none();
    let text = match args.json {
        true => format!("{answer:#}\n"),
        false => render(question, &answer),
    };
    Ok(Report { text, good })
}
