//! Other instances, over HTTP.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{Admin, KafkaClients as _, application_server};
use kstreams::serdes::tls_config;
use kstreams::{Clock as _, Error, ErrorKind, Result};
use serde_json::Value;
use ureq::Agent;
use ureq::typestate::WithoutBody;

use super::{Question, clock};
use crate::settings::HttpSettings;

/// Until when another instance must have answered.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is no larger: a partition's entries, or one object of a few lists.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How old a list of members may be.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Asks other instances, and knows who is in a group.
pub struct Peers {
    asker: Asker,
    /// `None`: there is nobody else (the local mode).
    clients: Option<LibrdkafkaClients>,
    groups: Mutex<Groups>,
    request_timeout: Duration,
}

#[derive(Default)]
struct Groups {
    admin: Option<Box<dyn Admin>>,
    /// Addresses of a group's members, and when they were asked for.
    addresses: BTreeMap<String, (Duration, Vec<String>)>,
}

impl Peers {
    /// Peers in the groups of a cluster, which demand what this instance demands itself.
    ///
    /// # Errors
    /// `Invalid` where the authorities to trust cannot be read.
    pub fn new(
        clients: Option<LibrdkafkaClients>,
        http: &HttpSettings,
        request_timeout: Duration,
    ) -> Result<Self> {
        Ok(Self { asker: Asker::new(http)?, clients, groups: Mutex::default(), request_timeout })
    }

    /// Asks one instance.
    ///
    /// # Errors
    /// The instance's own error with its kind; `Retriable` where it does not answer.
    pub fn get(&self, address: &str, path: &str) -> Result<Value> {
        self.asker.get(address, path)
    }

    /// The addresses of the members of a group; those without one are left out.
    ///
    /// # Errors
    /// The broker's.
    pub fn of_group(&self, group: &str) -> Result<Vec<String>> {
        let Some(clients) = &self.clients else { return Ok(Vec::new()) };
        let now = clock().monotonic();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, addresses)) = groups.addresses.get(group)
            && now.saturating_sub(*at) < AGE_MAX
        {
            return Ok(addresses.clone());
        }
        if groups.admin.is_none() {
            groups.admin = Some(clients.admin()?);
        }
        let admin = groups.admin.as_mut().expect("just made");
        let members = admin.describe_group(group, self.request_timeout)?;
        let addresses: Vec<String> = members
            .iter()
            .filter_map(|member| application_server(&member.client_id).map(str::to_owned))
            .collect();
        groups.addresses.insert(group.to_owned(), (now, addresses.clone()));
        Ok(addresses)
    }
}

/// Asks a running instance a question.
///
/// # Errors
/// `Retriable` where there is none, `Invalid` where nothing is known of it.
pub fn ask(instance: &str, question: &Question, http: &HttpSettings) -> Result<Value> {
    Asker::new(http)?.get(instance, &format!("/query/{}", question.path()))
}

/// The way to instances: their scheme, the authorities to trust, the token to show.
struct Asker {
    agent: Agent,
    scheme: &'static str,
    authorization: Option<String>,
}

impl Asker {
    fn new(http: &HttpSettings) -> Result<Self> {
        let ca_file = Some(http.tls_ca_file.as_path()).filter(|file| !file.as_os_str().is_empty());
        let tls = tls_config(ca_file).map_err(|error| error.context("setting http.tls_ca_file"))?;
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls)
            .build()
            .into();
        let token = Some(&http.bearer_token).filter(|token| !token.is_empty());
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Self { agent, scheme: if http.asks_by_tls() { "https" } else { "http" }, authorization })
    }

    fn get(&self, address: &str, path: &str) -> Result<Value> {
        let url = format!("{}://{address}{path}", self.scheme);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        get(request, &url)
    }
}

/// Asks an address for an object.
///
/// # Errors
/// The other side's error, by its status: 400 is `Invalid`, 503 and no answer `Retriable`, others `Fatal`.
fn get(request: ureq::RequestBuilder<WithoutBody>, url: &str) -> Result<Value> {
    let silent = |error: ureq::Error| {
        Error::retriable(format!("GET {url}: {error}; wanted a running instance there"))
    };
    let mut response = request.call().map_err(silent)?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(silent)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    if status == 200 {
        return Ok(body);
    }
    let kind = match status {
        400 | 404 => ErrorKind::Invalid,
        503 => ErrorKind::Retriable,
        _ => ErrorKind::Fatal,
    };
    let text = body["error"].as_str().map_or(format!("status {status}"), str::to_owned);
    Err(Error::new(kind, format!("GET {url}: {text}")))
}
