//! What the test starts: three brokers, instances of the program, their load, a provider of SMS, Prometheus.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use test_support::{DEADLINE, Process, registry_url, wait_until};

use crate::lint::root;
use crate::prometheus::Prometheus;
use crate::registry_proxy::RegistryProxy;

/// Two instances with all topologies start beside three brokers on two cores: longer than usual.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Requests a second, and how many of them nobody can read.
const LOAD: [&str; 4] = ["--rate", "25", "--poison", "0.02"];
/// The simulated contractors, to be notified.
const CONTRACTORS: usize = 200;

pub(crate) struct Stack {
    pub(crate) prometheus: Prometheus,
    pub(crate) registry: RegistryProxy,
    ports: Vec<u16>,
    started: f64,
    sms: Option<tokio::runtime::Runtime>,
    sms_url: String,
    brokers: Brokers,
    folder: tempfile::TempDir,
}

/// The brokers of scripts/cluster.sh; they end with this process, whatever happens.
struct Brokers {
    folder: PathBuf,
    bootstrap: String,
}

impl Brokers {
    fn start(folder: PathBuf) -> Self {
        let script = root().join("scripts/cluster.sh");
        let owner = std::process::id().to_string();
        let output = Command::new(script)
            .arg("start")
            .arg(&folder)
            .args(["--nodes", "3", "--no-registry", "--owner", &owner])
            .env("KAFKA_HEAP", "-Xms128m -Xmx256m")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let env = std::fs::read_to_string(folder.join("env")).unwrap();
        let line =
            env.lines().find_map(|line| line.strip_prefix("export KSTREAMS_TEST_BOOTSTRAP="));
        Self { bootstrap: line.unwrap().to_owned(), folder }
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let script = root().join("scripts/cluster.sh");
        // The owner's end stops them too.
        let _ = Command::new(script).arg("stop").arg(&self.folder).output();
    }
}

impl Stack {
    /// Brokers with all topics, a Prometheus that waits for two instances.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = (0..2).map(|_| free_port()).collect();
        let targets: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let prometheus = Prometheus::start(folder.path(), &targets);
        let (sms_url, sms) = sms_provider();
        let stack = Self {
            prometheus,
            registry: RegistryProxy::start(&registry_url()),
            ports,
            started: now(),
            sms: Some(sms),
            sms_url,
            brokers: Brokers::start(folder.path().join("cluster")),
            folder,
        };
        for arguments in [["topics", "apply"], ["schemas", "push"]] {
            stack.run(&arguments);
        }
        let contacts = stack.folder.path().join("contacts.json");
        let contact = |number| json!({"recipient": format!("contractor:{number}"), "phone": format!("+7{number:010}"), "locale": "en"});
        let list: Vec<_> = (1..=CONTRACTORS).map(contact).collect();
        std::fs::write(&contacts, json!(list).to_string()).unwrap();
        stack.run(&["contacts", "import", contacts.to_str().unwrap(), "--yes"]);
        stack
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        command
            .env_clear()
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.brokers.bootstrap)
            .env("KAFKA_SCHEMA_REGISTRY_URL", &self.registry.url)
            .env("KAFKA_DELIVERY_SMS_URL", &self.sms_url)
            .env("KAFKA_METRICS_JMX_NAMES", "true")
            // Half a minute until a killed instance is noticed would be waited for in vain.
            .env("KAFKA_SESSION_TIMEOUT_MS", "6000")
            .env("KAFKA_HEARTBEAT_INTERVAL_MS", "1000")
            .args(arguments);
        command
    }

    /// Starts the next of the two instances, with every topology.
    pub(crate) fn instance(&mut self, name: &str) -> Instance {
        let port = self.ports.remove(0);
        let mut command = self.command(&["run"]);
        command
            .env("KAFKA_STATE_DIR", self.folder.path().join(name))
            .env("KAFKA_HTTP_BIND", format!("127.0.0.1:{port}"));
        Instance { process: Process::start(command), port }
    }

    /// Simulated traffic, for as long as it is held.
    pub(crate) fn load(&self) -> Process {
        Process::start(self.command(&[&["simulate"], &LOAD[..]].concat()))
    }

    /// From the start to now, in seconds since 1970.
    pub(crate) fn times(&self) -> (f64, f64) {
        (self.started, now())
    }

    /// SIGKILL for a broker.
    pub(crate) fn kill_broker(&self, node: u32) {
        let file = self.brokers.folder.join(format!("kafka-{node}.pid"));
        let id = std::fs::read_to_string(file).unwrap();
        let status = Command::new("sh").args(["-c", "kill -s KILL \"$0\"", id.trim()]).status();
        assert!(status.unwrap().success());
    }

    /// A record, a minute old, whose schema no instance has seen: it waits for the registry.
    pub(crate) fn send_with_an_unseen_schema(&self) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers.bootstrap).create().unwrap();
        let mut value = vec![0];
        value.extend_from_slice(&0x7fff_ff00_u32.to_be_bytes());
        let minute_ago = ((now() - 60.0) * 1000.0) as i64;
        let record = BaseRecord::to("request-events").key("x").payload(&value);
        producer.send(record.timestamp(minute_ago)).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(sms) = self.sms.take() {
            sms.shutdown_background();
        }
    }
}

/// A running program with every topology.
pub(crate) struct Instance {
    pub(crate) process: Process,
    port: u16,
}

impl Instance {
    pub(crate) fn wait_until_running(&mut self) {
        let show = self.process.tail();
        wait_until(&format!("all topologies running: {show}"), PATIENCE, || {
            assert_eq!(self.process.exit_status(), None, "{}", self.process.tail());
            ask(self.port, "/health/ready").is_some_and(|answer| answer.contains(" 200 "))
        });
    }

    /// What `/metrics` says.
    pub(crate) fn metrics(&self) -> String {
        let answer = ask(self.port, "/metrics").unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

fn ask(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// An HTTP server that takes every message.
fn sms_provider() -> (String, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener =
        runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let url = format!("http://{}/send", listener.local_addr().unwrap());
    let routes = axum::Router::new().fallback(async || json!({"id": "1"}).to_string());
    runtime.spawn(async move { axum::serve(listener, routes).await });
    (url, runtime)
}

#[expect(clippy::disallowed_methods, reason = "Prometheus keeps real time")]
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
