//! Settings of the topology: plain data, read once at start.

use serde::{Deserialize, Serialize};

/// What may be configured of audit-fanout; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The length of the windows of the figures.
    pub window_ms: u64,
    /// How long after its end a window waits for figures of slower tasks.
    pub window_grace_ms: u64,
    /// How often ended windows are looked for.
    pub punctuation_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { window_ms: 60_000, window_grace_ms: 5_000, punctuation_interval_ms: 1_000 }
    }
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Text that names the setting, what was found and what is wanted.
    pub fn validate(&self) -> Result<(), String> {
        if self.window_ms < 1_000 {
            return Err(format!("window_ms: found {}, wanted at least 1000", self.window_ms));
        }
        if self.punctuation_interval_ms == 0 {
            return Err("punctuation_interval_ms: found 0, wanted at least 1".to_owned());
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
        let short = Settings { window_ms: 999, ..Settings::default() };
        assert!(short.validate().unwrap_err().starts_with("window_ms: found 999"));
        let never = Settings { punctuation_interval_ms: 0, ..Settings::default() };
        assert!(never.validate().unwrap_err().starts_with("punctuation_interval_ms"));
    }
}
