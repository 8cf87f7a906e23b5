//! Settings of the topology: plain data, read once at start.

use serde::{Deserialize, Serialize};

/// What may be configured of hr-documents; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a completion waits for its request and its assignment, in milliseconds; then it is a dead letter.
    pub completion_wait_ms: u64,
    /// How long a signature or payment waits for the document it names; then it is ignored and counted.
    pub document_wait_ms: u64,
    /// `status` of `hr.payment_processed` that means that nothing was paid, comma separated.
    pub payment_failed_statuses: String,
    /// How long a finished request is remembered, so that late events and duplicates make no second documents. Should not be
    /// below the retention of `workflow-events`. Open paperwork is never forgotten.
    pub closed_retention_ms: u64,
    /// How often wall-clock work is done: limits of waiting, forgetting.
    pub punctuation_interval_ms: u64,
    /// Partitions of the internal repartition topics: the limit of parallel tasks.
    pub internal_partitions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            completion_wait_ms: 3_600_000,
            document_wait_ms: 3_600_000,
            payment_failed_statuses: "refused,failed,rejected,declined,cancelled".to_owned(),
            closed_retention_ms: 30 * 24 * 3_600_000,
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
            ("punctuation_interval_ms", self.punctuation_interval_ms),
            ("internal_partitions", self.internal_partitions.into()),
        ] {
            if value == 0 {
                return Err(format!("{name}: found 0, wanted at least 1"));
            }
        }
        Ok(())
    }

    /// Whether a payment of this status has failed.
    pub fn has_failed(&self, status: &str) -> bool {
        let mut failed = self.payment_failed_statuses.split(',').map(str::trim);
        failed.any(|failed| !failed.is_empty() && failed.eq_ignore_ascii_case(status.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_payments_are_told_by_their_status() {
        let settings = Settings::default();
        assert_eq!(
            ["refused", " Failed", "paid", ""].map(|status| settings.has_failed(status)),
            [true, true, false, false]
        );
        let all = Settings { payment_failed_statuses: String::new(), ..settings };
        assert!(!all.has_failed("refused") && !all.has_failed(""));
    }

    #[test]
    fn retentions_and_intervals_of_nothing_are_refused() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let forgetful = Settings { closed_retention_ms: 0, ..Settings::default() };
        assert!(forgetful.validate().unwrap_err().starts_with("closed_retention_ms: found 0"));
    }
}
