//! Registration of the contracts, and what is registered.

use kstreams::serdes::{FULL_TRANSITIVE, SchemaRegistry};
use kstreams::{Error, Result};

use super::{Contract, check_registry};

/// What [`push`] did with a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The subject.
    pub subject: String,
    /// Its schema id.
    pub id: u32,
    /// Whether it was registered now, and not before.
    pub new: bool,
}

/// A subject as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The subject.
    pub subject: String,
    /// The newest version.
    pub version: u32,
    /// Its schema id.
    pub id: u32,
    /// Its compatibility level; `None` where it has the registry's own.
    pub compatibility: Option<String>,
    /// Whether the newest version is the schema of the given contract; `None` where no contract has this subject.
    pub current: Option<bool>,
}

/// Registers the contracts and holds their subjects to FULL_TRANSITIVE. Repeatable: what is there stays as it is.
///
/// All are checked before the first is registered, so that a refused one leaves the registry as it was.
///
/// # Errors
/// `Invalid` where a contract is not compatible with a registered version, `Retriable` where no registry answers.
pub fn push(contracts: &[Contract], registry: &dyn SchemaRegistry) -> Result<Vec<Pushed>> {
    let findings = check_registry(contracts, registry)?;
    if !findings.is_empty() {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(Error::invalid(format!(
            "nothing was pushed, because not all schemas are {FULL_TRANSITIVE}: {}",
            findings.join("; ")
        )));
    }
    contracts.iter().map(|contract| push_one(contract, registry)).collect()
}

fn push_one(contract: &Contract, registry: &dyn SchemaRegistry) -> Result<Pushed> {
    let subject = contract.subject.clone();
    let known = registry.id_of(&subject, &contract.json)?;
    let id = match known {
        Some(id) => id,
        None => registry.register(&subject, &contract.json)?,
    };
    // After the first registration, because not every registry lets a subject without versions have a level.
    if registry.compatibility(&subject)?.as_deref() != Some(FULL_TRANSITIVE) {
        registry.set_compatibility(&subject, FULL_TRANSITIVE)?;
    }
    Ok(Pushed { subject, id, new: known.is_none() })
}

/// Lists what is registered, sorted by subject, and compares it with the contracts.
///
/// # Errors
/// `Retriable` where no registry answers.
pub fn list(contracts: &[Contract], registry: &dyn SchemaRegistry) -> Result<Vec<Listed>> {
    let mut list = Vec::new();
    for subject in registry.subjects()? {
        let Some(newest) = registry.versions(&subject)?.pop() else { continue };
        let contract = contracts.iter().find(|contract| contract.subject == subject);
        let current = match contract {
            Some(contract) => Some(registry.id_of(&subject, &contract.json)? == Some(newest.id)),
            None => None,
        };
        let compatibility = registry.compatibility(&subject)?;
        list.push(Listed {
            subject,
            version: newest.version,
            id: newest.id,
            compatibility,
            current,
        });
    }
    Ok(list)
}
