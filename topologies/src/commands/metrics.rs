//! `aggregator metrics`: the reference page, made of the tables that the code counts by.

use kstreams::telemetry::{self, reference};

use crate::{business, jmx, process};

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made by `aggregator metrics`; a test holds both together. Served at `/metrics` in Prometheus's text format. Durations are in seconds, \
         sizes in bytes; a name that ends in `_total` only grows. `app` is the application id of a topology. Gauges of a task, partition or store \
         are gone when it moves. Histograms have edges at exactly 0.1 s and 30 s where a limit of the service lies there.\n",
    );
    for (title, metrics) in [
        ("The engine", telemetry::METRICS),
        ("The business", business::METRICS),
        ("The process", process::METRICS),
    ] {
        page += &format!("\n## {title}\n\n{}", reference(metrics));
    }
    page + JMX + &jmx::reference() + LEFT_OUT
}

const JMX: &str = "
## Names of the JMX exporter

With `metrics.jmx_names = true` there are also these, as Prometheus's JMX exporter names Kafka Streams' metrics with Confluent's rules (`kafka_streams_<group>_<attribute>`; all are gauges), \
so that dashboards made for them go on. `client_id` is the application id, `thread_id` `APPLICATION-StreamThread-N`. Rates and means are those of the last minute. Means of a thread's phases and figures of commits \
are those of an application, and what is counted by subtopology has its number as `task_id`. Maxima are not there: a histogram does not know them.

";

const LEFT_OUT: &str = "
## What is not measured

- The duration of single store operations: two looks at the clock cost more than a read from memory.
- Open iterators of stores: a scan borrows its store and ends within its record.
- RocksDB's statistics (bytes, hits, stalls): its counters would be in the way of every read. What it tells without them is here.
- Round trips, queues and throttling of the Kafka clients, and why a group rebalanced: librdkafka tells them in its own statistics, which are not read yet.
- Standby tasks, retry topics, quarantine and redrive: they do not exist yet.
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == super::page(),
            "docs/metrics.md is out of date: aggregator metrics > docs/metrics.md"
        );
    }
}
