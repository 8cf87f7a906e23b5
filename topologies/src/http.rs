//! What the process tells about itself over HTTP: metrics, health, topology, tasks.
//!
//! Served on a thread of its own, so that a stuck stream thread cannot make it silent. Read only; without a token and TLS
//! (`access.rs`) it belongs on loopback. Used by `run` and by `dev`.

mod access;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kstreams::telemetry::Metric;
use kstreams::{Error, Handle, Result, State, telemetry};

use self::access::Access;
use self::tls::Connections;
use crate::jmx::JmxNames;
use crate::settings::{HttpSettings, MetricsSettings};
use crate::{business, process};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// How often the recorder folds what it has collected, whether somebody reads it or not: else it would only grow.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// All that `/metrics` may show.
pub(crate) const KNOWN: [&[Metric]; 3] = [telemetry::METRICS, business::METRICS, process::METRICS];

/// Something that runs and can be asked about; `run` and `dev` give one for each topology.
pub trait Observed: Send + Sync {
    /// The topology's name.
    fn name(&self) -> &str;
    /// What it is doing.
    fn state(&self) -> State;
    /// Why it failed, if it did.
    fn failure(&self) -> Option<String>;
    /// The topology's description.
    fn describe(&self) -> String;
    /// Its tasks, as a list of objects.
    fn tasks(&self) -> Value;
}

/// A running topology as [`Observed`].
#[derive(Clone)]
pub struct Running {
    /// The topology's name.
    pub name: String,
    /// The client that runs it.
    pub handle: Handle,
}

impl Observed for Running {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        self.handle.state()
    }

    fn failure(&self) -> Option<String> {
        self.handle.failure()
    }

    fn describe(&self) -> String {
        self.handle.describe()
    }

    fn tasks(&self) -> Value {
        let tasks = self.handle.tasks();
        let describe = |task: &kstreams::TaskInfo| {
            let partitions: Vec<String> = task.partitions.iter().map(ToString::to_string).collect();
            let progress = task.progress.map(|progress| {
                json!({
                    "restored": progress.restored,
                    "remaining": progress.remaining,
                    "eta_seconds": progress.eta.map(|eta| eta.as_secs()),
                })
            });
            json!({
                "task": task.id.to_string(),
                "state": format!("{:?}", task.state).to_lowercase(),
                "thread": task.thread,
                "partitions": partitions,
                "progress": progress,
            })
        };
        tasks.iter().map(describe).collect()
    }
}

/// Installs the recorder behind all metrics of the process, once; histograms have buckets, so that instances add up.
///
/// # Errors
/// `Invalid` where there is a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    let refuse = |error| Error::invalid("cannot set up metrics").with_source(error);
    let histograms = KNOWN.into_iter().flat_map(telemetry::histogram_buckets);
    for (name, edges) in histograms {
        let matcher = Matcher::Full(name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, edges).map_err(refuse)?;
    }
    let handle = builder.install_recorder().map_err(refuse)?;
    KNOWN.into_iter().for_each(telemetry::describe);
    Ok(handle)
}

/// A port that is ours, and not served yet: connections wait.
pub struct Listener {
    listener: std::net::TcpListener,
    address: SocketAddr,
    access: Access,
    lag_max: u64,
    jmx: Option<Arc<JmxNames>>,
}

impl Listener {
    /// Takes `bind` (`address:port`; port 0 takes a free one).
    ///
    /// # Errors
    /// `Invalid` where the address cannot be listened at.
    pub fn bind(bind: &str) -> Result<Self> {
        let refuse = |error: std::io::Error| {
            Error::invalid(format!(
                "setting http.bind: cannot listen at \"{bind}\", wanted a free address:port; set another, or nothing"
            ))
            .with_source(error)
        };
        let listener = std::net::TcpListener::bind(bind).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self { listener, address, access: Access::default(), lag_max: 0, jmx: None })
    }

    /// Demands what the settings say: a token, TLS.
    ///
    /// # Errors
    /// `Invalid` for a certificate or key that will not do.
    pub fn secured(mut self, settings: &HttpSettings) -> Result<Self> {
        self.access = Access::new(settings)?;
        Ok(self)
    }

    /// Shows metrics as the settings say.
    pub fn showing(self, settings: &MetricsSettings) -> Self {
        Self { jmx: settings.jmx_names.then(Arc::default), ..self }
    }

    /// Ready only while no partition is more than so many records behind; 0: however far.
    pub fn ready_within(self, lag_max: u64) -> Self {
        Self { lag_max, ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The server; ends when dropped.
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens at `bind` (`address:port`; port 0 takes a free one) and answers about `observed`.
    ///
    /// # Errors
    /// `Invalid` where the address cannot be listened at.
    pub fn start(
        bind: &str,
        metrics: PrometheusHandle,
        observed: Vec<Arc<dyn Observed>>,
    ) -> Result<Self> {
        Self::serve(Listener::bind(bind)?, metrics, observed, Router::new())
    }

    /// Answers at a listener about `observed`, and what `more` answers.
    ///
    /// # Errors
    /// `Fatal` where the system gives no thread.
    pub fn serve(
        listener: Listener,
        metrics: PrometheusHandle,
        observed: Vec<Arc<dyn Observed>>,
        more: Router,
    ) -> Result<Self> {
        let Listener { listener, address, access, lag_max, jmx } = listener;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::fatal("cannot start the HTTP listener").with_source(e))?;
        let (stop, stopped) = oneshot::channel();
        let sources = Sources { metrics: metrics.clone(), observed: observed.into(), lag_max, jmx };
        let app = access.guard(router(sources).merge(more));
        let serve = async move {
            let connections = tokio::net::TcpListener::from_std(listener)
                .and_then(|listener| Connections::new(listener, access.tls));
            let connections = match connections {
                Ok(connections) => connections,
                Err(error) => return tracing::error!(%error, "the HTTP listener ended"),
            };
            tokio::spawn(upkeep(metrics));
            tokio::select! {
                ended = axum::serve(connections, app) => {
                    tracing::error!(?ended, "the HTTP listener ended");
                }
                // Not a graceful end: an open connection must not hold up the process.
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(serve);
                // A query that waits for another instance must not hold up the process.
                runtime.shutdown_background();
            })
            .map_err(|e| Error::fatal("cannot start the HTTP listener").with_source(e))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Both fail only when the thread has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

#[derive(Clone)]
struct Sources {
    metrics: PrometheusHandle,
    observed: Arc<[Arc<dyn Observed>]>,
    lag_max: u64,
    jmx: Option<Arc<JmxNames>>,
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/topology", get(topology))
        .route("/tasks", get(tasks))
        .with_state(sources)
}

async fn render_metrics(Shared(sources): Shared<Sources>) -> impl IntoResponse {
    process::collect();
    let mut text = sources.metrics.render() + &telemetry::render_placed(&KNOWN);
    if let Some(jmx) = &sources.jmx {
        text += &jmx.render(&text);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Alive unless a topology has failed: then only a restart helps.
async fn live(Shared(sources): Shared<Sources>) -> Response {
    let good = |state| !matches!(state, State::PendingError | State::Error);
    health(&sources, good, BTreeMap::new())
}

/// Ready when every topology processes, all its stores are restored, and no partition is further behind than allowed.
async fn ready(Shared(sources): Shared<Sources>) -> Response {
    health(&sources, |state| state == State::Running, crate::health::behind(sources.lag_max))
}

fn health(
    sources: &Sources,
    good: impl Fn(State) -> bool,
    behind: BTreeMap<String, u64>,
) -> Response {
    let all_good =
        behind.is_empty() && sources.observed.iter().all(|observed| good(observed.state()));
    let status = if all_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let topologies: serde_json::Map<String, Value> = sources
        .observed
        .iter()
        .map(|observed| {
            let (state, failure) = (observed.state().to_string(), observed.failure());
            (observed.name().to_owned(), json!({ "state": state, "failure": failure }))
        })
        .collect();
    let degraded = crate::health::degraded();
    let body = json!({
        "ok": all_good, "topologies": topologies, "degraded": degraded, "behind": behind,
    });
    (status, Json(body)).into_response()
}

async fn topology(Shared(sources): Shared<Sources>) -> String {
    let describe = |observed: &Arc<dyn Observed>| observed.describe();
    sources.observed.iter().map(describe).collect::<Vec<_>>().join("\n")
}

async fn tasks(Shared(sources): Shared<Sources>) -> Json<Value> {
    let list = |observed: &Arc<dyn Observed>| (observed.name().to_owned(), observed.tasks());
    Json(Value::Object(sources.observed.iter().map(list).collect()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Mutex;

    use super::*;

    struct Fake(Mutex<State>);

    impl Observed for Fake {
        fn name(&self) -> &str {
            "fake"
        }
        fn state(&self) -> State {
            *self.0.lock().unwrap()
        }
        fn failure(&self) -> Option<String> {
            (self.state() == State::Error).then(|| "broken".to_owned())
        }
        fn describe(&self) -> String {
            "Topologies:\n".to_owned()
        }
        fn tasks(&self) -> Value {
            json!([{ "task": "0_1" }])
        }
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_tells_metrics_health_topology_and_tasks() {
        let metrics = install_metrics().unwrap();
        metrics::histogram!("kstreams_record_e2e_latency_seconds").record(0.09);
        metrics::counter!("kstreams_dlq_records_total").increment(0);
        let fake = Arc::new(Fake(Mutex::new(State::Rebalancing)));
        let listener = Listener::bind("127.0.0.1:0").unwrap().ready_within(100);
        let server =
            HttpServer::serve(listener, metrics, vec![fake.clone()], Router::new()).unwrap();
        let status = |path| ask(server.address(), path)[9..12].to_owned();
        assert_eq!((status("/health/live"), status("/health/ready")), ("200".into(), "503".into()));
        *fake.0.lock().unwrap() = State::Running;
        assert_eq!((status("/health/live"), status("/health/ready")), ("200".into(), "200".into()));
        crate::health::set("test-mail", "", Some("down"));
        let ready = ask(server.address(), "/health/ready");
        assert!(ready.contains("\"test-mail\":\"down\"") && ready[9..12] == *"200", "{ready}");
        crate::health::set("test-mail", "", None);
        let labels = [("app", "fake"), ("topic", "t"), ("partition", "0")];
        let lag = kstreams::telemetry::Placed::new("kstreams_consumer_lag_records", &labels);
        lag.set_count(101);
        let ready = ask(server.address(), "/health/ready");
        assert!(ready.contains("\"fake t 0\":101") && ready[9..12] == *"503", "{ready}");
        assert_eq!(status("/health/live"), "200", "a restart would not help");
        lag.set_count(100);
        assert_eq!(status("/health/ready"), "200");
        *fake.0.lock().unwrap() = State::PendingShutdown;
        assert_eq!((status("/health/live"), status("/health/ready")), ("200".into(), "503".into()));
        *fake.0.lock().unwrap() = State::Error;
        assert_eq!((status("/health/live"), status("/health/ready")), ("503".into(), "503".into()));
        assert!(ask(server.address(), "/health/live").contains("\"failure\":\"broken\""));
        assert!(ask(server.address(), "/topology").ends_with("Topologies:\n"));
        assert!(ask(server.address(), "/tasks").ends_with("{\"fake\":[{\"task\":\"0_1\"}]}"));
        assert_eq!(status("/nothing"), "404");
        let text = ask(server.address(), "/metrics");
        // The limits of the alerts are edges.
        for edge in ["0.1", "30"] {
            let line = format!("kstreams_record_e2e_latency_seconds_bucket{{le=\"{edge}\"}} 1");
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("kstreams_dlq_records_total 0"), "{text}");
        let address = server.address().to_string();
        let Err(error) = HttpServer::start(&address, install_metrics_again(), vec![]) else {
            panic!("listens twice")
        };
        assert!(error.to_string().contains(&address), "{error}");
    }

    #[test]
    fn a_token_is_wanted_for_all_but_health() {
        let settings = HttpSettings { bearer_token: "t0ken".into(), ..HttpSettings::default() };
        let listener = Listener::bind("127.0.0.1:0").unwrap().secured(&settings).unwrap();
        let more = Router::new().route("/query/waiting", get(|| async { "[]" }));
        let server =
            HttpServer::serve(listener, install_metrics_again(), Vec::new(), more).unwrap();
        let status = |path: &str, header: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            write!(stream, "GET {path} HTTP/1.0\r\n{header}\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer[9..12].to_owned()
        };
        let good = "Authorization: Bearer t0ken\r\n";
        for path in ["/metrics", "/tasks", "/query/waiting"] {
            assert_eq!(status(path, good), "200");
            for wrong in ["", "Authorization: Bearer t0ke\r\n", "Authorization: Basic t0ken\r\n"] {
                assert_eq!(status(path, wrong), "401", "{path} {wrong}");
            }
        }
        assert_eq!(status("/health/live", ""), "200");
        assert_eq!(status("/healthy", ""), "401");
    }

    #[test]
    fn a_certificate_that_will_not_do_is_refused_with_its_setting() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        for (certificate, part) in [
            (std::path::Path::new("/nonexistent.pem"), "setting http.tls_certificate_file"),
            (file.path(), "do not fit, wanted a certificate and its own key"),
        ] {
            let settings = HttpSettings {
                tls_certificate_file: certificate.to_owned(),
                tls_key_file: file.path().to_owned(),
                ..HttpSettings::default()
            };
            let listener = Listener::bind("127.0.0.1:0").unwrap();
            let Err(error) = listener.secured(&settings) else { panic!("taken") };
            assert!(error.message().contains(part), "{error}");
        }
    }

    fn install_metrics_again() -> PrometheusHandle {
        PrometheusBuilder::new().build_recorder().handle()
    }
}
