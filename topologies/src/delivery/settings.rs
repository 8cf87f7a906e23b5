//! Settings of the topology: plain data, read once at start.

use serde::{Deserialize, Serialize};

use super::circuit::Limits;
use crate::events::Channel;

/// What may be configured of notification-delivery; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder with templates that go before the built-in ones; empty: none.
    pub templates_dir: String,
    /// Language where neither the recipient's nor its main language has a template.
    pub default_locale: String,
    /// Messages that a task has under way on a channel at most, results not committed included.
    pub in_flight_max: usize,
    /// Attempts after which a message has failed.
    pub attempts_max: u32,
    /// The pause after the first attempt; each one after that is twice as long.
    pub backoff_min_ms: u64,
    /// The longest pause between attempts.
    pub backoff_max_ms: u64,
    /// How long a message is tried at all.
    pub give_up_after_ms: u64,
    /// How long a message waits for a way to reach its recipient.
    pub contact_wait_ms: u64,
    /// How long the id of a settled message is remembered. Should not be below the retention of `notification-commands`.
    pub sent_retention_ms: u64,
    /// Failures in a row that open a channel's circuit.
    pub circuit_failures: u32,
    /// For how long a circuit opens first; each time after that twice as long.
    pub circuit_open_min_ms: u64,
    /// For how long a circuit opens at most.
    pub circuit_open_max_ms: u64,
    /// How long a task that is given up waits for the results of what is under way. Longer than any `timeout_ms` of a channel.
    pub drain_timeout_ms: u64,
    /// How often results are fetched and messages sent.
    pub dispatch_interval_ms: u64,
    /// Partitions of the internal repartition topic: the limit of parallel tasks.
    pub internal_partitions: u32,
    /// The SMTP server.
    pub email: EmailSettings,
    /// The Telegram bot.
    pub telegram: TelegramSettings,
    /// The SMS provider.
    pub sms: SmsSettings,
}

/// The SMTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailSettings {
    /// Its host; empty: no e-mail is sent.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// File with the certificate that signs the server's, as PEM; empty: the system's.
    pub ca_file: String,
    /// Name to log in with; empty: no login.
    pub username: String,
    /// Password to log in with.
    pub password: String,
    /// Sender, such as `Service <noreply@example.org>`.
    pub from: String,
    /// Until when the server must have answered a command.
    pub timeout_ms: u64,
    /// Connections at a time.
    pub concurrency: usize,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all: for servers on this machine.
    None,
    /// From the command STARTTLS on, which the server must have.
    Starttls,
    /// From the first byte.
    Tls,
}

/// The Telegram bot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelegramSettings {
    /// Base address of the Bot API.
    pub url: String,
    /// The bot's token; empty: nothing is sent by Telegram.
    pub token: String,
    /// Until when a request must be answered.
    pub timeout_ms: u64,
    /// Requests at a time.
    pub concurrency: usize,
}

/// The SMS provider: one POST of a JSON object for each message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsSettings {
    /// Address of the request; empty: no SMS is sent.
    pub url: String,
    /// Token of the header `Authorization: Bearer`; empty: none.
    pub token: String,
    /// Sender, as the provider knows it; empty: the field is left out.
    pub from: String,
    /// Name of the field with the telephone number.
    pub to_field: String,
    /// Name of the field with the text.
    pub text_field: String,
    /// Name of the field with the sender.
    pub from_field: String,
    /// Name of the field with the message's id, which is also the header `Idempotency-Key`; empty: only the header.
    pub id_field: String,
    /// Name of the answer's field with the provider's id.
    pub answer_id_field: String,
    /// Until when a request must be answered.
    pub timeout_ms: u64,
    /// Requests at a time.
    pub concurrency: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            templates_dir: String::new(),
            default_locale: "ru".to_owned(),
            in_flight_max: 8,
            attempts_max: 8,
            backoff_min_ms: 1_000,
            backoff_max_ms: 300_000,
            give_up_after_ms: 24 * 3_600_000,
            contact_wait_ms: 60_000,
            sent_retention_ms: 7 * 24 * 3_600_000,
            circuit_failures: 5,
            circuit_open_min_ms: 1_000,
            circuit_open_max_ms: 30_000,
            drain_timeout_ms: 15_000,
            dispatch_interval_ms: 20,
            internal_partitions: 3,
            email: EmailSettings::default(),
            telegram: TelegramSettings::default(),
            sms: SmsSettings::default(),
        }
    }
}

impl Default for EmailSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            encryption: Encryption::Starttls,
            ca_file: String::new(),
            username: String::new(),
            password: String::new(),
            from: "Aggregator <noreply@localhost>".to_owned(),
            timeout_ms: 10_000,
            concurrency: 4,
        }
    }
}

impl Default for TelegramSettings {
    fn default() -> Self {
        Self {
            url: "https://api.telegram.org".to_owned(),
            token: String::new(),
            timeout_ms: 10_000,
            concurrency: 4,
        }
    }
}

impl Default for SmsSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            token: String::new(),
            from: String::new(),
            to_field: "to".to_owned(),
            text_field: "text".to_owned(),
            from_field: "from".to_owned(),
            id_field: "id".to_owned(),
            answer_id_field: "id".to_owned(),
            timeout_ms: 10_000,
            concurrency: 4,
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
            ("in_flight_max", self.in_flight_max as u64),
            ("attempts_max", self.attempts_max.into()),
            ("backoff_min_ms", self.backoff_min_ms),
            ("give_up_after_ms", self.give_up_after_ms),
            ("sent_retention_ms", self.sent_retention_ms),
            ("circuit_failures", self.circuit_failures.into()),
            ("circuit_open_min_ms", self.circuit_open_min_ms),
            ("dispatch_interval_ms", self.dispatch_interval_ms),
            ("internal_partitions", self.internal_partitions.into()),
            ("email.concurrency", self.email.concurrency as u64),
            ("telegram.concurrency", self.telegram.concurrency as u64),
            ("sms.concurrency", self.sms.concurrency as u64),
            ("email.timeout_ms", self.email.timeout_ms),
            ("telegram.timeout_ms", self.telegram.timeout_ms),
            ("sms.timeout_ms", self.sms.timeout_ms),
        ] {
            if value == 0 {
                return Err(format!("{name}: found 0, wanted at least 1"));
            }
        }
        for (low, high, low_ms, high_ms) in [
            ("backoff_min_ms", "backoff_max_ms", self.backoff_min_ms, self.backoff_max_ms),
            (
                "circuit_open_min_ms",
                "circuit_open_max_ms",
                self.circuit_open_min_ms,
                self.circuit_open_max_ms,
            ),
        ] {
            if low_ms > high_ms {
                return Err(format!("{high}: found {high_ms}, wanted at least {low} = {low_ms}"));
            }
        }
        if self.default_locale.trim().is_empty() {
            return Err("default_locale: found an empty text, wanted a language such as ru".into());
        }
        Ok(())
    }

    /// Whether a channel is switched on.
    pub fn is_on(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => !self.email.host.is_empty(),
            Channel::Telegram => !self.telegram.token.is_empty(),
            Channel::Sms => !self.sms.url.is_empty(),
            Channel::Unknown => false,
        }
    }

    /// The limits of circuits.
    pub(super) fn circuit_limits(&self) -> Limits {
        Limits {
            failures: self.circuit_failures,
            open_min_ms: signed(self.circuit_open_min_ms),
            open_max_ms: signed(self.circuit_open_max_ms),
        }
    }
}

/// Milliseconds of a setting.
pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        assert!(refused(|s| s.attempts_max = 0).starts_with("attempts_max: found 0"));
        assert!(refused(|s| s.sms.concurrency = 0).starts_with("sms.concurrency"));
        assert!(refused(|s| s.backoff_max_ms = 5).contains("wanted at least backoff_min_ms"));
        assert!(refused(|s| s.default_locale.clear()).starts_with("default_locale"));
    }

    #[test]
    fn a_channel_is_on_where_its_provider_is_named() {
        let mut settings = Settings::default();
        assert!(!settings.is_on(Channel::Email) && !settings.is_on(Channel::Telegram));
        settings.email.host = "mail.example.org".to_owned();
        settings.telegram.token = "1:x".to_owned();
        assert!(settings.is_on(Channel::Email) && settings.is_on(Channel::Telegram));
        assert!(!settings.is_on(Channel::Sms) && !settings.is_on(Channel::Unknown));
    }
}
