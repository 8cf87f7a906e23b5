//! The schema registry: the port, and its client for Confluent's REST interface.
//!
//! Called from stream threads and from tools, both blocking: a schema id is asked once in the life of a process
//! ([`SchemaCache`](super::SchemaCache) sees to that), and while the registry does not answer the thread has nothing
//! else to do. Hence a small blocking client and not `schema_registry_converter`, whose asynchronous client would need a
//! runtime per stream thread and hides the status codes that decide between a bad record and an outage.
//! Source: <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>; Apicurio's `ccompat/v7` where it
//! differs. Left out on purpose: schema references, and formats other than Avro.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, counter, histogram};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::tls::tls_config;
use crate::error::{Error, ErrorKind, Result};
use crate::time::{Clock as _, SystemClock};

/// The compatibility level that the contracts are held to.
pub const FULL_TRANSITIVE: &str = "FULL_TRANSITIVE";

/// A schema under a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// The subject.
    pub subject: String,
    /// Its version in the subject, from 1.
    pub version: u32,
    /// Its id, as frames carry it.
    pub id: u32,
    /// The schema as JSON text.
    pub schema: Arc<str>,
}

/// Knows schemas by id and by subject.
///
/// # Errors
/// All calls: `Retriable` where no registry answers, `Fatal` where it refuses us (401, 403).
pub trait SchemaRegistry: Send + Sync {
    /// The schema with this id; `None` where the registry says that it has none.
    ///
    /// # Errors
    /// `BadRecord` for a schema that is not Avro or has references.
    fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>>;
    /// The id of this very schema under `subject`; `None` where it is not registered there.
    fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>>;
    /// Registers a schema; one that is there already keeps its id.
    ///
    /// # Errors
    /// `Invalid` where the registry refuses the schema (not compatible, not Avro).
    fn register(&self, subject: &str, schema: &str) -> Result<u32>;
    /// All subjects, sorted.
    fn subjects(&self) -> Result<Vec<String>>;
    /// All versions of a subject, oldest first; empty where there is no such subject.
    fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>>;
    /// Whether `schema` could be registered now: what speaks against it, empty where nothing does.
    fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>>;
    /// The compatibility level set for a subject; `None` where it has the registry's own.
    fn compatibility(&self, subject: &str) -> Result<Option<String>>;
    /// Sets the compatibility level of a subject.
    fn set_compatibility(&self, subject: &str, level: &str) -> Result<()>;
}

/// Where the registry is and how to speak to it.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Base addresses, tried in order, beginning with the one that answered last. Kafka's `schema.registry.url`.
    pub urls: Vec<String>,
    /// User and password (`basic.auth.user.info`).
    pub basic_auth: Option<(String, String)>,
    /// Token of the header `Authorization: Bearer` (`bearer.auth.token`), where there is no user.
    pub bearer_token: Option<String>,
    /// PEM file with the authorities to trust; the system's where none is given.
    pub ca_file: Option<PathBuf>,
    /// Until when one request must be answered; 5 s by default.
    pub request_timeout: Duration,
}

impl RegistryConfig {
    /// A configuration for one address, or several separated by commas.
    pub fn new(urls: &str) -> Self {
        Self {
            urls: urls.split(',').map(|url| url.trim().to_owned()).collect(),
            basic_auth: None,
            bearer_token: None,
            ca_file: None,
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// The client of a registry behind HTTP.
#[derive(Debug)]
pub struct HttpRegistry {
    agent: Agent,
    urls: Vec<String>,
    authorization: Option<String>,
    /// Index of the address that answered last.
    current: AtomicUsize,
    clock: SystemClock,
}

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Confluent's `error_code`s of answers that mean "there is none".
const NOT_FOUND_CODES: [u64; 5] = [404, 40401, 40402, 40403, 40408];
/// Larger answers are refused: a schema is a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An answer of the registry.
enum Answer {
    Found(Value),
    NotFound,
    Refused(StatusCode, String),
}

impl HttpRegistry {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` where an address is missing or is not `http://…` or `https://…`, or the authorities cannot be read.
    pub fn new(config: RegistryConfig) -> Result<Self> {
        let urls: Vec<String> =
            config.urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let good = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if urls.is_empty() || !urls.iter().all(good) {
            return Err(Error::invalid(format!(
                "schema registry: found the address \"{}\", wanted http://host:port or https://host:port",
                config.urls.join(",")
            )));
        }
        let tls = tls_config(config.ca_file.as_deref())
            .map_err(|error| error.context("schema registry"))?;
        let agent = Agent::config_builder()
            .timeout_global(Some(config.request_timeout))
            .http_status_as_error(false)
            .tls_config(tls)
            .build()
            .into();
        let basic = config
            .basic_auth
            .map(|(user, password)| format!("Basic {}", base64(&format!("{user}:{password}"))));
        let authorization =
            basic.or_else(|| config.bearer_token.map(|token| format!("Bearer {token}")));
        for outcome in ["found", "not_found", "refused", "unreachable"] {
            requests("schemas", outcome).increment(0); // zero from the start, for alerts
        }
        let (current, clock) = (AtomicUsize::new(0), SystemClock::default());
        Ok(Self { agent, urls, authorization, current, clock })
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let start = self.clock.monotonic();
        let answer = self.try_all(method, path, body);
        let op = operation(path);
        let outcome = match &answer {
            Ok(Answer::Found(_)) => "found",
            Ok(Answer::NotFound) => "not_found",
            Ok(Answer::Refused(..)) => "refused",
            Err(_) => "unreachable",
        };
        requests(op, outcome).increment(1);
        let took = self.clock.monotonic().saturating_sub(start).as_secs_f64();
        histogram!("kstreams_schema_registry_request_duration_seconds", "op" => op).record(took);
        answer
    }

    /// Sends to one address after the other until one answers.
    fn try_all(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for step in 0..self.urls.len() {
            let index = (first + step) % self.urls.len();
            match self.send(method, &format!("{}{path}", self.urls[index]), body) {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    failures.push(error.message().to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::retriable(format!("schema registry does not answer: {}", failures.join("; "))))
    }

    /// What time the registry says it is: the header `Date` of an answer, whole seconds; `None` where it sends none.
    ///
    /// # Errors
    /// As of every call.
    pub fn date(&self) -> Result<Option<String>> {
        let url = format!("{}/subjects", self.urls[self.current.load(Ordering::Relaxed)]);
        let response = self.exchange("GET", &url, None)?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.map(str::to_owned))
    }

    fn send(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Answer> {
        answer(method, url, self.exchange(method, url, body)?)
    }

    fn exchange(
        &self,
        method: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Response<ureq::Body>> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header(header::ACCEPT, format!("{CONTENT_TYPE}, application/json"));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let invalid = |e: ureq::http::Error| {
            Error::invalid(format!("schema registry: \"{url}\" is not an address")).with_source(e)
        };
        let sent = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, CONTENT_TYPE);
                self.agent.run(request.body(body.to_string()).map_err(invalid)?)
            }
            None => self.agent.run(request.body(()).map_err(invalid)?),
        };
        sent.map_err(|error| Error::retriable(format!("{method} {url}: {error}")))
    }
}

fn requests(op: &'static str, outcome: &'static str) -> Counter {
    counter!("kstreams_schema_registry_requests_total", "op" => op, "outcome" => outcome)
}

/// What a path asks about, for metrics.
fn operation(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let known = ["schemas", "subjects", "compatibility", "config"];
    known.into_iter().find(|op| *op == first).unwrap_or("other")
}

fn answer(method: &str, url: &str, mut response: Response<ureq::Body>) -> Result<Answer> {
    let status = response.status();
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(|error| Error::retriable(format!("{method} {url}: {error}")))?;
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let code = value.as_ref().and_then(|value| value.get("error_code")).and_then(Value::as_u64);
    let message = value
        .as_ref()
        .and_then(|value| value.get("message").and_then(Value::as_str))
        .unwrap_or(text.trim())
        .to_owned();
    match (status, value) {
        (status, Some(value)) if status.is_success() => Ok(Answer::Found(value)),
        // A 404 without the registry's own code comes from something else at this address (a proxy, a wrong path): taken for
        // "no such schema", it would send every record to the dead letters.
        (StatusCode::NOT_FOUND, _) if code.is_some_and(|code| NOT_FOUND_CODES.contains(&code)) => {
            Ok(Answer::NotFound)
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(Error::fatal(format!(
            "{method} {url}: {status}: {message}; check the schema registry's user and password, or token"
        ))),
        (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST, _) => {
            Ok(Answer::Refused(status, message))
        }
        (status, _) => Err(Error::retriable(format!(
            "{method} {url}: found {status} ({}), wanted a schema registry's answer",
            message.chars().take(200).collect::<String>()
        ))),
    }
}

impl SchemaRegistry for HttpRegistry {
    fn schema_by_id(&self, id: u32) -> Result<Option<Arc<str>>> {
        let answer = match self.call("GET", &format!("/schemas/ids/{id}"), None)? {
            Answer::Found(answer) => answer,
            Answer::NotFound => return Ok(None),
            Answer::Refused(status, message) => {
                return Err(Error::bad_record(format!("schema id {id}: {status}: {message}")));
            }
        };
        let format = answer.get("schemaType").and_then(Value::as_str).unwrap_or("AVRO");
        if format != "AVRO" {
            return Err(Error::bad_record(format!("schema id {id}: found {format}, wanted AVRO")));
        }
        let references = answer.get("references").and_then(Value::as_array);
        if references.is_some_and(|list| !list.is_empty()) {
            return Err(Error::bad_record(format!(
                "schema id {id}: found references to other schemas, wanted one schema by itself"
            )));
        }
        Ok(Some(text(&answer, "schema")?.into()))
    }

    fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        // Normalised, because Apicurio otherwise compares texts to the letter.
        let path = format!("/subjects/{}?normalize=true", encode(subject));
        match self.call("POST", &path, Some(&body(schema)))? {
            Answer::Found(answer) => Ok(Some(number(&answer, "id")?)),
            Answer::NotFound => Ok(None),
            Answer::Refused(status, message) => Err(refused(subject, status, &message)),
        }
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let path = format!("/subjects/{}/versions", encode(subject));
        match self.call("POST", &path, Some(&body(schema)))? {
            Answer::Found(answer) => number(&answer, "id"),
            Answer::NotFound => Err(refused(subject, StatusCode::NOT_FOUND, "no such subject")),
            Answer::Refused(status, message) => Err(refused(subject, status, &message)),
        }
    }

    fn subjects(&self) -> Result<Vec<String>> {
        let mut subjects: Vec<String> = match self.call("GET", "/subjects", None)? {
            Answer::Found(answer) => serde_json::from_value(answer)
                .map_err(|e| Error::retriable("GET /subjects: wanted a list").with_source(e))?,
            Answer::NotFound => Vec::new(),
            Answer::Refused(status, message) => return Err(refused("*", status, &message)),
        };
        subjects.sort();
        Ok(subjects)
    }

    fn versions(&self, subject: &str) -> Result<Vec<RegisteredSchema>> {
        let path = format!("/subjects/{}/versions", encode(subject));
        let numbers: Vec<u32> = match self.call("GET", &path, None)? {
            Answer::Found(answer) => serde_json::from_value(answer).map_err(|e| {
                Error::retriable(format!("GET {path}: wanted a list of numbers")).with_source(e)
            })?,
            Answer::NotFound => Vec::new(),
            Answer::Refused(status, message) => return Err(refused(subject, status, &message)),
        };
        let mut versions = Vec::with_capacity(numbers.len());
        for version in numbers {
            // One deleted in between is no longer a version.
            if let Answer::Found(answer) = self.call("GET", &format!("{path}/{version}"), None)? {
                versions.push(RegisteredSchema {
                    subject: subject.to_owned(),
                    version,
                    id: number(&answer, "id")?,
                    schema: text(&answer, "schema")?.into(),
                });
            }
        }
        Ok(versions)
    }

    fn check_compatibility(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        let path = format!("/compatibility/subjects/{}/versions?verbose=true", encode(subject));
        let answer = match self.call("POST", &path, Some(&body(schema)))? {
            Answer::Found(answer) => answer,
            // Nothing registered, nothing to be incompatible with.
            Answer::NotFound => return Ok(Vec::new()),
            Answer::Refused(status, message) => return Ok(vec![format!("{status}: {message}")]),
        };
        if answer.get("is_compatible").and_then(Value::as_bool) == Some(true) {
            return Ok(Vec::new());
        }
        let messages = answer.get("messages").and_then(Value::as_array);
        let messages: Vec<String> = messages
            .into_iter()
            .flatten()
            .map(|message| message.as_str().map_or_else(|| message.to_string(), str::to_owned))
            .collect();
        Ok(if messages.is_empty() {
            vec![format!("the registry says that \"{subject}\" is not compatible")]
        } else {
            messages
        })
    }

    fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        match self.call("GET", &format!("/config/{}", encode(subject)), None)? {
            Answer::Found(answer) => Ok(Some(text(&answer, "compatibilityLevel")?)),
            Answer::NotFound => Ok(None),
            Answer::Refused(status, message) => Err(refused(subject, status, &message)),
        }
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        let path = format!("/config/{}", encode(subject));
        match self.call("PUT", &path, Some(&json!({ "compatibility": level })))? {
            Answer::Found(_) => Ok(()),
            Answer::NotFound => Err(refused(subject, StatusCode::NOT_FOUND, "no such subject")),
            Answer::Refused(status, message) => Err(refused(subject, status, &message)),
        }
    }
}

/// Without the file's last line break: Python's serializer strips it and then asks for the very text.
fn body(schema: &str) -> Value {
    json!({ "schema": schema.trim() })
}

fn refused(subject: &str, status: StatusCode, message: &str) -> Error {
    Error::invalid(format!("schema registry, subject \"{subject}\": {status}: {message}"))
}

fn text(answer: &Value, key: &str) -> Result<String> {
    let text = answer.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Error::retriable(format!("schema registry: answer without \"{key}\"")))
}

fn number(answer: &Value, key: &str) -> Result<u32> {
    let number = answer.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    number.ok_or_else(|| Error::retriable(format!("schema registry: answer without \"{key}\"")))
}

/// Percent-encodes a subject for a path.
fn encode(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Base64 with padding (RFC 4648), for the one header that needs it.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(text.len().div_ceil(3) * 4);
    for chunk in text.as_bytes().chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let sextet = (group >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[sextet as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_percent_encoding_follow_their_specifications() {
        for (text, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(text), wanted);
        }
        assert_eq!(encode("request-events-a.b/C d"), "request-events-a.b%2FC%20d");
    }

    #[test]
    fn an_address_without_a_scheme_is_refused_at_start() {
        let error = HttpRegistry::new(RegistryConfig::new("localhost:8081")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("localhost:8081"), "{error}");
    }
}
