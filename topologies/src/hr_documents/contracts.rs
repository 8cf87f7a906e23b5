//! Each contractor's contract, once and for ever. Keyed by contractor_id; cold path.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::{Cause, ContractorId};
use crate::events::derived_id;

/// A contractor's contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Its id; derives from the contractor alone, so that even a lost store would not give a second one.
    pub contract_id: Uuid,
    /// When it begins: at the verification that made it.
    pub valid_from_ms: i64,
    /// The verification.
    pub cause: Cause,
}

impl Contract {
    /// The contract that a verification makes.
    pub fn new(contractor_id: ContractorId, cause: Cause) -> Self {
        let contract_id = derived_id(Uuid::nil(), "contract", &contractor_id.to_string());
        Self { contract_id, valid_from_ms: cause.timestamp_ms, cause }
    }
}
