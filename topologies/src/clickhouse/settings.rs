//! Settings of the sink.

use serde::{Deserialize, Serialize};

/// Where ClickHouse is, and how it is fed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Base address of its HTTP interface; empty: there is no sink.
    pub url: String,
    /// The database; it must exist.
    pub database: String,
    /// Its user.
    pub user: String,
    /// The user's password, or empty. A secret.
    pub password: String,
    /// Rows of an insert, at most; what is buffered is never more.
    pub batch_rows: usize,
    /// Bytes of an insert, at most but for the last record's.
    pub batch_max_bytes: usize,
    /// How long a row waits for others.
    pub batch_interval_ms: u64,
    /// Until when a request must be answered.
    pub request_timeout_ms: u64,
    /// The longest time between two attempts while ClickHouse does not answer.
    pub retry_backoff_max_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            database: "default".into(),
            user: "default".into(),
            password: String::new(),
            batch_rows: 10_000,
            batch_max_bytes: 8 << 20,
            batch_interval_ms: 1_000,
            request_timeout_ms: 30_000,
            retry_backoff_max_ms: 30_000,
        }
    }
}

impl Settings {
    /// Checks ranges and forms.
    ///
    /// # Errors
    /// What is wrong: setting, found, wanted.
    pub fn validate(&self) -> Result<(), String> {
        let is_address = self.url.starts_with("http://") || self.url.starts_with("https://");
        if !self.url.is_empty() && (!is_address || self.url.contains(['?', '@'])) {
            return Err("url: wanted http://host:port without user or query, or nothing; \
                        set user and password apart"
                .to_owned());
        }
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.database.is_empty() || !self.database.chars().all(named) {
            let found = &self.database;
            return Err(format!("database: found \"{found}\", wanted letters, digits and _"));
        }
        for (name, value) in [
            ("batch_rows", self.batch_rows as u64),
            ("batch_max_bytes", self.batch_max_bytes as u64),
            ("request_timeout_ms", self.request_timeout_ms),
            ("retry_backoff_max_ms", self.retry_backoff_max_ms),
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
    fn wrong_settings_are_named() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        assert!(wrong(|s| s.url = "ch:8123".into()).starts_with("url: wanted http://"));
        assert!(!wrong(|s| s.url = "http://me:hunter2@ch".into()).contains("hunter2"));
        assert!(wrong(|s| s.database = "a;b".into()).starts_with("database: found \"a;b\""));
        assert!(wrong(|s| s.batch_rows = 0).starts_with("batch_rows: found 0"));
    }
}
