//! The rules of `avro/README.md`, checked: by themselves, against a git revision, against the registry.

use std::path::Path;
use std::process::Command;

use kstreams::serdes::SchemaRegistry;
use kstreams::serdes::compatibility::mutual_problems;
use kstreams::serdes::schema::{AvroSchema, Field, Kind, Node};
use kstreams::{Error, Result};

use super::{Contract, Finding};

/// Topics of reference data, whose records have no envelope.
const WITHOUT_ENVELOPE: [&str; 2] = ["managers", "contacts"];
const NAMESPACE: &str = "aggregator.events";
const ENVELOPE: [&str; 7] =
    ["event_id", "event_type", "timestamp", "source", "version", "correlation_id", "causation_id"];

/// Checks the contracts by themselves: names, the same envelope everywhere, documentation, defaults. Offline.
pub fn check(contracts: &[Contract]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let with_envelope = |contract: &&Contract| !WITHOUT_ENVELOPE.contains(&&*contract.topic);
    let model = contracts.iter().filter(with_envelope).find_map(|c| Some((c, envelope(c)?)));
    for contract in contracts {
        let mut report = |text: String| findings.push(contract.finding(text));
        let wanted = wanted_name(contract);
        if contract.schema.name() != wanted {
            report(format!("found the record {}, wanted {wanted}", contract.schema.name()));
        }
        for (name, node) in &contract.schema.named {
            check_type(name, node, &mut report);
        }
        if !with_envelope(&contract) {
            continue;
        }
        match (envelope(contract), &model) {
            (None, _) => report(format!(
                "does not begin with the envelope's fields: {}",
                ENVELOPE.join(", ")
            )),
            (Some(own), Some((other, model))) if own != *model => report(format!(
                "its envelope differs from that of {} (type, default or doc of a field)",
                other.place()
            )),
            _ => {}
        }
    }
    findings
}

/// Checks FULL compatibility with what the folder held at a git revision, and that no contract has gone.
///
/// # Errors
/// `Invalid` where git, the repository or the revision is missing, or an old schema is not one.
pub fn check_git(folder: &Path, contracts: &[Contract], revision: &str) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in git(folder, &["ls-tree", "-r", "--name-only", revision, "."])?.lines() {
        let Some((topic, event_type)) =
            path.strip_suffix(".avsc").and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        let new = contracts.iter().find(|c| c.topic == topic && c.event_type == event_type);
        let Some(new) = new else {
            findings.push(Finding {
                place: format!("{topic}/{event_type}"),
                text: format!("is gone since {revision}; its data is still in the topic"),
            });
            continue;
        };
        let old = git(folder, &["show", &format!("{revision}:./{path}")])?;
        let old = AvroSchema::parse(&old)
            .map_err(|error| error.context(format_args!("{path} at {revision}")))?;
        let problems = mutual_problems(&new.schema, &old);
        findings
            .extend(problems.into_iter().map(|text| new.finding(format!("{revision}: {text}"))));
    }
    Ok(findings)
}

/// Checks FULL_TRANSITIVE compatibility with every registered version.
///
/// # Errors
/// `Retriable` where no registry answers, `Invalid` for a registered schema that is not Avro.
pub fn check_registry(
    contracts: &[Contract],
    registry: &dyn SchemaRegistry,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for contract in contracts {
        for version in registry.versions(&contract.subject)? {
            let place = format!("{} version {}", contract.subject, version.version);
            let old = AvroSchema::parse(&version.schema).map_err(|e| e.context(&place))?;
            let problems = mutual_problems(&contract.schema, &old);
            findings
                .extend(problems.into_iter().map(|text| Finding { place: place.clone(), text }));
        }
    }
    Ok(findings)
}

/// `workflow.manager_assigned` → `aggregator.events.WorkflowManagerAssigned`.
fn wanted_name(contract: &Contract) -> String {
    let mut name = format!("{NAMESPACE}.");
    for part in contract.event_type.split(['.', '_']) {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// The fields of the envelope, where the record begins with them.
fn envelope(contract: &Contract) -> Option<&[Field]> {
    let Kind::Record(fields) = &contract.schema.resolve(&contract.schema.root).kind else {
        return None;
    };
    let head = fields.get(..ENVELOPE.len())?;
    head.iter().map(|field| field.name.as_str()).eq(ENVELOPE).then_some(head)
}

fn check_type(name: &str, node: &Node, report: &mut impl FnMut(String)) {
    let documented = |doc: &Option<String>| doc.as_ref().is_some_and(|doc| !doc.trim().is_empty());
    if !documented(&node.doc) {
        report(format!("the type {name} has no doc"));
    }
    match &node.kind {
        Kind::Enum(_, default) if default.as_deref() != Some("UNKNOWN") => {
            report(format!("the enum {name} has not the default UNKNOWN"));
        }
        Kind::Record(fields) => {
            for field in fields {
                let place = format!("{name}.{}", field.name);
                if !documented(&field.doc) {
                    report(format!("the field {place} has no doc"));
                }
                let Kind::Union(branches) = &field.node.kind else { continue };
                let null_first =
                    branches.first().is_some_and(|node| node.kind == Kind::Primitive("null"));
                let default_null = field.default.as_ref().is_some_and(serde_json::Value::is_null);
                if !null_first || !default_null || branches.len() != 2 {
                    report(format!(
                        "the field {place} is a union, wanted [\"null\", type] with the default null"
                    ));
                }
            }
        }
        _ => {}
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let what = || format!("git {} in \"{}\"", arguments.join(" "), folder.display());
    let output =
        Command::new("git").current_dir(folder).args(arguments).output().map_err(|error| {
            Error::invalid(format!("{} did not start", what())).with_source(error)
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::invalid(format!("{}: {}", what(), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::embedded;

    #[test]
    fn our_contracts_keep_the_rules() {
        assert_eq!(check(&embedded().unwrap()), []);
    }

    /// Changes one text of one contract and expects one finding with `wanted` in it.
    fn check_change(from: &str, to: &str, wanted: &str) {
        let mut contracts = embedded().unwrap();
        let last = contracts.iter_mut().find(|c| c.event_type == "request.updated").unwrap();
        assert!(last.json.contains(from), "{from}");
        *last =
            Contract::parse(&last.topic, &last.event_type, &last.json.replace(from, to)).unwrap();
        let findings = check(&contracts);
        assert_eq!(findings.len(), 1, "{from}: {findings:?}");
        assert!(findings[0].to_string().starts_with("request-events/request.updated: "));
        assert!(findings[0].text.contains(wanted), "{}", findings[0]);
    }

    #[test]
    fn each_breach_of_a_rule_is_found() {
        check_change(
            "\"RequestUpdated\"",
            "\"Updated\"",
            "found the record aggregator.events.Updated",
        );
        check_change("\"name\": \"source\"", "\"name\": \"origin\"", "does not begin with");
        check_change("Version of the envelope.", "Another doc.", "its envelope differs");
        check_change(
            "\"City of the work.\"",
            "\" \"",
            "the field aggregator.events.RequestUpdated.city has no doc",
        );
        check_change(", \"default\": \"UNKNOWN\"", "", "has not the default UNKNOWN");
        check_change(
            "\"category\", \"type\": [\"null\", \"string\"], \"default\": null",
            "\"category\", \"type\": [\"string\", \"null\"], \"default\": \"\"",
            "wanted [\"null\", type]",
        );
    }
}
