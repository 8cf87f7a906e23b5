//! Settings of the topology: plain data, read once at start.

use serde::{Deserialize, Serialize};

/// What may be configured of contractor-access; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long an assignment waits for the first verification of its contractor, in milliseconds.
    pub verification_wait_ms: u64,
    /// How long an assignment waits for a request that was not seen yet.
    pub request_wait_ms: u64,
    /// How long a finished request, or one that never came, is remembered, so that late assignments and duplicates change
    /// nothing. Should not be below the retention of `workflow-events`.
    pub closed_retention_ms: u64,
    /// How long a rejected contractor, or one whose verification is over, is remembered as such; afterwards as if never seen.
    pub contractor_retention_ms: u64,
    /// How often wall-clock work is done: limits of waiting, expiries, forgetting.
    pub punctuation_interval_ms: u64,
    /// Partitions of the internal repartition topics: the limit of parallel tasks.
    pub internal_partitions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3_600_000;
        Self {
            verification_wait_ms: 10 * 60_000,
            request_wait_ms: 60_000,
            closed_retention_ms: 30 * DAY_MS,
            contractor_retention_ms: 90 * DAY_MS,
            punctuation_interval_ms: 1_000,
            internal_partitions: 3,
        }
    }
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Text that names the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<(), String> {
        for (name, value) in [
            ("closed_retention_ms", self.closed_retention_ms),
            ("contractor_retention_ms", self.contractor_retention_ms),
            ("punctuation_interval_ms", self.punctuation_interval_ms),
            ("internal_partitions", self.internal_partitions.into()),
        ] {
            if value == 0 {
                return Err(format!("{name}: found 0, wanted at least 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retentions_and_intervals_of_nothing_are_refused() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let forgetful = Settings { closed_retention_ms: 0, ..Settings::default() };
        assert!(forgetful.validate().unwrap_err().starts_with("closed_retention_ms: found 0"));
        let at_once =
            Settings { verification_wait_ms: 0, request_wait_ms: 0, ..Settings::default() };
        assert_eq!(at_once.validate(), Ok(()), "no waiting at all is a choice");
    }
}
