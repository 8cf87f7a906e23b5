//! Settings of the topology: plain data, read once at start.

use serde::{Deserialize, Serialize};

/// What may be configured of notifications; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a notification waits for what only another event says of its request: customer, manager, title.
    pub facts_wait_ms: u64,
    /// How long a notification waits for a way to reach its recipient.
    pub contact_wait_ms: u64,
    /// How long a finished request is remembered, for events that come late.
    pub closed_retention_ms: u64,
    /// How long a request is remembered of which nothing is heard.
    pub open_retention_ms: u64,
    /// How long a notification is remembered, so that a duplicate of its event makes no second one. Should not be below the
    /// retention of the topics read.
    pub made_retention_ms: u64,
    /// Language of recipients of whom none is known.
    pub default_locale: String,
    /// How often waiting and forgetting are looked at.
    pub punctuation_interval_ms: u64,
    /// Partitions of the internal repartition topics: the limit of parallel tasks.
    pub internal_partitions: u32,
}

const DAY_MS: u64 = 24 * 3_600_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            facts_wait_ms: 60_000,
            contact_wait_ms: 10 * 60_000,
            closed_retention_ms: 7 * DAY_MS,
            open_retention_ms: 90 * DAY_MS,
            made_retention_ms: 7 * DAY_MS,
            default_locale: "ru".to_owned(),
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
            ("open_retention_ms", self.open_retention_ms),
            ("made_retention_ms", self.made_retention_ms),
            ("punctuation_interval_ms", self.punctuation_interval_ms),
            ("internal_partitions", self.internal_partitions.into()),
        ] {
            if value == 0 {
                return Err(format!("{name}: found 0, wanted at least 1"));
            }
        }
        if self.default_locale.trim().is_empty() {
            return Err("default_locale: found an empty text, wanted a language such as ru".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let zero = Settings { made_retention_ms: 0, ..Settings::default() };
        assert!(zero.validate().unwrap_err().starts_with("made_retention_ms: found 0"));
        let blank = Settings { default_locale: " ".into(), ..Settings::default() };
        assert!(blank.validate().unwrap_err().starts_with("default_locale"));
    }
}
