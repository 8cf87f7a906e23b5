//! One application, two engines: Kafka Streams restores what this engine has written to its changelogs and goes on where its
//! commits end, and the other way round. Each finds an empty state folder, so that nothing but the broker connects them.

mod parts;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kstreams::testing::TopologyTestDriver;
use kstreams::{Clock, KafkaStreams, StreamsBuilder, SystemClock, Timestamp, Topology};
use test_support::{
    DEADLINE, Follower, Message, Outcome, Process, Signal, Topic, bootstrap, create_topic, produce,
    unique, unread, wait_until,
};

use super::runtime::{config, log};
use parts::{PARTS, Part, Row};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    Ours,
    KafkaStreams,
}

/// Key, value, timestamp.
type Result3 = (String, Option<String>, i64);

fn topology(parts: &[Part], prefix: &str) -> Topology {
    let builder = StreamsBuilder::new();
    for part in parts {
        (part.build)(&builder, prefix);
    }
    builder.build().unwrap()
}

/// Rows as a task takes them that has them all before it.
fn in_order(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.3);
    rows
}

/// What an engine that never stops gives: the results of each output topic up to the end of each round.
fn expected(part: &Part, begin: i64) -> Vec<BTreeMap<&'static str, Vec<Result3>>> {
    let driver = TopologyTestDriver::new(topology(std::slice::from_ref(part), "")).unwrap();
    let mut so_far: BTreeMap<&'static str, Vec<Result3>> = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut rounds = Vec::new();
    for rows in part.rounds {
        for (topic, key, value, time) in in_order(rows) {
            let input = driver.input_topic::<String, Option<String>>(topic);
            let value = value.map(str::to_owned);
            input.pipe_at(key.to_owned(), value, Timestamp::from_millis(begin + time)).unwrap();
        }
        for output in part.outputs {
            while let Some(record) = driver.read_raw(output) {
                let (key, value) = (text(&record.key.unwrap()), record.value.map(|v| text(&v)));
                let results = so_far.entry(output).or_default();
                results.push((key, value, record.timestamp.as_millis()));
            }
        }
        rounds.push(so_far.clone());
    }
    rounds
}

/// The results in an output topic, as they come.
struct Output {
    follower: Follower,
    found: Vec<Result3>,
}

impl Output {
    fn new(topic: &str) -> Output {
        Output { follower: Follower::new(topic), found: Vec::new() }
    }

    fn look(&mut self) -> &[Result3] {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let found = &mut self.found;
        self.follower.look(&mut |message| {
            let (key, value) = (text(message.key.unwrap()), message.value.map(text));
            found.push((key, value, message.timestamp_ms.unwrap()));
        });
        found
    }
}

fn last_of_key(results: &[Result3]) -> BTreeMap<String, Option<String>> {
    results.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect()
}

fn feed(prefix: &str, begin: i64, part: &Part, round: usize) {
    let message = |(_, key, value, time): &Row| Message {
        key: Some(key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        timestamp_ms: Some(begin + time),
        ..Message::default()
    };
    for input in part.inputs {
        let rows = part.rounds[round].iter().filter(|row| row.0 == *input);
        let messages: Vec<Message> = rows.map(message).collect();
        produce(&format!("{prefix}{input}"), &messages, Outcome::Plain);
    }
}

/// Kafka Streams in a process of its own; what it said last is shown when a test fails.
struct Java(Process);

impl Java {
    fn start(application: &str, state: &Path) -> Java {
        let variable = |name: &str| std::env::var(name);
        let classpath = variable("KSTREAMS_TEST_JAVA_CLASSPATH")
            .expect("KSTREAMS_TEST_JAVA_CLASSPATH is set by `make test` and `cluster.sh start`");
        let java = variable("JAVA_HOME").map_or("java".to_owned(), |home| home + "/bin/java");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(java);
        command
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg(format!("-Djava.io.tmpdir={}", state.display()))
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                root.join("tests/cluster/log4j2.properties").display()
            ))
            .args(["-cp", &classpath])
            .arg(root.join("tests/broker/interop/Interop.java"))
            .args([&bootstrap(), application])
            .arg(state.join("streams"))
            .args(PARTS.iter().map(|part| part.name));
        Java(Process::start(command))
    }

    fn description(&mut self) -> String {
        self.0.wait_for_line("end of the topology", DEADLINE);
        let lines = self.0.lines();
        let text = |line: &String| format!("{line}\n");
        let lines = lines.iter().skip_while(|line| !line.starts_with("Topologies:"));
        lines.take_while(|line| !line.contains("end of the topology")).map(text).collect()
    }

    fn close(mut self) {
        self.0.signal(Signal::Terminate);
        self.0.wait_for_line("closed in time: true", DEADLINE);
        self.0.wait(DEADLINE);
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Kafka Streams' last lines:\n{}", self.0.tail());
        }
    }
}

/// Runs one engine from an empty folder until `done`.
fn run(engine: Engine, application: &str, prefix: &str, mut done: impl FnMut() -> bool) {
    let state = tempfile::tempdir().unwrap();
    let what = format!("{engine:?} to process what was fed");
    let topology = topology(PARTS, prefix);
    match engine {
        Engine::Ours => {
            let mut streams =
                KafkaStreams::new(topology, config(application, state.path())).unwrap();
            streams.start().unwrap();
            wait_until(&what, DEADLINE, &mut done);
            streams.close(DEADLINE).unwrap();
        }
        Engine::KafkaStreams => {
            let mut java = Java::start(application, state.path());
            assert_eq!(java.description(), topology.describe());
            wait_until(&what, DEADLINE, &mut done);
            java.close();
        }
    }
}

fn engines_take_turns(turns: [Engine; 3]) {
    log();
    // Brokers clean changelogs up by their records' age; windows begin at whole minutes.
    let begin = SystemClock::default().now().as_millis() / 60_000 * 60_000 - 60_000;
    let application = unique("interop");
    let prefix = format!("{application}-");
    let topics = PARTS.iter().flat_map(|part| part.inputs.iter().chain(part.outputs));
    for topic in topics {
        create_topic(Topic { name: &format!("{prefix}{topic}"), partitions: 1, config: &[] });
    }
    let inputs = PARTS.iter().flat_map(|part| part.inputs);
    let inputs: Vec<String> = inputs.map(|input| format!("{prefix}{input}")).collect();
    let expected: Vec<_> = PARTS.iter().map(|part| (part, expected(part, begin))).collect();
    let outputs = PARTS.iter().flat_map(|part| part.outputs);
    let mut outputs: BTreeMap<&str, Output> =
        outputs.map(|output| (*output, Output::new(&format!("{prefix}{output}")))).collect();
    for (round, engine) in turns.into_iter().enumerate() {
        PARTS.iter().for_each(|part| feed(&prefix, begin, part, round));
        let mut results = |are_there: fn(&Part, &[Result3], &[Result3]) -> bool| {
            expected.iter().all(|(part, expected)| {
                part.outputs.iter().all(|output| {
                    let wanted = expected[round].get(output).map_or(&[][..], |wanted| wanted);
                    let output = outputs.get_mut(output).expect("every output is followed");
                    are_there(part, output.look(), wanted)
                })
            })
        };
        run(engine, &application, &prefix, || {
            unread(&application, &inputs) == 0
                && results(|part, found, wanted| {
                    !part.last_of_key || last_of_key(found) == last_of_key(wanted)
                })
        });
        wait_until("as many results as there should be", DEADLINE, || {
            results(|part, found, wanted| part.last_of_key || found.len() >= wanted.len())
        });
        for (part, expected) in expected.iter().filter(|(part, _)| !part.last_of_key) {
            for output in part.outputs {
                let wanted = expected[round].get(output).map_or(&[][..], |wanted| wanted);
                let found = &outputs[output].found;
                assert_eq!(found, wanted, "{output} after round {round} of {turns:?}");
            }
        }
    }
}

#[test]
fn kafka_streams_goes_on_from_our_changelogs_and_commits_and_we_from_its() {
    engines_take_turns([Engine::Ours, Engine::KafkaStreams, Engine::Ours]);
}

#[test]
fn we_go_on_from_what_kafka_streams_began_and_it_from_ours() {
    engines_take_turns([Engine::KafkaStreams, Engine::Ours, Engine::KafkaStreams]);
}
