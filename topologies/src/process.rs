//! Metrics of the process as the system sees it, by their usual names.

use kstreams::telemetry::Metric;
use metrics_process::Collector;

/// Those of the crate `metrics-process`.
#[rustfmt::skip] // a table
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter("process_cpu_seconds_total", &[], "Processor time, in whole seconds"),
    Metric::gauge("process_resident_memory_bytes", &[], "Resident memory"),
    Metric::gauge("process_virtual_memory_bytes", &[], "Virtual memory"),
    Metric::gauge("process_virtual_memory_max_bytes", &[], "The limit of virtual memory"),
    Metric::gauge("process_open_fds", &[], "Open files and sockets"),
    Metric::gauge("process_max_fds", &[], "The limit of open files and sockets"),
    Metric::gauge("process_threads", &[], "Threads"),
    Metric::gauge("process_start_time_seconds", &[], "When the process started, since 1970"),
];

/// Asks the system; before each look at the metrics.
pub(crate) fn collect() {
    Collector::default().collect();
}
