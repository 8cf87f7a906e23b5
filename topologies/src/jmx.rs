//! The names that Prometheus's JMX exporter gives Kafka Streams' metrics, for dashboards that were made for it: `metrics.jmx_names`.
//!
//! Source of the names: Kafka Streams' `StreamsMetricsImpl` (groups `stream-metrics`, `stream-thread-metrics` …) by the exporter's rule
//! `kafka_streams_<group>_<attribute>` with labels `client_id`, `thread_id`, `task_id` …, as Confluent's `kafka_streams.yml` writes it. All of them are
//! gauges there, and so here. Made of what `/metrics` shows anyway, so that no counting is done twice. What Kafka Streams has as a rate or an
//! average is taken over the last half to whole minute, as its sensors do. Deviations: averages of a phase are those of all threads of an
//! application; what we count by subtopology has its number as `task_id`; maxima are not there, since a histogram does not know them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kstreams::{Clock as _, SystemClock};

/// How far back rates and averages look; as `metrics.sample.window.ms` × `metrics.num.samples`.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two looks that are kept.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How a value is made of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As it is.
    Value,
    /// How much it grows a second.
    Rate,
    /// Of a histogram of seconds: the mean, in milliseconds.
    MeanMs,
    /// 1, with the label named first in the value's place.
    Word,
    /// As it is, and as the label named first.
    Counted,
}

/// One name of theirs.
struct Name {
    theirs: &'static str,
    how: How,
    ours: &'static str,
    /// Only series with this label.
    only: Option<(&'static str, &'static str)>,
    /// Their labels beside `client_id`, and ours.
    labels: &'static [(&'static str, &'static str)],
}

type Labels = &'static [(&'static str, &'static str)];

const fn name(
    theirs: &'static str,
    how: How,
    ours: &'static str,
    only: Option<(&'static str, &'static str)>,
    labels: Labels,
) -> Name {
    Name { theirs, how, ours, only, labels }
}

const THREAD: Labels = &[("thread_id", "thread")];
const TASK: Labels = &[("task_id", "task")];
const SUBTOPOLOGY: Labels = &[("task_id", "subtopology")];
const NODE: Labels = &[("task_id", "subtopology"), ("processor_node_id", "node")];
const STORE: Labels = &[("rocksdb_state_id", "store")];
const TOPIC: Labels = &[("topic", "topic")];
const PARTITION: Labels = &[("topic", "topic"), ("partition", "partition")];

const TIME: &str = "kstreams_thread_time_seconds_total";
const PHASE: &str = "kstreams_thread_phase_duration_seconds";
const OPERATIONS: &str = "kstreams_store_operations_total";
const MEMTABLES: &str = "kstreams_rocksdb_memtable_bytes";
const BLOCK_CACHE: &str = "kstreams_rocksdb_block_cache_bytes";

#[rustfmt::skip] // a table
const NAMES: &[Name] = &[
    name("stream_metrics", How::Word, "kstreams_client_state", None, &[("state", "state")]),
    name("stream_metrics", How::Word, "kstreams_build_info", None, &[("version", "version")]),
    name("stream_metrics", How::Counted, "kstreams_threads", Some(("state", "alive")), &[("alive_stream_threads", "")]),
    name("stream_metrics", How::Counted, "kstreams_threads", Some(("state", "failed")), &[("failed_stream_threads", "")]),
    name("stream_thread_metrics_process_total", How::Value, "kstreams_thread_records_processed_total", None, THREAD),
    name("stream_thread_metrics_process_rate", How::Rate, "kstreams_thread_records_processed_total", None, THREAD),
    name("stream_thread_metrics_poll_ratio", How::Rate, TIME, Some(("phase", "poll")), THREAD),
    name("stream_thread_metrics_process_ratio", How::Rate, TIME, Some(("phase", "process")), THREAD),
    name("stream_thread_metrics_punctuate_ratio", How::Rate, TIME, Some(("phase", "punctuate")), THREAD),
    name("stream_thread_metrics_commit_ratio", How::Rate, TIME, Some(("phase", "commit")), THREAD),
    name("stream_thread_metrics_poll_latency_avg", How::MeanMs, PHASE, Some(("phase", "poll")), &[]),
    name("stream_thread_metrics_process_latency_avg", How::MeanMs, PHASE, Some(("phase", "process")), &[]),
    name("stream_thread_metrics_punctuate_latency_avg", How::MeanMs, PHASE, Some(("phase", "punctuate")), &[]),
    name("stream_thread_metrics_commit_latency_avg", How::MeanMs, "kstreams_commit_duration_seconds", None, &[]),
    name("stream_thread_metrics_commit_total", How::Value, "kstreams_commits_total", None, &[]),
    name("stream_thread_metrics_commit_rate", How::Rate, "kstreams_commits_total", None, &[]),
    name("stream_task_metrics_process_total", How::Value, "kstreams_task_records_processed_total", None, TASK),
    name("stream_task_metrics_process_rate", How::Rate, "kstreams_task_records_processed_total", None, TASK),
    name("stream_task_metrics_process_latency_avg", How::MeanMs, "kstreams_process_duration_seconds", None, SUBTOPOLOGY),
    name("stream_task_metrics_active_buffer_count", How::Value, "kstreams_task_buffered_records", None, TASK),
    name("stream_task_metrics_input_buffer_bytes_total", How::Value, "kstreams_task_buffered_bytes", None, TASK),
    name("stream_task_metrics_dropped_records_total", How::Value, "kstreams_records_dropped_total", None, SUBTOPOLOGY),
    name("stream_task_metrics_dropped_records_rate", How::Rate, "kstreams_records_dropped_total", None, SUBTOPOLOGY),
    name("stream_processor_node_metrics_process_total", How::Value, "kstreams_node_records_total", None, NODE),
    name("stream_processor_node_metrics_process_rate", How::Rate, "kstreams_node_records_total", None, NODE),
    name("stream_topic_metrics_records_consumed_total", How::Value, "kstreams_topic_records_consumed_total", None, TOPIC),
    name("stream_topic_metrics_bytes_consumed_total", How::Value, "kstreams_topic_consumed_bytes_total", None, TOPIC),
    name("stream_topic_metrics_records_produced_total", How::Value, "kstreams_topic_records_produced_total", None, TOPIC),
    name("stream_topic_metrics_bytes_produced_total", How::Value, "kstreams_topic_produced_bytes_total", None, TOPIC),
    name("stream_state_metrics_get_rate", How::Rate, OPERATIONS, Some(("op", "get")), STORE),
    name("stream_state_metrics_put_rate", How::Rate, OPERATIONS, Some(("op", "put")), STORE),
    name("stream_state_metrics_delete_rate", How::Rate, OPERATIONS, Some(("op", "delete")), STORE),
    name("stream_state_metrics_range_rate", How::Rate, OPERATIONS, Some(("op", "scan")), STORE),
    name("stream_state_metrics_estimate_num_keys", How::Value, "kstreams_rocksdb_estimate_num_keys", None, STORE),
    name("stream_state_metrics_cur_size_active_mem_table", How::Value, MEMTABLES, Some(("kind", "active")), STORE),
    name("stream_state_metrics_cur_size_all_mem_tables", How::Value, MEMTABLES, Some(("kind", "all")), STORE),
    name("stream_state_metrics_size_all_mem_tables", How::Value, MEMTABLES, Some(("kind", "all_and_pinned")), STORE),
    name("stream_state_metrics_estimate_table_readers_mem", How::Value, "kstreams_rocksdb_table_readers_bytes", None, STORE),
    name("stream_state_metrics_live_sst_files_size", How::Value, "kstreams_rocksdb_sst_bytes", Some(("kind", "live")), STORE),
    name("stream_state_metrics_total_sst_files_size", How::Value, "kstreams_rocksdb_sst_bytes", Some(("kind", "total")), STORE),
    name("stream_state_metrics_num_immutable_mem_table", How::Value, "kstreams_rocksdb_immutable_memtables", None, STORE),
    name("stream_state_metrics_mem_table_flush_pending", How::Value, "kstreams_rocksdb_flush_pending", None, STORE),
    name("stream_state_metrics_num_running_flushes", How::Value, "kstreams_rocksdb_running_flushes", None, STORE),
    name("stream_state_metrics_compaction_pending", How::Value, "kstreams_rocksdb_compaction_pending", None, STORE),
    name("stream_state_metrics_num_running_compactions", How::Value, "kstreams_rocksdb_running_compactions", None, STORE),
    name("stream_state_metrics_estimate_pending_compaction_bytes", How::Value, "kstreams_rocksdb_pending_compaction_bytes", None, STORE),
    name("stream_state_metrics_num_live_versions", How::Value, "kstreams_rocksdb_live_versions", None, STORE),
    name("stream_state_metrics_background_errors", How::Value, "kstreams_rocksdb_background_errors", None, STORE),
    name("stream_state_metrics_block_cache_capacity", How::Value, BLOCK_CACHE, Some(("kind", "capacity")), &[]),
    name("stream_state_metrics_block_cache_usage", How::Value, BLOCK_CACHE, Some(("kind", "usage")), &[]),
    name("stream_state_metrics_block_cache_pinned_usage", How::Value, BLOCK_CACHE, Some(("kind", "pinned")), &[]),
    name("consumer_consumer_fetch_manager_metrics_records_lag", How::Value, "kstreams_consumer_lag_records", None, PARTITION),
    name("consumer_consumer_coordinator_metrics_rebalance_total", How::Value, "kstreams_rebalances_total", Some(("event", "assigned")), &[]),
];

impl Name {
    /// The consumer's are not Streams' own.
    fn full(&self) -> String {
        let prefix = if self.theirs.starts_with("consumer_") { "kafka" } else { "kafka_streams" };
        format!("{prefix}_{}", self.theirs)
    }
}

/// Our series at one moment, by name: labels and value.
type Look<'a> = BTreeMap<&'a str, Vec<(BTreeMap<&'a str, String>, f64)>>;
/// What a rate is made of, by their name and labels: sum and count.
type Totals = BTreeMap<(&'static str, String), (f64, f64)>;

/// Renders their names; remembers what rates need.
#[derive(Debug, Default)]
pub(crate) struct JmxNames {
    looks: Mutex<VecDeque<(Duration, Totals)>>,
    clock: SystemClock,
}

impl JmxNames {
    /// Their series, made of what `text` shows in Prometheus's format.
    pub(crate) fn render(&self, text: &str) -> String {
        let now = self.clock.monotonic();
        let look = read(text);
        let (mut lines, mut last) = (String::new(), "");
        let totals = totals(&look);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        while looks.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            looks.pop_front();
        }
        let before = looks.front();
        for name in NAMES {
            let full = name.full();
            if name.theirs != last {
                let _ = writeln!(lines, "# TYPE {full} gauge");
                last = name.theirs;
            }
            for (labels, value) in values(name, &look, &totals, before, now) {
                let _ = writeln!(lines, "{full}{{{labels}}} {value}");
            }
        }
        if looks.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= LOOK_INTERVAL) {
            looks.push_back((now, totals));
        }
        lines
    }
}

fn values(
    name: &Name,
    look: &Look<'_>,
    totals: &Totals,
    before: Option<&(Duration, Totals)>,
    now: Duration,
) -> Vec<(String, f64)> {
    match name.how {
        How::Word | How::Counted => of_series(name, look)
            .filter(|(_, value)| name.how == How::Counted || *value > 0.0)
            .map(|(labels, value)| {
                let (theirs, ours) = name.labels[0];
                let word =
                    if name.how == How::Counted { value.to_string() } else { labels[ours].clone() };
                let value = if name.how == How::Counted { value } else { 1.0 };
                (format!("client_id=\"{}\",{theirs}=\"{word}\"", labels["app"]), value)
            })
            .collect(),
        How::Value | How::Rate | How::MeanMs => totals
            .iter()
            .filter(|((theirs, _), _)| *theirs == name.theirs)
            .map(|((theirs, labels), (sum, count))| {
                let none = (0.0, 0.0);
                let old =
                    before.map(|(_, old)| *old.get(&(*theirs, labels.clone())).unwrap_or(&none));
                let (old_sum, old_count) = old.unwrap_or((*sum, *count));
                let seconds = before.map_or(0.0, |(at, _)| now.saturating_sub(*at).as_secs_f64());
                let value = match name.how {
                    How::Rate if seconds > 0.0 => (sum - old_sum) / seconds,
                    How::Rate => 0.0,
                    How::MeanMs if *count > old_count => {
                        (sum - old_sum) / (count - old_count) * 1000.0
                    }
                    How::MeanMs => f64::NAN, // as their sensors say where nothing was
                    _ => *sum,
                };
                (labels.clone(), value)
            })
            .collect(),
    }
}

fn of_series<'l, 'a>(
    name: &'l Name,
    look: &'l Look<'a>,
) -> impl Iterator<Item = (&'l BTreeMap<&'a str, String>, f64)> {
    let series = look.get(name.ours).into_iter().flatten();
    series.map(|(labels, value)| (labels, *value)).filter(move |(labels, _)| fits(name, labels))
}

fn fits(name: &Name, labels: &BTreeMap<&str, String>) -> bool {
    name.only.is_none_or(|(label, value)| labels.get(label).is_some_and(|found| found == value))
}

/// Sums by their labels: of a histogram its sum and count, of others the value.
fn totals(look: &Look<'_>) -> Totals {
    let mut totals = Totals::new();
    for name in NAMES {
        let (sums, counts) = match name.how {
            How::Word | How::Counted => continue,
            How::MeanMs => (format!("{}_sum", name.ours), format!("{}_count", name.ours)),
            How::Value | How::Rate => (name.ours.to_owned(), String::new()),
        };
        for (source, is_count) in [(sums, false), (counts, true)] {
            for (labels, value) in look.get(source.as_str()).into_iter().flatten() {
                if fits(name, labels) {
                    let total = totals.entry((name.theirs, theirs(name, labels))).or_default();
                    *(if is_count { &mut total.1 } else { &mut total.0 }) += value;
                }
            }
        }
    }
    totals
}

/// Their labels of a series, as they are written.
fn theirs(name: &Name, labels: &BTreeMap<&str, String>) -> String {
    let app = labels.get("app").map_or("", String::as_str);
    let mut text = format!("client_id=\"{app}\"");
    for (theirs, ours) in name.labels {
        let Some(value) = labels.get(ours) else { continue };
        let _ = match (*theirs, value.parse::<u64>()) {
            ("thread_id", Ok(number)) => {
                write!(text, ",thread_id=\"{app}-StreamThread-{}\"", number + 1)
            }
            _ => write!(text, ",{theirs}=\"{value}\""),
        };
    }
    text
}

/// Reads Prometheus's text format; label values stay escaped.
fn read(text: &str) -> Look<'_> {
    let mut look = Look::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        look.entry(name).or_default().push((read_labels(labels), value));
    }
    look
}

fn read_labels(mut text: &str) -> BTreeMap<&str, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let is_end = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            is_end
        });
        let Some(end) = end else { break };
        labels.insert(name.trim_start_matches(','), rest[..end].to_owned());
        text = &rest[end + 1..];
    }
    labels
}

/// A table of the names and what each is made of, in Markdown.
pub(crate) fn reference() -> String {
    let mut page = String::from("| name | made of |\n|---|---|\n");
    for name in NAMES {
        let how = match name.how {
            How::Value => "",
            How::Rate => ", a second",
            How::MeanMs => ", the mean in ms",
            How::Word => ", as a label",
            How::Counted => ", also as a label",
        };
        let only =
            name.only.map_or_else(String::new, |(label, value)| format!(" ({label} {value})"));
        let _ = writeln!(page, "| `{}` | `{}`{only}{how} |", name.full(), name.ours);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE kstreams_commits_total counter
kstreams_commits_total{app="a",trigger="interval"} 3
kstreams_commits_total{app="a",trigger="close"} 1
kstreams_client_state{app="a",state="RUNNING"} 1
kstreams_client_state{app="a",state="ERROR"} 0
kstreams_threads{app="a",state="alive"} 2
kstreams_thread_records_processed_total{app="a",thread="0"} 70
kstreams_thread_phase_duration_seconds_sum{app="a",phase="process"} 0.5
kstreams_thread_phase_duration_seconds_count{app="a",phase="process"} 10
kstreams_node_records_total{app="a",subtopology="0",node="say \"hi\", {you}"} 5
kstreams_rocksdb_sst_bytes{app="a",store="s",kind="live"} 7
kstreams_rocksdb_sst_bytes{app="a",store="s",kind="total"} 9
"#;

    #[test]
    fn names_and_labels_are_the_exporters() {
        let text = JmxNames::default().render(TEXT);
        for line in [
            r#"kafka_streams_stream_metrics{client_id="a",state="RUNNING"} 1"#,
            r#"kafka_streams_stream_metrics{client_id="a",alive_stream_threads="2"} 2"#,
            r#"kafka_streams_stream_thread_metrics_commit_total{client_id="a"} 4"#,
            r#"kafka_streams_stream_thread_metrics_process_total{client_id="a",thread_id="a-StreamThread-1"} 70"#,
            r#"kafka_streams_stream_processor_node_metrics_process_total{client_id="a",task_id="0",processor_node_id="say \"hi\", {you}"} 5"#,
            r#"kafka_streams_stream_state_metrics_live_sst_files_size{client_id="a",rocksdb_state_id="s"} 7"#,
            r#"kafka_streams_stream_state_metrics_total_sst_files_size{client_id="a",rocksdb_state_id="s"} 9"#,
            "# TYPE kafka_streams_stream_thread_metrics_process_rate gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("ERROR"), "{text}");
    }

    #[test]
    fn rates_and_means_are_those_since_the_oldest_look() {
        let (name, look) =
            (|theirs: &str| NAMES.iter().find(|n| n.theirs == theirs).unwrap(), read(TEXT));
        let before = (Duration::from_secs(10), totals(&look));
        let later =
            TEXT.replace("} 70", "} 100").replace("} 0.5", "} 0.75").replace("} 10\n", "} 15\n");
        let (look, now) = (read(&later), Duration::from_secs(40));
        let totals = totals(&look);
        let value = |theirs| values(name(theirs), &look, &totals, Some(&before), now)[0].1;
        assert!((value("stream_thread_metrics_process_rate") - 1.0).abs() < 1e-9);
        assert!((value("stream_thread_metrics_process_latency_avg") - 50.0).abs() < 1e-9);
        assert!(value("stream_thread_metrics_commit_rate").abs() < 1e-9);
    }

    #[test]
    fn every_name_is_made_of_a_metric_that_there_is_and_has() {
        let known: Vec<_> = kstreams::telemetry::METRICS.iter().collect();
        for name in NAMES {
            let metric = known.iter().find(|metric| metric.name == name.ours);
            let metric =
                metric.unwrap_or_else(|| panic!("{} is made of {}", name.theirs, name.ours));
            let wanted =
                name.labels.iter().map(|(_, ours)| *ours).chain(name.only.map(|(label, _)| label));
            for label in wanted.filter(|label| !label.is_empty()) {
                assert!(metric.labels.contains(&label), "{}: {label}", name.theirs);
            }
        }
    }
}
