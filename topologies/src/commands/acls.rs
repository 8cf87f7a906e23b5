//! `aggregator acls`: the rights that topologies need, as commands or as a table.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use kstreams::{Error, Result};

use super::Report;
use crate::acls::{Right, of_sink, of_topology};
use crate::catalog;
use crate::clickhouse;
use crate::settings::Settings;

/// For whom, and how.
#[derive(Debug, Args)]
pub struct AclsArgs {
    /// Names of topologies, or clickhouse-sink; all where none is given
    topologies: Vec<String>,
    /// Who gets the rights; User: and client.sasl.username where none is given
    #[arg(long, value_name = "User:NAME")]
    principal: Option<String>,
    /// Commands for kafka-acls.sh, or a table to read
    #[arg(long, value_enum, default_value_t = Format::Commands)]
    format: Format,
}

/// How rights are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Commands,
    Table,
}

pub(super) fn execute(args: &AclsArgs, settings: &Settings) -> Result<Report> {
    let principal = principal(args, settings)?;
    let (sink, names): (Vec<String>, Vec<String>) =
        args.topologies.iter().cloned().partition(|name| name == clickhouse::NAME);
    let schemas = super::memory_schemas()?;
    let mut text = String::new();
    let is_all = args.topologies.is_empty();
    let specs = if is_all || !names.is_empty() { catalog::select(&names)? } else { Vec::new() };
    for spec in specs {
        let rights = of_topology(spec, settings, &schemas)?;
        print(&mut text, spec.name, &rights, args.format, &principal, settings);
    }
    if is_all || !sink.is_empty() {
        let rights = of_sink(settings);
        print(&mut text, clickhouse::NAME, &rights, args.format, &principal, settings);
    }
    Ok(Report::good(text))
}

fn principal(args: &AclsArgs, settings: &Settings) -> Result<String> {
    let configured = settings.client.get("sasl.username").map(|name| format!("User:{name}"));
    let principal = args.principal.clone().or(configured).ok_or_else(|| {
        Error::invalid(
            "found no one to give the rights to, wanted --principal User:NAME, or the setting client.sasl.username",
        )
    })?;
    let is_named =
        principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
    match is_named {
        true => Ok(principal),
        false => Err(Error::invalid(format!(
            "found principal \"{principal}\", wanted User:NAME, as the brokers know it"
        ))),
    }
}

fn print(
    text: &mut String,
    topology: &str,
    rights: &[Right],
    format: Format,
    principal: &str,
    settings: &Settings,
) {
    let _ = match format {
        Format::Commands => writeln!(text, "# {topology}"),
        Format::Table => writeln!(text, "{topology}, for {principal}:"),
    };
    for right in rights.iter().filter(|right| !right.names.is_empty()) {
        match format {
            Format::Commands => text.push_str(&command(right, principal, settings)),
            Format::Table => text.push_str(&row(right)),
        }
    }
}

fn command(right: &Right, principal: &str, settings: &Settings) -> String {
    let mut line = format!(
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal {}",
        quoted(&settings.kafka.bootstrap_servers),
        quoted(principal)
    );
    for operation in right.operations {
        let _ = write!(line, " --operation {operation}");
    }
    if right.is_prefix {
        line.push_str(" --resource-pattern-type prefixed");
    }
    for name in &right.names {
        let _ = write!(line, " {} {}", right.resource.option(), quoted(name));
    }
    line + "\n"
}

fn row(right: &Right) -> String {
    let kind = right.resource.option().trim_start_matches("--");
    let names: Vec<String> = right
        .names
        .iter()
        .map(|name| if right.is_prefix { format!("{name}*") } else { name.clone() })
        .collect();
    let (operations, names) = (right.operations.join(", "), names.join(", "));
    format!("  {operations} on {kind} {names}: {}\n", right.reason)
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:,/@=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(topologies: &[&str], principal: Option<&str>, format: Format) -> AclsArgs {
        let topologies = topologies.iter().map(ToString::to_string).collect();
        AclsArgs { topologies, principal: principal.map(str::to_owned), format }
    }

    #[test]
    fn rights_are_printed_as_commands_and_as_a_table() {
        let settings = Settings::default();
        let asked = args(&["manager-assignment"], Some("User:Ann Lee"), Format::Commands);
        let text = execute(&asked, &settings).unwrap().text;
        let line = "kafka-acls.sh --bootstrap-server 127.0.0.1:9092 --add --allow-principal 'User:Ann Lee' \
                    --operation Write --resource-pattern-type prefixed --transactional-id manager-assignment-";
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(text.starts_with("# manager-assignment\n"), "{text}");
        let asked = args(&["clickhouse-sink"], Some("User:sink"), Format::Table);
        let text = execute(&asked, &settings).unwrap().text;
        let wanted = "clickhouse-sink, for User:sink:\n  Read on topic audit-events: input\n  \
                      Read on group clickhouse-sink: membership and offsets\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn rights_without_an_owner_are_refused() {
        let mut settings = Settings::default();
        let error = execute(&args(&[], None, Format::Table), &settings).unwrap_err().to_string();
        assert!(error.contains("--principal User:NAME"), "{error}");
        let error = execute(&args(&[], Some("ann"), Format::Table), &settings).unwrap_err();
        assert!(error.to_string().contains("found principal \"ann\""), "{error}");
        settings.client.insert("sasl.username".into(), "ann".into());
        let text = execute(&args(&[], None, Format::Table), &settings).unwrap().text;
        assert!(text.contains("audit-fanout, for User:ann"), "{text}");
    }
}
