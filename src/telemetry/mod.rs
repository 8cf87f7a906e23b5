//! Every metric of the engine: name, unit, labels, and the handles by which the other modules count. Traces in `trace`.
//!
//! Names and units are Prometheus's customs: prefix `kstreams_`, base units, histograms instead of averages, and no label without a bound:
//! `task` and `partition` on counters and gauges only. Counters and histograms go through the facade `metrics`; gauges, and counters of
//! fractions, lie on a board that they leave with what they tell about. Handles are made once; the hot path only adds.

mod board;
mod catalog;
mod client;
mod metric;
mod task;
mod thread;
mod trace;

pub use board::{Placed, Sample, placed, render_placed};
pub use catalog::{LATENCY_BUCKETS, METRICS, histogram_buckets};
pub(crate) use client::{ClientMetrics, GroupEvent, RestoreMetrics, SurroundingsMetrics};
pub use metric::{Kind, Metric, describe, reference};
pub use task::StoreFigures;
pub(crate) use task::{CacheMetrics, StoreMetrics, TaskMetrics};
pub(crate) use thread::{
    InputMetrics, Outcome, Phase, ThreadMetrics, TopicCounters, TopicLabels, Trigger,
};
pub use trace::{
    Span, SpanContext, SpanIds, SpanKind, SpanSink, SpanValue, TRACEPARENT, TRACESTATE, Tracing,
};
