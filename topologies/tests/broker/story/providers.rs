//! The providers of Telegram and SMS, which take everything and count it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use aggregator::events::Channel;
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use uuid::Uuid;

/// What has arrived.
#[derive(Default)]
struct Arrived {
    telegrams: usize,
    /// By the id of the notification.
    sms: BTreeMap<String, usize>,
}

/// Both, on a free port of this machine.
pub(crate) struct Providers {
    arrived: Arc<Mutex<Arrived>>,
    address: String,
    _runtime: tokio::runtime::Runtime,
}

impl Providers {
    pub(crate) fn start() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listener).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arrived = Arc::<Mutex<Arrived>>::default();
        let routes = axum::Router::new()
            .route("/sms", post(sms))
            .fallback(telegram)
            .with_state(arrived.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { arrived, address, _runtime: runtime }
    }

    /// Checks that everything said to be sent has arrived, and returns how much has arrived once more: what was under way at a kill.
    pub(crate) fn check(&self, sent: impl Iterator<Item = (Uuid, Channel)>) -> usize {
        let arrived = self.arrived.lock().unwrap();
        let (sms, others): (Vec<_>, Vec<_>) =
            sent.partition(|(_, channel)| *channel == Channel::Sms);
        let ids: BTreeSet<String> = sms.into_iter().map(|(id, _)| id.to_string()).collect();
        assert!(arrived.sms.keys().eq(&ids), "{} SMS for {}", arrived.sms.len(), ids.len());
        let again = arrived.sms.values().sum::<usize>() - ids.len();
        assert!(arrived.telegrams >= others.len(), "{} of {}", arrived.telegrams, others.len());
        again + arrived.telegrams - others.len()
    }

    /// The settings that lead here.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let base = format!("http://{}", self.address);
        vec![
            ("delivery.telegram.url", base.clone()),
            ("delivery.telegram.token", "5:secret".to_owned()),
            ("delivery.sms.url", format!("{base}/sms")),
        ]
    }
}

async fn sms(State(arrived): State<Arc<Mutex<Arrived>>>, Json(body): Json<Value>) -> Json<Value> {
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    *arrived.lock().unwrap().sms.entry(id.clone()).or_default() += 1;
    Json(json!({ "id": id }))
}

async fn telegram(State(arrived): State<Arc<Mutex<Arrived>>>) -> Json<Value> {
    let mut arrived = arrived.lock().unwrap();
    arrived.telegrams += 1;
    Json(json!({"ok": true, "result": {"message_id": arrived.telegrams}}))
}
