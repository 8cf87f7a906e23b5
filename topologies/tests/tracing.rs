//! One trace from `request.created` to the mail, on the real Kafka, as a collector receives it over OTLP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "broker/site.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod site;
#[path = "common/smtp.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod smtp;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aggregator::events::{self, Contact, Envelope, Manager, RequestCreated, RequestEvent, Urgency};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use kstreams::serdes::{Encoded, HttpRegistry, RegistryConfig, SchemaCache, Serde};
use kstreams::{Clock, SystemClock};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;
use site::Site;
use smtp::{SmtpServer, free_port};
use test_support::{DEADLINE, Message, Outcome, produce, read_committed, registry_url, wait_until};
use uuid::Uuid;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const REGION: &str = "north";

type Received = Arc<Mutex<Vec<Span>>>;

/// A collector: what OTLP says over HTTP.
struct Collector {
    url: String,
    spans: Received,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let builder =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, spans) = (builder.unwrap(), Received::default());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, spans, _runtime: runtime }
    }

    /// The spans of the trace so far, by their ids.
    fn spans(&self) -> BTreeMap<String, Span> {
        let spans = self.spans.lock().unwrap();
        let ours = spans.iter().filter(|span| hex(&span.trace_id) == TRACE);
        ours.map(|span| (hex(&span.span_id), span.clone())).collect()
    }
}

async fn receive(State(spans): State<Received>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        for scope in resource.scope_spans {
            spans.lock().unwrap().extend(scope.spans);
        }
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write<T: 'static>(
    serde: &Serde<T>,
    topic: &str,
    key: &str,
    value: &T,
    traceparent: Option<&str>,
) {
    let mut bytes = Vec::new();
    assert_eq!(serde.serializer().serialize(topic, value, &mut bytes).unwrap(), Encoded::Bytes);
    let header = |value: &str| ("traceparent".to_owned(), Some(value.as_bytes().to_vec()));
    let message = Message {
        key: Some(key.as_bytes().to_vec()),
        value: Some(bytes),
        headers: traceparent.map(header).into_iter().collect(),
        ..Message::default()
    };
    produce(topic, &[message], Outcome::Committed);
}

fn request(clock: &dyn Clock) -> RequestCreated {
    RequestCreated {
        envelope: Envelope::new(Uuid::new_v4(), "request.created", clock.now(), "test", None),
        request_id: 1,
        customer_id: 456,
        title: "A tap drips".to_owned(),
        description: "In the kitchen".to_owned(),
        urgency: Urgency::High,
        region: REGION.to_owned(),
        city: "Murmansk".to_owned(),
        address: "Polar 1".to_owned(),
        category: None,
        revision: 1,
    }
}

/// The names of the spans from one up to the root, the root's parent last.
fn way_up(spans: &BTreeMap<String, Span>, from: &Span) -> Vec<String> {
    let mut way = vec![from.name.clone()];
    let mut at = from;
    while let Some(parent) = spans.get(&hex(&at.parent_span_id)) {
        assert!(parent.start_time_unix_nano <= at.start_time_unix_nano, "{parent:?} {at:?}");
        way.push(parent.name.clone());
        at = parent;
    }
    way.push(hex(&at.parent_span_id));
    way
}

#[test]
fn one_trace_leads_from_the_request_to_the_mail() {
    let (collector, site) = (Collector::start(), Site::new());
    let server = SmtpServer::start(free_port(), &[], Arc::default());
    let port = server.port.to_string();
    let names = ["manager-assignment", "notifications", "notification-delivery"];
    let mut app = site.start_these(
        "state",
        &names,
        &[
            ("tracing.endpoint", &*collector.url),
            ("tracing.sample_ratio", "0"),
            ("tracing.batch_interval_ms", "200"),
            ("delivery.email.host", "127.0.0.1"),
            ("delivery.email.port", &*port),
            ("delivery.email.encryption", "none"),
            ("delivery.email.from", "noreply@example.org"),
        ],
    );
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
    let serdes =
        events::serdes(&SchemaCache::new(Arc::new(registry), clock.clone()), &clock).unwrap();
    let manager = Manager {
        manager_id: 7,
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
        region: REGION.to_owned(),
        capacity: 3,
        active: true,
    };
    write(&serdes.managers, "managers", "7", &manager, None);
    let contact = Contact {
        recipient: "customer:456".to_owned(),
        email: Some("customer@example.org".to_owned()),
        telegram_chat_id: None,
        phone: None,
        locale: "en".to_owned(),
    };
    write(&serdes.contacts, "contacts", "customer:456", &contact, None);
    wait_until("all topologies to run", DEADLINE, || app.is_ready(1));
    let created = RequestEvent::Created(request(&*clock));
    write(&serdes.requests, "request-events", REGION, &created, Some(TRACEPARENT));

    // The manager is told of the assignment, so that mail lies at the end of all four hops.
    let to_manager = |mail: &&Value| mail["to"] == "ada@example.org";
    let mails = || server.mails.lock().unwrap().clone();
    wait_until("the manager's mail", DEADLINE, || mails().iter().any(|mail| to_manager(&mail)));
    let mail = mails().iter().find(to_manager).unwrap().clone();
    let place = mail["traceparent"].as_str().unwrap().to_owned();
    let delivered = place.split('-').nth(2).unwrap().to_owned();
    wait_until("the span of the delivery", DEADLINE, || collector.spans().contains_key(&delivered));
    let told = |spans: &BTreeMap<String, Span>| {
        spans.values().filter(|span| span.name == "produce notification-events").count()
    };
    wait_until("what was told of both mails", DEADLINE, || told(&collector.spans()) >= 2);
    app.stop();

    let spans = collector.spans();
    let way = way_up(&spans, &spans[&delivered]);
    let wanted = [
        "deliver email",
        "process",
        "consume notification-delivery-by-recipient-repartition",
        "produce notification-delivery-by-recipient-repartition",
        "consume notification-commands",
        "produce notification-commands",
        "consume workflow-events",
        "produce workflow-events",
        "consume request-events",
        "b7ad6b7169203331",
    ];
    // In this order, with more hops between.
    let mut rest = way.iter();
    for name in wanted {
        let plain = name.replace("notification-delivery-by-recipient-repartition", "");
        assert!(rest.any(|one| one.starts_with(&plain)), "no \"{name}\" in its place in {way:#?}");
    }
    // Everything of the trace hangs together, under what the request came with.
    for span in spans.values() {
        let way = way_up(&spans, span);
        assert_eq!(way.last().map(String::as_str), Some("b7ad6b7169203331"), "{way:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
    }
    // Records that came without a trace began none, and every event that came of the request names it.
    assert!(collector.spans.lock().unwrap().iter().all(|span| hex(&span.trace_id) == TRACE));
    for topic in ["workflow-events", "notification-commands", "notification-events"] {
        for record in read_committed(topic) {
            let place = record.headers.iter().find(|(name, _)| name == "traceparent");
            let text = String::from_utf8(place.unwrap().1.clone().unwrap()).unwrap();
            assert!(text.starts_with(&format!("00-{TRACE}-")) && text.ends_with("-01"), "{text}");
        }
    }
}
