//! The registry, and the contracts in it.

use kstreams::Result;
use kstreams::serdes::compatibility::mutual_problems;
use kstreams::serdes::schema::AvroSchema;
use kstreams::serdes::{FULL_TRANSITIVE, SchemaRegistry as _};

use super::{Findings, Patient};
use crate::schemas::{self, Contract};

/// Says whether the registry answers.
pub(super) fn look(patient: &Patient<'_>, findings: &mut Findings) -> bool {
    let url = &patient.settings.schema_registry.url;
    let subjects = match patient.registry.subjects() {
        Ok(subjects) => subjects,
        Err(error) => {
            let found = format!("found no answer of a schema registry: {error}");
            let cure = "start it or correct schema_registry.url and its user; no topology starts without it";
            findings.fail("registry", url, found, cure);
            return false;
        }
    };
    findings.ok("registry", url, format!("answers, {} subjects", subjects.len()));
    if let Err(error) = contracts(patient, &subjects, findings) {
        findings.blind("contracts", url, &error);
    }
    true
}

fn contracts(patient: &Patient<'_>, subjects: &[String], findings: &mut Findings) -> Result<()> {
    let contracts = schemas::embedded()?;
    let before = findings.0.len();
    for contract in &contracts {
        if subjects.contains(&contract.subject) {
            one(patient, contract, findings)?;
        } else {
            let found =
                format!("found no such subject, wanted the schema of {}", contract.event_type);
            findings.fail("contracts", &contract.subject, found, "run `aggregator schemas push`");
        }
    }
    if findings.0.len() == before {
        let found = format!("all {} registered as this program has them", contracts.len());
        findings.ok("contracts", &patient.settings.schema_registry.url, found);
    }
    Ok(())
}

fn one(patient: &Patient<'_>, contract: &Contract, findings: &mut Findings) -> Result<()> {
    let subject = &contract.subject;
    let versions = patient.registry.versions(subject)?;
    let mut incompatible = false;
    for version in &versions {
        let place = format!("{subject} version {}", version.version);
        let theirs = AvroSchema::parse(&version.schema).map_err(|error| error.context(&place))?;
        for problem in mutual_problems(&contract.schema, &theirs) {
            let cure = "records of that version cannot be read: take it out of the registry, see who registered it, and hold the subject to FULL_TRANSITIVE";
            findings.fail("contracts", &place, problem, cure);
            incompatible = true;
        }
    }
    let ours = patient.registry.id_of(subject, &contract.json)?;
    if ours.is_none() {
        let found = "found other versions only, wanted that of this program";
        findings.fail("contracts", subject, found, "run `aggregator schemas push`");
    }
    if let (Some(newest), Some(ours)) = (versions.last(), ours)
        && newest.id != ours
        && !incompatible
    {
        let found =
            format!("found version {} (id {}) after ours (id {ours})", newest.version, newest.id);
        let cure = "a newer program or another team has registered it; it can be read, but its new fields are passed over";
        findings.warn("contracts", subject, found, cure);
    }
    let level = patient.registry.compatibility(subject)?;
    if level.as_deref() != Some(FULL_TRANSITIVE) {
        let found = format!(
            "found the compatibility level {}, wanted {FULL_TRANSITIVE}",
            level.as_deref().unwrap_or("of the registry as a whole")
        );
        findings.warn("contracts", subject, found, "run `aggregator schemas push`");
    }
    Ok(())
}
