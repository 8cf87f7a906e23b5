//! Local stand-ins for the SMTP server, the Telegram Bot API and the SMS provider: they take every message and show what would have been
//! sent. On 127.0.0.1, on a thread of their own.

mod smtp;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use kstreams::{Error, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::delivery::settings::{Encryption, Settings};
use crate::events::Channel;

/// Messages remembered; the oldest are forgotten first.
const MESSAGES_MAX: usize = 10_000;

/// A message that would have been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) channel: Channel,
    /// Address, chat or number.
    pub(crate) to: String,
    /// The first line.
    pub(crate) title: String,
    /// Message-ID or idempotency key; empty for Telegram, which has none.
    pub(crate) id: String,
}

/// What was taken so far.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Number of messages, forgotten ones included.
    pub(crate) count: u64,
    /// The newest last.
    pub(crate) messages: VecDeque<Outgoing>,
}

impl Taken {
    fn add(&mut self, message: Outgoing) -> u64 {
        self.count += 1;
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES_MAX {
            self.messages.pop_front();
        }
        self.count
    }
}

type Shared = Arc<Mutex<Taken>>;

/// The stand-ins; they stop when dropped.
pub(crate) struct StandIns {
    smtp: SocketAddr,
    http: SocketAddr,
    taken: Shared,
    /// Ends with its owner.
    _runtime: Runtime,
}

impl StandIns {
    /// Listens on free ports.
    ///
    /// # Errors
    /// `Fatal` where the system gives no thread or port.
    pub(crate) fn start() -> Result<Self> {
        let refuse = |error| Error::fatal("cannot start the stand-ins").with_source(error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("stand-ins")
            .enable_all()
            .build()
            .map_err(refuse)?;
        let bind = || runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let (mail, web) = (bind().map_err(refuse)?, bind().map_err(refuse)?);
        let smtp = mail.local_addr().map_err(refuse)?;
        let http = web.local_addr().map_err(refuse)?;
        let taken = Shared::default();
        runtime.spawn(smtp::serve(mail, taken.clone()));
        let routes = Router::new()
            .route("/{bot}/sendMessage", post(telegram))
            .route("/sms", post(sms))
            .with_state(taken.clone());
        runtime.spawn(async move {
            if let Err(error) = axum::serve(web, routes).await {
                tracing::error!(%error, "the stand-ins ended");
            }
        });
        Ok(Self { smtp, http, taken, _runtime: runtime })
    }

    /// Has messages delivered here.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        settings.email.host = self.smtp.ip().to_string();
        settings.email.port = self.smtp.port();
        settings.email.encryption = Encryption::None;
        settings.email.username.clear();
        settings.telegram.url = format!("http://{}", self.http);
        "stand-in".clone_into(&mut settings.telegram.token);
        settings.sms.url = format!("http://{}/sms", self.http);
    }

    /// What was taken so far.
    pub(crate) fn taken(&self) -> MutexGuard<'_, Taken> {
        locked(&self.taken)
    }
}

fn locked(taken: &Shared) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first_line(text: &Value) -> String {
    text.as_str().and_then(|text| text.lines().next()).unwrap_or_default().to_owned()
}

async fn telegram(
    State(taken): State<Shared>,
    Path(bot): Path<String>,
    Json(body): Json<Value>,
) -> Json<Value> {
    if !bot.starts_with("bot") {
        return Json(json!({"ok": false, "error_code": 404, "description": "Not Found"}));
    }
    let (to, title) = (body["chat_id"].to_string(), first_line(&body["text"]));
    let message = Outgoing { channel: Channel::Telegram, to, title, id: String::new() };
    let number = locked(&taken).add(message);
    Json(json!({"ok": true, "result": {"message_id": number}}))
}

async fn sms(State(taken): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (to, title, id) = (text("to"), first_line(&body["text"]), text("id"));
    let number = locked(&taken).add(Outgoing { channel: Channel::Sms, to, title, id });
    Json(json!({"id": format!("sms-{number}")}))
}
