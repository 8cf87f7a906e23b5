//! HTTP servers that behave as Telegram's Bot API and an SMS provider do, and misbehave as told.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The token that the bot has.
pub(crate) const TOKEN: &str = "123456:scenario";
/// The token of the SMS provider.
pub(crate) const SMS_TOKEN: &str = "sms-secret";
/// A hanging answer comes never, as far as a client can tell.
const HANG: Duration = Duration::from_secs(3_600);

/// An answer that is not the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// 429 with `retry_after`, in seconds.
    TooMany(u64),
    /// 500.
    Broken,
    /// 403: the user has blocked the bot.
    Blocked,
    /// None within any time-out.
    Silent,
}

/// What came, and what is to be answered.
#[derive(Default)]
struct Desk {
    /// Taken: chat and text, or number and text.
    taken: Vec<(String, String)>,
    /// Idempotency keys of the SMS taken.
    keys: Vec<String>,
    /// Requests, refused ones included.
    requests: usize,
    /// The next answers, by chat or number; when there is none left, the good one.
    troubles: BTreeMap<String, VecDeque<Trouble>>,
}

type Shared = Arc<Mutex<Desk>>;

/// A server; ends when dropped.
pub(crate) struct Provider {
    address: SocketAddr,
    desk: Shared,
    runtime: Option<Runtime>,
}

impl Provider {
    /// `POST /bot<token>/sendMessage`.
    pub(crate) fn telegram() -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), Shared::default(), telegram_routes)
    }

    /// `POST /sms`.
    pub(crate) fn sms() -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into(), Shared::default(), sms_routes)
    }

    fn start(at: SocketAddr, desk: Shared, routes: fn(Shared) -> Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).unwrap();
        let address = listener.local_addr().unwrap();
        let app = routes(desk.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, desk, runtime: Some(runtime) }
    }

    /// The address without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it: nobody listens there any more.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// The Bot API again, at the same address, with what it has taken before.
    pub(crate) fn restart_telegram(&mut self) {
        *self = Self::start(self.address, self.desk.clone(), telegram_routes);
    }

    /// The SMS provider again.
    pub(crate) fn restart_sms(&mut self) {
        *self = Self::start(self.address, self.desk.clone(), sms_routes);
    }

    /// The next answers to messages for somebody; the good ones come after them.
    pub(crate) fn expect(&self, to: &str, troubles: &[Trouble]) {
        self.desk().troubles.entry(to.to_owned()).or_default().extend(troubles);
    }

    /// What was taken, as to whom and text, in order.
    pub(crate) fn taken(&self) -> Vec<(String, String)> {
        self.desk().taken.clone()
    }

    /// Idempotency keys of what was taken.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.desk().keys.clone()
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.desk().requests
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Answer = (StatusCode, Json<Value>);

fn telegram_routes(desk: Shared) -> Router {
    Router::new().route("/{bot}/sendMessage", post(send_message)).with_state(desk)
}

/// Answers are those of <https://core.telegram.org/bots/api#making-requests>.
async fn send_message(State(desk): State<Shared>, Path(bot): Path<String>, body: Bytes) -> Answer {
    let refuse = |status: StatusCode, text: &str, parameters: Value| {
        let body = json!({
            "ok": false, "error_code": status.as_u16(), "description": text, "parameters": parameters,
        });
        (status, Json(body))
    };
    if bot.strip_prefix("bot") != Some(TOKEN) {
        return refuse(StatusCode::UNAUTHORIZED, "Unauthorized", Value::Null);
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "Bad Request: not JSON", Value::Null);
    };
    let (Some(chat), Some(text)) = (body["chat_id"].as_i64(), body["text"].as_str()) else {
        return refuse(StatusCode::BAD_REQUEST, "Bad Request: chat not found", Value::Null);
    };
    match next(&desk, &chat.to_string()) {
        Some(Trouble::TooMany(seconds)) => {
            let text = format!("Too Many Requests: retry after {seconds}");
            return refuse(StatusCode::TOO_MANY_REQUESTS, &text, json!({"retry_after": seconds}));
        }
        Some(Trouble::Broken) => {
            let text = "Internal Server Error";
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, text, Value::Null);
        }
        Some(Trouble::Blocked) => {
            let text = "Forbidden: bot was blocked by the user";
            return refuse(StatusCode::FORBIDDEN, text, Value::Null);
        }
        Some(Trouble::Silent) => tokio::time::sleep(HANG).await,
        None => {}
    }
    let mut desk = desk.lock().unwrap();
    desk.taken.push((chat.to_string(), text.to_owned()));
    let message = json!({"message_id": desk.taken.len(), "chat": {"id": chat}, "text": text});
    (StatusCode::OK, Json(json!({"ok": true, "result": message})))
}

fn sms_routes(desk: Shared) -> Router {
    Router::new().route("/sms", post(take_sms)).with_state(desk)
}

async fn take_sms(State(desk): State<Shared>, headers: HeaderMap, body: Bytes) -> Answer {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("authorization") != format!("Bearer {SMS_TOKEN}") {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "who are you?"})));
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if next(&desk, &text("to")).is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "not now"})));
    }
    if text("to").is_empty() || text("id") != header("idempotency-key") {
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": "to whom?"})));
    }
    let mut desk = desk.lock().unwrap();
    desk.taken.push((text("to"), text("text")));
    desk.keys.push(text("id"));
    (StatusCode::ACCEPTED, Json(json!({"id": format!("sms-{}", desk.taken.len())})))
}

/// Counts a request, and says what is to go wrong with it.
fn next(desk: &Shared, to: &str) -> Option<Trouble> {
    let mut desk = desk.lock().unwrap();
    desk.requests += 1;
    desk.troubles.get_mut(to)?.pop_front()
}
