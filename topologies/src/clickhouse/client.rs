//! ClickHouse's HTTP interface, as much as the sink needs of it; works from 18.16 on.

use std::time::Duration;

use kstreams::{Error, ErrorKind, Result};
use ureq::Agent;

use super::settings::Settings;
use crate::queries::percent_encoded;

/// An answer is no larger: offsets of a batch, a line each.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Of an error's text, so much is told.
const ERROR_TEXT_MAX: usize = 300;

/// Talks to one server.
pub struct ClickHouse {
    agent: Agent,
    settings: Settings,
}

impl ClickHouse {
    /// A client; nothing is asked yet.
    pub fn new(settings: &Settings) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(settings.request_timeout_ms)))
            .http_status_as_error(false)
            .tls_config(
                ureq::tls::TlsConfig::builder()
                    .provider(ureq::tls::TlsProvider::NativeTls)
                    .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                    .build(),
            )
            .build()
            .into();
        Self { agent, settings: settings.clone() }
    }

    /// The database that it works in.
    pub fn database(&self) -> &str {
        &self.settings.database
    }

    /// Runs a statement; returns what it prints.
    ///
    /// # Errors
    /// `Retriable` where nobody answers or the server is not able to, `Invalid` where it refuses the statement or the user.
    pub fn run(&self, statement: &str) -> Result<String> {
        self.post("", statement.as_bytes().to_vec())
    }

    /// Inserts rows, one JSON object a line, in one statement.
    ///
    /// # Errors
    /// As [`run`](Self::run); whether rows are in is not known then.
    pub fn insert(&self, table: &str, rows: Vec<u8>) -> Result<()> {
        let database = &self.settings.database;
        let statement = format!("INSERT INTO {database}.{table} FORMAT JSONEachRow");
        let query = format!("query={}", percent_encoded(&statement));
        self.post(&query, rows).map(drop)
    }

    fn post(&self, query: &str, body: Vec<u8>) -> Result<String> {
        let Settings { url, user, password, .. } = &self.settings;
        let address = format!("{}/?{query}", url.trim_end_matches('/'));
        let silent = |error: ureq::Error| {
            Error::retriable(format!("ClickHouse at \"{url}\" does not answer: {error}"))
        };
        let mut request = self.agent.post(&address).header("X-ClickHouse-User", user);
        if !password.is_empty() {
            request = request.header("X-ClickHouse-Key", password);
        }
        let mut response = request.send(body).map_err(silent)?;
        let status = response.status().as_u16();
        let limited = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = limited.read_to_string().map_err(silent)?;
        if status == 200 {
            return Ok(text);
        }
        let shown: String = text.trim().chars().take(ERROR_TEXT_MAX).collect();
        let told = format!("ClickHouse at \"{url}\" answered {status}: {shown}");
        Err(Error::new(kind_of(status, &text), told))
    }
}

/// Exceptions that a wrong statement, name or user leads to; everything else may go away by itself.
fn kind_of(status: u16, text: &str) -> ErrorKind {
    let code = text.strip_prefix("Code: ").and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse::<u32>().ok()
    });
    match code {
        // Unknown function, identifier, table, database, setting; syntax; wrong user or password; not allowed.
        Some(46 | 47 | 60 | 62 | 81 | 115 | 192 | 193 | 194 | 497 | 516) => ErrorKind::Invalid,
        _ if matches!(status, 401 | 403 | 404) => ErrorKind::Invalid,
        _ => ErrorKind::Retriable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_trouble() {
        let refused = "Code: 60, e.displayText() = DB::Exception: Table default.x doesn't exist.";
        assert_eq!(kind_of(500, refused), ErrorKind::Invalid);
        assert_eq!(kind_of(404, "There is no handle /"), ErrorKind::Invalid);
        let busy = "Code: 252. DB::Exception: Too many parts";
        assert_eq!(kind_of(500, busy), ErrorKind::Retriable);
        assert_eq!(kind_of(502, "bad gateway"), ErrorKind::Retriable);
    }
}
