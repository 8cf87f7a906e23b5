//! What the two HTTP providers share: one POST of JSON, and its answer as status and JSON.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::rules::{Reason, Verdict};

/// An answer longer than this is cut off.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// So much of an answer that is no JSON goes into errors.
const QUOTED_CHARS_MAX: usize = 200;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of the header `Retry-After`, in milliseconds.
    pub(super) retry_after_ms: Option<i64>,
    pub(super) body: Value,
}

/// A client whose requests end within `timeout_ms`.
pub(super) fn agent(timeout_ms: u64) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(timeout_ms)))
        .http_status_as_error(false)
        .tls_config(tls)
        .build()
        .into()
}

/// Posts JSON.
///
/// # Errors
/// Where there was no answer; the text holds no part of the address, which may hold a token.
pub(super) fn post(
    agent: &Agent,
    url: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Answer, String> {
    let mut request = agent.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send_json(body).map_err(|error| no_answer(&error))?;
    let header = response.headers().get("retry-after").and_then(|text| text.to_str().ok());
    let retry_after_ms =
        header.and_then(|text| text.trim().parse::<i64>().ok()).map(|s| s.saturating_mul(1_000));
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(|error| no_answer(&error))?;
    let quoted = || Value::String(text.chars().take(QUOTED_CHARS_MAX).collect());
    let body = serde_json::from_str(&text).unwrap_or_else(|_| quoted());
    Ok(Answer { status, retry_after_ms, body })
}

fn no_answer(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "the host is not found".to_owned(),
        ureq::Error::ConnectionFailed => "cannot connect".to_owned(),
        ureq::Error::Io(error) => format!("cannot connect, or the connection broke: {error}"),
        ureq::Error::Tls(text) => format!("cannot encrypt: {text}"),
        _ => "the request failed".to_owned(),
    }
}

/// A verdict that it may be sent later.
pub(super) fn later(reason: Reason, error: String, retry_after_ms: Option<i64>) -> Verdict {
    // A provider's clock may be wrong: no pause is longer than an hour, or negative.
    let retry_after_ms = retry_after_ms.map(|ms| ms.clamp(0, 3_600_000));
    Verdict::Later { reason, error, retry_after_ms }
}
