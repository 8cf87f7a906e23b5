//! The command `aggregator` on a real Kafka and registry: topics, dead letters, start and stop.
#![cfg(feature = "broker-tests")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;

use aggregator::events::{self, Manager};
use kstreams::serdes::{Encoded, HttpRegistry, RegistryConfig, SchemaCache};
use kstreams::{Clock, SystemClock};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use test_support::{
    DEADLINE, Message, Outcome, Process, Signal, bootstrap, produce, registry_url, unique,
    wait_until,
};

/// The program, with application ids of its own.
struct Program {
    prefix: String,
    state: tempfile::TempDir,
}

impl Program {
    fn new() -> Self {
        let program = Self { prefix: unique("ops") + "-", state: tempfile::tempdir().unwrap() };
        assert!(program.run(&["topics", "apply"]).status.code().is_some());
        assert!(program.run(&["schemas", "push"]).status.success());
        program
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        command
            .env_clear()
            .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap())
            .env("KAFKA_SCHEMA_REGISTRY_URL", registry_url())
            .env("KAFKA_APPLICATION_ID_PREFIX", &self.prefix)
            .env("KAFKA_STATE_DIR", self.state.path())
            .env("KAFKA_HTTP_BIND", "127.0.0.1:0")
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn dead_letters(&self, topic: &str) -> String {
        format!("{}manager-assignment-{topic}-dlq", self.prefix)
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The last line of standard error: the error, after what was logged.
#[track_caller]
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last = text.lines().last().unwrap();
    last.strip_prefix("error: ").unwrap().to_owned()
}

fn set_retention(topic: &str, retention_ms: &str) {
    let config = ClientConfig::new().set("bootstrap.servers", bootstrap()).to_owned();
    let admin: AdminClient<_> = config.create().unwrap();
    let resource = ResourceSpecifier::Topic(topic);
    let alter = AlterConfig::new(resource).set("retention.ms", retention_ms);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(admin.alter_configs([&alter], &AdminOptions::new())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn topics_are_applied_drift_is_shown_and_corrected() {
    let program = Program::new();
    let topic = program.dead_letters("request-events");
    let of_ours = |output: &Output| -> Vec<String> {
        let text = text(output);
        // Topics of the table are shared with other tests; what is said of them fits the exit code.
        assert_eq!(output.status.success(), text.contains(" 0 differences"), "{output:?}");
        text.lines().filter(|line| line.contains(&program.prefix)).map(str::to_owned).collect()
    };
    assert_eq!(of_ours(&program.run(&["topics", "diff"])), [""; 0]);

    set_retention(&topic, "1000");
    // A plain client's change of one entry puts the others back to the broker's defaults. A broker hears of it a little later.
    let wanted = format!("topic \"{topic}\", retention.ms: found 1000, wanted 2592000000");
    wait_until("the drift to be seen", DEADLINE, || {
        of_ours(&program.run(&["topics", "diff"])).contains(&wanted)
    });

    let applied = text(&program.run(&["topics", "apply"]));
    assert!(applied.contains(&format!("changed {wanted}")), "{applied}");
    wait_until("the drift to be gone", DEADLINE, || {
        of_ours(&program.run(&["topics", "diff"])).is_empty()
    });
}

fn manager_frame() -> Vec<u8> {
    let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let schemas = SchemaCache::new(Arc::new(registry), clock.clone());
    let serdes = events::serdes(&schemas, &clock).unwrap();
    let manager = Manager {
        manager_id: -7,
        name: "Ada".into(),
        email: "ada@example.org".into(),
        region: "North".into(),
        capacity: 3,
        active: true,
    };
    let mut bytes = Vec::new();
    let encoded = serdes.managers.serializer().serialize("managers", &manager, &mut bytes);
    assert_eq!(encoded.unwrap(), Encoded::Bytes);
    bytes
}

fn letter(value: Option<Vec<u8>>, key: &[u8], class: &str, message: &str) -> Message {
    let header = |name: &str, text: &str| {
        (format!("__streams.errors.{name}"), Some(text.as_bytes().to_vec()))
    };
    Message {
        partition: Some(1),
        key: Some(key.to_vec()),
        value,
        headers: vec![
            ("traceparent".into(), Some(b"00-abc".to_vec())),
            header("class", class),
            header("message", message),
            header("topic", "managers"),
            header("partition", "1"),
            header("offset", "42"),
            header("timestamp", "951782400000"),
        ],
        ..Message::default()
    }
}

#[test]
fn dead_letters_are_listed_and_shown_decoded() {
    let program = Program::new();
    let topic = program.dead_letters("managers");
    let empty = program.run(&["dlq", "list"]);
    assert_eq!(text(&empty), "0 dead letters\n", "{empty:?}");

    let mut trailing = manager_frame();
    trailing.push(9);
    let letters = [
        letter(Some(manager_frame()), b"-7", "processing_error", "manager_id: found -7"),
        letter(Some(b"garbage".to_vec()), &[0, 255], "deserialization_error", "not a frame"),
        letter(Some(trailing), b"8", "deserialization_error", "1 byte too many"),
        letter(None, b"9", "deserialization_error", "found null"),
    ];
    produce(&topic, &letters, Outcome::Committed);
    produce(&topic, &letters, Outcome::Aborted);

    let list = text(&program.run(&["dlq", "list"]));
    let lines: Vec<&str> = list.lines().collect();
    let first = format!(
        "{topic}-1@0 2000-02-29T00:00:00.000Z processing_error from managers-1@42: manager_id: found -7"
    );
    assert_eq!(lines[0], first);
    let total = "4 dead letters: 3 deserialization_error, 1 processing_error";
    assert_eq!((lines.len(), lines[4]), (5, total), "{list}");
    let filter = ["dlq", "list", &topic, "--class", "deserialization_error", "--reason", "null"];
    assert!(text(&program.run(&filter)).ends_with("1 dead letters: 1 deserialization_error\n"));

    let place = |offset: usize| format!("{topic}-1@{offset}");
    let masked = |offset| text(&program.run(&["dlq", "show", &place(offset)]));
    let good = masked(0);
    assert!(good.contains("\"email\": \"***\"") && good.contains("\"name\": \"***\""), "{good}");
    assert!(good.contains("\"region\": \"North\"") && !good.contains("Ada"), "{good}");
    let garbage = masked(1);
    assert!(garbage.contains("--personal-data shows them"), "{garbage}");
    assert!(!garbage.contains("67 61 72 62"), "{garbage}");
    let show = |offset| text(&program.run(&["dlq", "show", "--personal-data", &place(offset)]));
    let good = show(0);
    for part in [
        "reason   manager_id: found -7",
        "header   traceparent = \"00-abc\"",
        "key      \"-7\"",
        "aggregator.events.Manager (schema id ",
        "\"email\": \"ada@example.org\"",
        "\"manager_id\": -7",
    ] {
        assert!(good.contains(part), "no {part} in {good}");
    }
    let garbage = show(1);
    assert!(garbage.contains("key      0x00ff (2 bytes)"), "{garbage}");
    assert!(garbage.contains("0000  67 61 72 62 61 67 65"), "{garbage}");
    assert!(show(2).contains("1 bytes too many at its end"));
    assert!(show(3).contains("value    null"));
    assert_eq!(text(&program.run(&["dlq", "show", &topic])).matches("reason ").count(), 4);

    let missing = error(&program.run(&["dlq", "show", &format!("{topic}-1@77")]));
    assert!(missing.starts_with("found no dead letter at"), "{missing}");
    let missing = error(&program.run(&["dlq", "show", "nothing"]));
    assert!(missing.starts_with("found no topic \"nothing\", wanted"), "{missing}");
}

fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_running_topology_tells_about_itself_holds_its_folder_and_stops_in_order() {
    let program = Program::new();
    let jmx = "metrics.jmx_names=true";
    let mut app = Process::start(program.command(&["run", "manager-assignment", "--set", jmx]));
    let line = app.wait_for_line("serving /metrics", DEADLINE);
    let address = line.rsplit_once("address=").unwrap().1.to_owned();
    app.wait_for_line("to=RUNNING", DEADLINE);
    assert!(ask(&address, "/health/live").starts_with("HTTP/1.1 200"));
    let ready = ask(&address, "/health/ready");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"RUNNING\""), "{ready}");
    assert!(ask(&address, "/topology").contains("Sub-topology: 0"));
    assert!(ask(&address, "/tasks").contains("\"task\":\"0_0\""));
    let metrics = ask(&address, "/metrics");
    assert!(metrics.contains("kstreams_client_state"), "{metrics}");
    assert!(metrics.contains("kstreams_dlq_records_total"), "{metrics}");
    let id = program.prefix.clone() + "manager-assignment";
    let state = format!("kafka_streams_stream_metrics{{client_id=\"{id}\",state=\"RUNNING\"}} 1");
    let thread = format!("process_total{{client_id=\"{id}\",thread_id=\"{id}-StreamThread-1\"}} ");
    assert!(metrics.contains(&state) && metrics.contains(&thread), "{metrics}");

    let second = error(&program.run(&["run"]));
    assert!(second.contains("locked by another process"), "{second}");

    app.signal(Signal::Terminate);
    assert_eq!(app.wait(DEADLINE).code(), Some(0), "{}", app.tail());
    assert!(app.lines().iter().any(|line| line.contains("to=NOT_RUNNING")), "{}", app.tail());
}

/// A file that scripts/cluster.sh has made for its listener with TLS.
fn tls(file: &str) -> String {
    let folder = std::env::var("KSTREAMS_TEST_TLS");
    format!("{}/{file}", folder.expect("KSTREAMS_TEST_TLS is set by `cluster.sh start … --users`"))
}

#[test]
fn over_https_an_instance_answers_those_who_show_the_token() {
    let program = Program::new();
    let (ca, other_ca) = (tls("ca.pem"), tls("other-ca.pem"));
    let ca_setting = format!("http.tls_ca_file={ca}");
    let settings = [
        format!("http.tls_certificate_file={}", tls("server.pem")),
        format!("http.tls_key_file={}", tls("server.key")),
        ca_setting.clone(),
        "http.bearer_token=open-sesame".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|one| ["--set", one]).collect();
    // Two topologies of which each has a part of the answer, in two instances: they ask each other by the same rules.
    let start = |topology: &str| {
        let mut command = program.command(&["run", topology]);
        command.args(&settings).env("KAFKA_STATE_DIR", program.state.path().join(topology));
        Process::start(command)
    };
    let (mut first, mut second) = (start("hr-documents"), start("contractor-access"));
    let address = |app: &mut Process| {
        let line = app.wait_for_line("serving /metrics", DEADLINE);
        line.rsplit_once("address=").unwrap().1.to_owned()
    };
    let (instance, other) = (address(&mut first), address(&mut second));
    first.wait_for_line("to=RUNNING", DEADLINE);
    second.wait_for_line("to=RUNNING", DEADLINE);
    assert_ne!(instance, other);

    let ask = |settings: &[&str]| {
        let mut arguments = vec!["get", "contractor", "7", "--instance", &instance];
        arguments.extend(settings.iter().flat_map(|one| ["--set", one]));
        program.run(&arguments)
    };
    let token = "http.bearer_token=open-sesame";
    // Nobody knows contractor 7, and both instances have said so.
    let text = error(&ask(&[&ca_setting, token]));
    assert!(text.contains("found nothing about"), "{text}");
    let text = error(&ask(&[&ca_setting]));
    assert!(text.contains("wanted the header Authorization: Bearer"), "{text}");
    let text = error(&ask(&[&ca_setting, "http.bearer_token=open-barley"]));
    assert!(text.contains("found no valid token") && !text.contains("barley"), "{text}");
    let text = error(&ask(&[&format!("http.tls_ca_file={other_ca}"), token]));
    assert!(text.contains("certificate verify failed"), "{text}");
    let text = error(&ask(&[token]));
    assert!(text.contains(&format!("GET http://{instance}")), "{text}");

    for mut app in [first, second] {
        app.signal(Signal::Terminate);
        assert_eq!(app.wait(DEADLINE).code(), Some(0), "{}", app.tail());
        assert!(app.lines().iter().all(|line| !line.contains("sesame")), "{}", app.tail());
    }
}

#[test]
fn a_registry_behind_https_is_asked_with_a_user_or_a_token() {
    let program = Program::new();
    let mut command = Command::new(test_support::python());
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/secured_registry.py"))
        .args([tls("server.pem"), tls("server.key"), registry_url()])
        // The user and password below by RFC 7617.
        .args(["Basic YW5uOnMzY3JldA==", "Bearer t0ken-of-ann"]);
    let mut registry = Process::start(command);
    let port = registry.wait_for_line("port ", DEADLINE);
    let url = format!("schema_registry.url=https://localhost:{}", &port["port ".len()..]);
    let check = |settings: &[&str]| {
        let mut arguments = vec!["schemas", "list", "--set", &url];
        arguments.extend(settings.iter().flat_map(|one| ["--set", one]));
        program.run(&arguments)
    };
    let ca = format!("schema_registry.ca_file={}", tls("ca.pem"));
    let user = "schema_registry.basic_auth_user_info=ann:s3cret";
    for known in [user, "schema_registry.bearer_auth_token=t0ken-of-ann"] {
        let output = check(&[&ca, known]);
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output).contains("RequestCreated"), "{output:?}");
    }
    let wrong = error(&check(&[&ca, "schema_registry.basic_auth_user_info=ann:wrong-word"]));
    assert!(wrong.contains("401") && wrong.contains("user and password, or token"), "{wrong}");
    assert!(!wrong.contains("wrong-word"), "{wrong}");
    let wrong = format!("schema_registry.ca_file={}", tls("other-ca.pem"));
    let wrong = error(&check(&[&wrong, user]));
    assert!(wrong.contains("certificate verify failed") && !wrong.contains("s3cret"), "{wrong}");
    let both = error(&check(&[&ca, user, "schema_registry.bearer_auth_token=t0ken"]));
    assert!(both.contains("wanted one of both"), "{both}");
}

#[test]
fn a_start_that_cannot_be_says_so_in_one_line() {
    let program = Program::new();
    let file = program.state.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state_dir = format!("kafka.state_dir={}", file.display());
    let text = error(&program.run(&["run", "--set", &state_dir]));
    assert!(text.contains("not writable") && text.contains("set state.dir"), "{text}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let text = error(&program.run(&["run", "--schema-registry-url", &url]));
    assert!(text.contains(&format!("wanted a schema registry at \"{url}\"")), "{text}");

    let text = error(&program.run(&["run", "--set", "client.securty.protocol=SSL"]));
    assert!(text.contains("securty.protocol"), "{text}");
}
