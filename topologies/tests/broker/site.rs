//! Fresh topics for one test at a time, and the program on them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aggregator::topics::TOPICS;
use rdkafka::consumer::Consumer as _;
use serde_json::Value;
use test_support::{
    DEADLINE, Process, Signal, bootstrap, consumer, delete_topics, registry_url, unique, wait_until,
};

/// Tasks of the topology: for each of the five subtopologies as many as it has partitions.
pub(crate) const TASKS: usize = 6 + 3 + 6 + 3 + 6;

/// Topics have fixed names, so only one test at a time may have them.
static TURN: Mutex<()> = Mutex::new(());

/// The topics of one test, empty at the beginning, and gone at its end.
pub(crate) struct Site {
    prefix: String,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Waits for its turn; topics and schemas are made by the program itself.
    pub(crate) fn new() -> Self {
        let site = Self::without_topics();
        for arguments in [["topics", "apply"], ["schemas", "push"]] {
            let output = site.command(&arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        site
    }

    /// As [`new`](Self::new), but nothing is made.
    pub(crate) fn without_topics() -> Self {
        // A failed test leaves nothing half done that the next one would see.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        delete_all();
        Self { prefix: unique("site") + "-", folder: tempfile::tempdir().unwrap(), _turn: turn }
    }

    /// The program, with nothing of our own environment in its settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        command
            .env_clear()
            .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap())
            .env("KAFKA_SCHEMA_REGISTRY_URL", registry_url())
            .env("KAFKA_APPLICATION_ID_PREFIX", &self.prefix)
            .env("KAFKA_STATE_DIR", self.folder.path().join("state"))
            .env("KAFKA_HTTP_BIND", "127.0.0.1:0")
            .args(arguments);
        command
    }

    /// Starts manager-assignment, on the state folder `state` (created where it is missing), with
    /// logs that a test can read and `settings` over the defaults.
    pub(crate) fn start(&self, state: &str, settings: &[(&str, &str)]) -> Instance {
        self.start_these(state, &["manager-assignment"], settings)
    }

    /// As [`start`](Self::start), with these topologies.
    pub(crate) fn start_these(
        &self,
        state: &str,
        topologies: &[&str],
        settings: &[(&str, &str)],
    ) -> Instance {
        let mut command = self.command(&["run"]);
        command.args(topologies).args(["--set", "log.format=json"]);
        command.env("KAFKA_STATE_DIR", self.folder.path().join(state));
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        Instance { process: Process::start(command) }
    }

    /// The name of a topic of the application, such as a changelog.
    pub(crate) fn topic(&self, name: &str) -> String {
        self.topic_of("manager-assignment", name)
    }

    /// As [`topic`](Self::topic), of another topology.
    pub(crate) fn topic_of(&self, topology: &str, name: &str) -> String {
        format!("{}{topology}-{name}", self.prefix)
    }

    /// The topics that the application's topologies have for themselves.
    pub(crate) fn own_topics(&self) -> Vec<String> {
        let metadata = consumer(&[]).fetch_metadata(None, DEADLINE).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name());
        names.filter(|name| name.starts_with(&self.prefix)).map(str::to_owned).collect()
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Other tests would process all that is left.
        if !std::thread::panicking() {
            delete_all();
        }
    }
}

fn delete_all() {
    let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    delete_topics(&names);
}

/// A running program.
pub(crate) struct Instance {
    pub(crate) process: Process,
}

/// How a store came back at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restoration {
    pub(crate) store: String,
    /// Of its changelog.
    pub(crate) partition: String,
    /// Where its changelog was read from; `None`: from the beginning.
    pub(crate) from: Option<i64>,
}

/// What an instance's log says of its restorations.
#[derive(Debug, Default)]
pub(crate) struct Restorations {
    pub(crate) stores: Vec<Restoration>,
    /// Tasks that became ready.
    pub(crate) tasks: usize,
    /// Changelog records that were applied for them.
    pub(crate) records: u64,
}

impl Instance {
    /// Every line of the log so far.
    fn log(&self) -> impl Iterator<Item = Value> {
        self.process.lines().into_iter().filter_map(|line| serde_json::from_str(&line).ok())
    }

    /// Says what was restored so far.
    pub(crate) fn restorations(&self) -> Restorations {
        let mut found = Restorations::default();
        for line in self.log() {
            match line["message"].as_str() {
                // Without an offset it tells how far a restoration is.
                Some("restoring") if line["from"].is_string() => {
                    let from = line["from"].as_str().unwrap();
                    let offset = from.strip_prefix("At(").and_then(|text| text.strip_suffix(')'));
                    assert!(offset.is_some() || from == "Beginning", "{line}");
                    let [store, partition] =
                        ["store", "partition"].map(|name| line[name].as_str().unwrap().to_owned());
                    let from = offset.map(|offset| offset.parse().unwrap());
                    found.stores.push(Restoration { store, partition, from });
                }
                Some("task restored") => {
                    found.tasks += 1;
                    found.records += line["records"].as_u64().unwrap();
                }
                Some(text) => assert!(!text.contains("wiped"), "{line}"),
                None => {}
            }
        }
        found
    }

    /// Where it answers over HTTP, once it does.
    pub(crate) fn address(&mut self) -> String {
        let line = self.process.wait_for_line("serving /metrics", DEADLINE);
        let line: Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().to_owned()
    }

    /// The tasks that run here now, by name; none where it has ended.
    pub(crate) fn running_tasks(&mut self) -> Vec<String> {
        let Some(body) = get(&self.address(), "/tasks") else { return Vec::new() };
        let mut tasks = Vec::new();
        collect_running(&body, &mut tasks);
        tasks
    }

    /// Whether every topology runs, and has tasks here: `tasks` or more in all.
    pub(crate) fn is_ready(&mut self, tasks: usize) -> bool {
        let ready = ask(&self.address(), "/health/ready");
        ready.is_ok_and(|answer| answer.lines().next().is_some_and(|line| line.contains(" 200")))
            && self.running_tasks().len() >= tasks
    }

    /// Kills it on the spot.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::Kill);
        assert_eq!(self.process.wait(DEADLINE).code(), None);
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        self.process.signal(Signal::Terminate);
        assert_eq!(self.process.wait(DEADLINE).code(), Some(0), "{}", self.process.tail());
    }

    /// Waits until it has `count` running tasks.
    pub(crate) fn wait_for_tasks(&mut self, count: usize) {
        wait_until(&format!("{count} running tasks"), DEADLINE, || {
            assert_eq!(self.process.exit_status(), None, "{}", self.process.tail());
            self.running_tasks().len() == count
        });
    }
}

/// What an address answers over HTTP, as JSON; none where nobody answers.
pub(crate) fn get(address: &str, path: &str) -> Option<Value> {
    let answer = ask(address, path).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(serde_json::from_str(body).unwrap())
}

/// The same with its headers, whatever it is.
pub(crate) fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Finds the tasks wherever the answer nests them.
fn collect_running(value: &Value, tasks: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect_running(value, tasks)),
        Value::Object(fields) => match (fields.get("task"), fields.get("state")) {
            (Some(Value::String(task)), Some(state)) if state == "running" => {
                tasks.push(task.clone());
            }
            _ => fields.values().for_each(|value| collect_running(value, tasks)),
        },
        _ => {}
    }
}
