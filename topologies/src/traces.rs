//! Where spans go: over OTLP (HTTP, protobuf) to a collector, in batches, from a thread of its own. One for the process, as with metrics and health.
//!
//! Off unless `tracing.endpoint` names an address. The queue is bounded: where the collector is slow or away, spans are dropped, and never records
//! held up. What a trace consists of is the engine's (`kstreams::telemetry`); this adds the span of a message's delivery.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kstreams::telemetry::{self, SpanContext, SpanIds, SpanSink, SpanValue, Tracing};
use kstreams::{Clock, Error, Result, SystemClock};
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Spans of one request to the collector.
const BATCH_SPANS: usize = 512;
/// An answer of the collector is no longer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How often a batch is tried again, within the time-out of the export.
const RETRIES: usize = 2;

/// Traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where spans are posted, such as `http://127.0.0.1:4318/v1/traces`; empty: nothing is traced.
    pub endpoint: String,
    /// Of the records without a `traceparent`, how many begin a trace (0 to 1).
    pub sample_ratio: f64,
    /// `service.name` of all spans.
    pub service_name: String,
    /// Headers of the requests, `name=value`, comma separated. A secret.
    pub secret_headers: String,
    /// Spans that wait for the collector, at most.
    pub queue_spans: usize,
    /// How long a span waits for others.
    pub batch_interval_ms: u64,
    /// Until when one request must be answered.
    pub request_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample_ratio: 0.01,
            service_name: "aggregator".to_owned(),
            secret_headers: String::new(),
            queue_spans: 8_192,
            batch_interval_ms: 5_000,
            request_timeout_ms: 10_000,
        }
    }
}

impl Settings {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The setting, what was found and what is wanted.
    pub fn validate(&self) -> std::result::Result<(), String> {
        let Self { endpoint, sample_ratio, queue_spans, .. } = self;
        if !endpoint.is_empty() && !["http://", "https://"].iter().any(|s| endpoint.starts_with(s))
        {
            return Err(format!(
                "endpoint: found \"{endpoint}\", wanted an address such as http://127.0.0.1:4318/v1/traces, or nothing"
            ));
        }
        if !(0.0..=1.0).contains(sample_ratio) {
            return Err(format!("sample_ratio: found {sample_ratio}, wanted 0 to 1"));
        }
        if *queue_spans < BATCH_SPANS {
            return Err(format!("queue_spans: found {queue_spans}, wanted at least {BATCH_SPANS}"));
        }
        self.headers().map(drop)
    }

    fn headers(&self) -> std::result::Result<Vec<(String, String)>, String> {
        let pairs = self.secret_headers.split(',').filter(|pair| !pair.trim().is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(|| {
                    // The value is a secret, so it is not shown.
                    "secret_headers: found a part without \"=\", wanted name=value".to_owned()
                })?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect()
    }
}

static EXPORTER: OnceLock<Arc<Exporter>> = OnceLock::new();

/// Takes spans to the collector.
#[derive(Debug)]
struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    ids: Mutex<SpanIds>,
    clock: SystemClock,
}

/// Starts the export; `None` where it is off.
///
/// # Errors
/// `Invalid` for an address that is none.
pub fn start(settings: &Settings) -> Result<Option<Tracing>> {
    if settings.endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = match EXPORTER.get() {
        Some(exporter) => exporter,
        None => {
            let built = Arc::new(Exporter::new(settings)?);
            EXPORTER.get_or_init(|| built)
        }
    };
    Ok(Some(Tracing { sample_ratio: settings.sample_ratio, sink: exporter.clone() }))
}

/// Sends what waits, at the end of the process.
pub fn finish(timeout: Duration) {
    if let Some(exporter) = EXPORTER.get()
        && let Err(error) = exporter.processor.shutdown_with_timeout(timeout)
    {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

/// The delivery of a message, from its beginning to [`end`](Self::end).
#[derive(Debug)]
pub struct Delivery {
    /// Its place, for those it is told.
    pub context: SpanContext,
    parent: [u8; 8],
    start: (Duration, Duration),
}

impl Delivery {
    /// Begins one that belongs to `parent`; `None` where there is nothing to tell.
    pub fn begin(parent: Option<SpanContext>) -> Option<Self> {
        let (parent, exporter) = (parent.filter(SpanContext::is_sampled)?, EXPORTER.get()?);
        let context = {
            let mut ids = exporter.ids.lock().unwrap_or_else(PoisonError::into_inner);
            parent.child(&mut ids)
        };
        let start = (exporter.wall(), exporter.clock.monotonic());
        Some(Self { context, parent: parent.span_id, start })
    }

    /// Tells it, with the channel and, where it failed, why.
    pub fn end(self, channel: &str, error: Option<String>) {
        let Some(exporter) = EXPORTER.get() else { return };
        let Self { context, parent, start } = self;
        let took = exporter.clock.monotonic().saturating_sub(start.1);
        let span = telemetry::Span {
            name: format!("deliver {channel}"),
            kind: telemetry::SpanKind::Client,
            context,
            parent: Some(parent),
            start: start.0,
            end: start.0 + took,
            attributes: vec![("aggregator.channel", channel.into())],
            error,
        };
        exporter.take(vec![span]);
    }
}

impl Exporter {
    fn new(settings: &Settings) -> Result<Self> {
        let refuse = |error: String| Error::invalid(format!("setting tracing.{error}"));
        let headers = settings.headers().map_err(refuse)?;
        let timeout = Duration::from_millis(settings.request_timeout_ms);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { agent: agent(timeout) })
            .with_endpoint(&settings.endpoint)
            .with_headers(headers.into_iter().collect())
            .with_timeout(timeout)
            .with_retry_policy(RetryPolicy::recommended().with_max_retries(RETRIES))
            .build()
            .map_err(|error| refuse(format!("endpoint: {error}")))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_spans)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(Duration::from_millis(settings.batch_interval_ms))
            .build();
        let mut processor =
            BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attribute(version)
            .build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder("kstreams").build();
        Ok(Self { processor, scope, ids: Mutex::default(), clock: SystemClock::default() })
    }

    fn wall(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.clock.now().as_millis()).unwrap_or(0))
    }
}

impl SpanSink for Exporter {
    fn take(&self, spans: Vec<telemetry::Span>) {
        for span in spans {
            self.processor.on_end(data(span, &self.scope));
        }
    }
}

fn data(span: telemetry::Span, scope: &InstrumentationScope) -> SpanData {
    let telemetry::Span { name, kind, context, parent, start, end, attributes, error } = span;
    let at = |since: Duration| -> SystemTime { UNIX_EPOCH + since };
    let attribute = |(name, value)| match value {
        SpanValue::Text(text) => KeyValue::new(name, text),
        SpanValue::Number(number) => KeyValue::new(name, number),
    };
    SpanData {
        span_context: opentelemetry::trace::SpanContext::new(
            TraceId::from_bytes(context.trace_id),
            SpanId::from_bytes(context.span_id),
            TraceFlags::new(context.flags),
            false,
            TraceState::default(),
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: kind == telemetry::SpanKind::Consumer,
        span_kind: match kind {
            telemetry::SpanKind::Consumer => SpanKind::Consumer,
            telemetry::SpanKind::Internal => SpanKind::Internal,
            telemetry::SpanKind::Producer => SpanKind::Producer,
            telemetry::SpanKind::Client => SpanKind::Client,
        },
        name: name.into(),
        start_time: at(start),
        end_time: at(end),
        attributes: attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

/// The exporter's HTTP client: blocking, because the exporter has a thread of its own.
#[derive(Debug)]
struct Client {
    agent: Agent,
}

fn agent(timeout: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .tls_config(tls)
        .build()
        .into()
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, &body[..]))?;
        let (parts, mut body) = answer.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

type Sent<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(self.send(request)))
    }
}

/// Headers that name a place, if there is one.
pub(crate) fn headers(context: Option<SpanContext>) -> kstreams::Headers {
    let mut headers = kstreams::Headers::default();
    if let Some(context) = context {
        context.put(&mut headers);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_name_found_and_wanted() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        Settings::default().validate().unwrap();
        assert!(refused(|s| s.endpoint = "collector:4318".into()).contains("\"collector:4318\""));
        assert!(refused(|s| s.sample_ratio = 1.5).contains("found 1.5, wanted 0 to 1"));
        assert!(refused(|s| s.queue_spans = 1).contains("found 1, wanted at least 512"));
        let text = refused(|s| s.secret_headers = "s3cret".into());
        assert!(!text.contains("s3cret") && text.contains("name=value"), "{text}");
        let good = Settings { secret_headers: "a=b, c = d".into(), ..Settings::default() };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(good.headers().unwrap(), [pair("a", "b"), pair("c", "d")]);
    }

    #[test]
    fn without_an_address_nothing_is_traced() {
        assert!(start(&Settings::default()).unwrap().is_none());
        let parent = SpanContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        assert!(Delivery::begin(Some(parent)).is_none());
    }
}
