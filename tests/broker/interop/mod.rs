//! One application, two engines: Kafka Streams restores what this engine has written to its changelogs and goes on where its
//! commits end, and the other way round. Each finds an empty state folder, so that nothing but the broker connects them.
//!
//! Two applications get the same input in three rounds; each round one is run by this engine and the other by Kafka Streams, and then they
//! change places. The results are those of one engine that never stops, and the changelogs of both applications hold the same.

mod changelogs;
mod joined;
mod parts;
mod windowed;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use kstreams::testing::TopologyTestDriver;
use kstreams::{Clock, KafkaStreams, StreamsBuilder, SystemClock, Timestamp, Topology};
use test_support::{
    DEADLINE, Follower, Message, Outcome, Process, Topic, bootstrap, create_topics, produce,
    unique, unread, wait_until,
};

use super::runtime::{config, log};
use parts::{PARTS, Part, Row};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    Ours,
    KafkaStreams,
}

/// How much of Kafka Streams' error is shown.
const ERROR_LINES: usize = 60;

/// Key, value, timestamp.
type Result3 = (String, Option<String>, i64);

fn topology(parts: &[Part], prefix: &str) -> Topology {
    let builder = StreamsBuilder::new();
    for part in parts {
        (part.build)(&builder, prefix);
    }
    builder.build().unwrap()
}

/// Rows as a task takes them that has them all before it: of the topics' first rows the oldest.
fn in_order(rows: &[Row]) -> Vec<Row> {
    let mut topics: BTreeMap<&str, VecDeque<Row>> = BTreeMap::new();
    rows.iter().for_each(|row| topics.entry(row.0).or_default().push_back(*row));
    let mut ordered = Vec::new();
    while let Some(first) =
        topics.values_mut().filter(|rows| !rows.is_empty()).min_by_key(|rows| rows[0].3)
    {
        ordered.extend(first.pop_front());
    }
    ordered
}

/// The results in each output topic up to the end of each round, by part.
type Expected = BTreeMap<&'static str, Vec<BTreeMap<&'static str, Vec<Result3>>>>;

/// What an engine that never stops gives.
fn expected(part: &Part, begin: i64) -> Vec<BTreeMap<&'static str, Vec<Result3>>> {
    let driver = TopologyTestDriver::new(topology(std::slice::from_ref(part), "")).unwrap();
    let mut so_far: BTreeMap<&'static str, Vec<Result3>> =
        part.outputs.iter().map(|output| (*output, Vec::new())).collect();
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

/// Kafka Streams in a process of its own, which runs one application after the other; what went wrong there is shown when a test fails.
struct KafkaStreamsProcess(Process);

impl KafkaStreamsProcess {
    fn start() -> KafkaStreamsProcess {
        let variable = |name: &str| std::env::var(name);
        let classpath = variable("KSTREAMS_TEST_JAVA_CLASSPATH")
            .expect("KSTREAMS_TEST_JAVA_CLASSPATH is set by `make test` and `cluster.sh start`");
        let java = variable("JAVA_HOME").map_or("java".to_owned(), |home| home + "/bin/java");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(java);
        command
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                root.join("tests/cluster/log4j2.properties").display()
            ))
            .args(["-cp", &classpath])
            .arg(root.join("tests/broker/interop/Interop.java"))
            .arg(bootstrap())
            .args(PARTS.iter().map(|part| part.name));
        KafkaStreamsProcess(Process::start_for_commands(command))
    }

    /// Starts an application and gives its topology's description.
    fn open(&mut self, application: &str, folder: &Path) -> String {
        self.0.write_line(&format!("start {application} {}", folder.display()));
        let end = format!("end of the topology in {}", folder.display());
        self.0.wait_for_line(&end, DEADLINE);
        let lines = self.0.lines();
        let last = lines.iter().position(|line| *line == end).unwrap();
        let first = lines[..last].iter().rposition(|line| line.starts_with("Topologies:")).unwrap();
        lines[first..last].iter().map(|line| format!("{line}\n")).collect()
    }

    fn close(&mut self, folder: &Path) {
        self.0.write_line("close");
        let end = format!("closed in time: true in {}", folder.display());
        self.0.wait_for_line(&end, DEADLINE);
    }
}

impl Drop for KafkaStreamsProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.0.lines();
            let first = lines.iter().position(|line| line.contains(" ERROR ")).unwrap_or(0);
            let lines = &lines[first..];
            let lines = &lines[..lines.len().min(ERROR_LINES)];
            eprintln!("Kafka Streams' error, if there is one:\n{}", lines.join("\n"));
        }
    }
}

/// An application, whose rounds are run by one engine and the other in turn.
struct Application {
    name: String,
    /// Before the name of each topic.
    prefix: String,
    turns: [Engine; 3],
    outputs: BTreeMap<&'static str, Output>,
}

impl Application {
    fn new(name: String, turns: [Engine; 3]) -> Application {
        let prefix = format!("{name}-");
        let of_part = |part: &Part| [part.inputs, part.global_inputs, part.outputs].concat();
        let topics = PARTS.iter().flat_map(of_part);
        let topics: Vec<String> = topics.map(|topic| format!("{prefix}{topic}")).collect();
        let new = topics.iter().map(|name| Topic { name, partitions: 1, config: &[] });
        create_topics(&new.collect::<Vec<_>>());
        let outputs = PARTS.iter().flat_map(|part| part.outputs);
        let outputs = outputs.map(|output| (*output, Output::new(&format!("{prefix}{output}"))));
        Application { outputs: outputs.collect(), name, prefix, turns }
    }

    fn feed(&self, begin: i64, round: usize) {
        let feed = |part: &Part| {
            for input in part.inputs.iter().chain(part.global_inputs) {
                let rows = part.rounds[round].iter().filter(|row| row.0 == *input);
                let message = |(_, key, value, time): &Row| Message {
                    key: Some(key.as_bytes().to_vec()),
                    value: value.map(|value| value.as_bytes().to_vec()),
                    timestamp_ms: Some(begin + time),
                    ..Message::default()
                };
                let messages: Vec<Message> = rows.map(message).collect();
                produce(&format!("{}{input}", self.prefix), &messages, Outcome::Plain);
            }
        };
        std::thread::scope(|scope| PARTS.iter().for_each(|part| drop(scope.spawn(|| feed(part)))));
    }

    /// The parts whose results are known: all but those that Kafka Streams could not take over.
    fn comparable(&self, round: usize) -> impl Iterator<Item = &'static Part> + use<> {
        let was_taken_over = self.turns[1..=round].contains(&Engine::KafkaStreams);
        PARTS.iter().filter(move |part| !(was_taken_over && part.kafka_streams_cannot_restore))
    }

    /// Runs the round's engine from an empty folder until every input is read and as many results are there as there should be.
    fn run(&mut self, java: Option<&mut KafkaStreamsProcess>, round: usize, expected: &Expected) {
        let folder = tempfile::tempdir().unwrap();
        let topology = topology(PARTS, &self.prefix);
        match java {
            None => {
                let mut streams =
                    KafkaStreams::new(topology, config(&self.name, folder.path())).unwrap();
                streams.start().unwrap();
                self.wait_for_results(round, expected);
                streams.close(DEADLINE).unwrap();
            }
            Some(java) => {
                assert_eq!(java.open(&self.name, folder.path()), topology.describe());
                self.wait_for_results(round, expected);
                java.close(folder.path());
            }
        }
    }

    fn wait_for_results(&mut self, round: usize, expected: &Expected) {
        let inputs = PARTS.iter().flat_map(|part| part.inputs);
        let inputs: Vec<String> = inputs.map(|input| format!("{}{input}", self.prefix)).collect();
        let parts: Vec<_> = self.comparable(round).collect();
        let what = format!("{:?} to process what was fed", self.turns[round]);
        let mut is_done = || {
            let mut are_there = true;
            for part in &parts {
                for output in part.outputs {
                    let wanted = &expected[part.name][round][output];
                    let found = self.outputs.get_mut(output).unwrap().look();
                    are_there &= match part.last_of_key {
                        true => last_of_key(found) == last_of_key(wanted),
                        false => found.len() >= wanted.len(),
                    };
                }
            }
            are_there && unread(&self.name, &inputs) == 0
        };
        // Where it never is, the comparison at the end of the round shows what came instead.
        let wait = AssertUnwindSafe(|| wait_until(&what, 2 * DEADLINE, &mut is_done));
        let _ = catch_unwind(wait);
    }

    fn check(&mut self, round: usize, expected: &Expected) {
        for part in self.comparable(round) {
            for output in part.outputs {
                let wanted = &expected[part.name][round][output];
                let found = self.outputs.get_mut(output).unwrap().look();
                let place = format!("{output} after round {round} of {:?}", self.turns);
                match part.last_of_key {
                    true => assert_eq!(last_of_key(found), last_of_key(wanted), "{place}"),
                    false => assert_eq!(found, wanted, "{place}"),
                }
            }
        }
    }
}

#[test]
fn engines_take_turns_and_nobody_can_tell() {
    log();
    // Brokers clean changelogs up by their records' age; windows begin at whole minutes.
    let begin = SystemClock::default().now().as_millis() / 60_000 * 60_000 - 60_000;
    let expected: Expected = PARTS.iter().map(|part| (part.name, expected(part, begin))).collect();
    let mut java = KafkaStreamsProcess::start();
    let name = unique("interop");
    use Engine::{KafkaStreams, Ours};
    let mut one = Application::new(format!("{name}-1"), [Ours, KafkaStreams, Ours]);
    let mut two = Application::new(format!("{name}-2"), [KafkaStreams, Ours, KafkaStreams]);
    for round in 0..3 {
        let (ours, theirs) = match one.turns[round] {
            Ours => (&mut one, &mut two),
            KafkaStreams => (&mut two, &mut one),
        };
        ours.feed(begin, round);
        theirs.feed(begin, round);
        std::thread::scope(|scope| {
            scope.spawn(|| ours.run(None, round, &expected));
            theirs.run(Some(&mut java), round, &expected);
        });
        one.check(round, &expected);
        two.check(round, &expected);
        changelogs::compare(&one, &two, round);
    }
}
