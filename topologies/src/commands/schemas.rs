//! `aggregator schemas`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kstreams::Result;

use super::{Report, about_registry, registry};
use crate::schemas::{self, Contract};
use crate::settings::Settings;

/// What to do with schemas.
#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Check the contracts; offline unless --registry is given. Exit code 1 where something is found
    Check {
        #[command(flatten)]
        #[expect(
            missing_docs,
            reason = "the type says it; a text here would become that of the command"
        )]
        source: SourceArgs,
        /// Also against what the folder held at this git revision
        #[arg(long, value_name = "REVISION")]
        git: Option<String>,
        /// Also against every version that is registered
        #[arg(long)]
        registry: bool,
    },
    /// Register the contracts and hold their subjects to FULL_TRANSITIVE; repeatable
    Push {
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        source: SourceArgs,
    },
    /// List what is registered and whether it is what this program was built with
    List,
}

/// Which contracts.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Folder of `TOPIC/EVENT_TYPE.avsc`; the built-in ones where none is given
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl SourceArgs {
    fn contracts(&self) -> Result<Vec<Contract>> {
        self.folder.as_ref().map_or_else(schemas::embedded, |folder| schemas::load(folder))
    }
}

pub(super) fn execute(command: &SchemasCommand, settings: &Settings) -> Result<Report> {
    let with_advice = |error| about_registry(error, settings);
    match command {
        SchemasCommand::Check { source, git, registry: ask } => {
            let contracts = source.contracts()?;
            let mut findings = schemas::check(&contracts);
            if let Some(revision) = git {
                let folder = source.folder.as_deref().unwrap_or(Path::new("avro"));
                findings.extend(schemas::check_git(folder, &contracts, revision)?);
            }
            if *ask {
                let registry = registry(settings)?;
                let found = schemas::check_registry(&contracts, &*registry).map_err(with_advice)?;
                findings.extend(found);
            }
            let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
            let _ = writeln!(text, "{} schemas, {} findings", contracts.len(), findings.len());
            Ok(Report { text, good: findings.is_empty() })
        }
        SchemasCommand::Push { source } => {
            let registry = registry(settings)?;
            let pushed = schemas::push(&source.contracts()?, &*registry).map_err(with_advice)?;
            let new = pushed.iter().filter(|pushed| pushed.new);
            let mut text: String =
                new.clone().map(|p| format!("registered {} as id {}\n", p.subject, p.id)).collect();
            let _ = writeln!(text, "{} schemas, {} new", pushed.len(), new.count());
            Ok(Report::good(text))
        }
        SchemasCommand::List => {
            let registry = registry(settings)?;
            let listed = schemas::list(&schemas::embedded()?, &*registry).map_err(with_advice)?;
            let mut text = String::new();
            for schema in &listed {
                let level = schema.compatibility.as_deref().unwrap_or("the registry's level");
                let state = match schema.current {
                    Some(true) => "current",
                    Some(false) => "another version than ours",
                    None => "not ours",
                };
                let _ = writeln!(
                    text,
                    "{} version {} id {} {level} {state}",
                    schema.subject, schema.version, schema.id
                );
            }
            let _ = writeln!(text, "{} subjects", listed.len());
            Ok(Report::good(text))
        }
    }
}
