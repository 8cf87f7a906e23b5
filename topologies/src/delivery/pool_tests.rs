//! The courier and its carriers against servers on this machine: what goes over the wire, errors, time-outs, and a provider that is away.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::courier::{Carrier, Courier, Pool, Reply, Route};
use super::rules::{Message, Parcel, Reason, Verdict};
use super::settings::{EmailSettings, Encryption, Settings, SmsSettings, TelegramSettings};
use super::templates::{Templates, Text};
use super::{courier, email, sms, telegram};
use crate::dev::StandIns;
use crate::events::Channel;
use crate::recipients::Address;

const WITHIN: Duration = Duration::from_secs(20);

fn parcel(id: u128, address: Address) -> Parcel {
    Parcel {
        address,
        recipient: "customer:1".to_owned(),
        message: Message {
            id: Uuid::from_u128(id),
            template: "request_cancelled".to_owned(),
            parameters: ["request_id", "reason", "title"]
                .map(|n| (n.to_owned(), "7".to_owned()))
                .into(),
            locale: "ru".to_owned(),
            request_id: Some(7),
            correlation_id: None,
            command_id: Uuid::nil(),
            trace: None,
        },
        attempt: 1,
    }
}

fn text() -> Text {
    let text = |text: &str| text.to_owned();
    Text {
        subject: text("Заявка"), text: text("Отменена.\n.\nКонец"), sms: text("Отмена")
    }
}

fn templates() -> Arc<Templates> {
    Arc::new(Templates::load("", "ru").unwrap())
}

type Asked = Arc<Mutex<Vec<(String, BTreeMap<String, String>, Value)>>>;
type Script = Arc<dyn Fn(usize) -> Option<(u16, Value)> + Send + Sync>;

/// An HTTP server that answers by a script, request by request; `None`: not at all.
struct Server {
    address: SocketAddr,
    asked: Asked,
    _runtime: Runtime,
}

impl Server {
    fn start(script: impl Fn(usize) -> Option<(u16, Value)> + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, script): (Asked, Script) = (Asked::default(), Arc::new(script));
        let (seen, count) = (asked.clone(), Arc::<AtomicUsize>::default());
        let handle = move |uri: Uri, headers: HeaderMap, body: String| {
            let (seen, script, count) = (seen.clone(), script.clone(), count.clone());
            async move {
                let header =
                    |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
                        (name.to_string(), value.to_str().unwrap().to_owned())
                    };
                let body = serde_json::from_str(&body).unwrap();
                let headers = headers.iter().map(header).collect();
                seen.lock().unwrap().push((uri.path().to_owned(), headers, body));
                match script(count.fetch_add(1, Ordering::SeqCst)) {
                    Some((status, body)) => {
                        (StatusCode::from_u16(status).unwrap(), body.to_string())
                    }
                    None => std::future::pending().await,
                }
            }
        };
        runtime.spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
        Self { address, asked, _runtime: runtime }
    }

    fn bot(&self, timeout_ms: u64) -> telegram::Bot {
        let url = format!("http://{}/", self.address);
        let token = "5:secret".to_owned();
        telegram::Bot::new(&TelegramSettings { url, token, timeout_ms, ..Default::default() })
    }
}

fn reason(verdict: Verdict) -> (Reason, Option<i64>, String) {
    match verdict {
        Verdict::Later { reason, retry_after_ms, error } => (reason, retry_after_ms, error),
        other => panic!("wanted later, found {other:?}"),
    }
}

#[test]
fn telegram_gets_send_message_and_its_errors_are_understood() {
    let server = Server::start(|request| match request {
        0 => Some((200, json!({"ok": true, "result": {"message_id": 41}}))),
        1 => Some((429, json!({"ok": false, "parameters": {"retry_after": 2}}))),
        2 => Some((403, json!({"ok": false, "description": "bot was blocked"}))),
        3 => Some((502, json!("bad gateway"))),
        _ => None,
    });
    let bot = server.bot(300);
    let parcel = parcel(1, Address::Telegram(-5));
    assert_eq!(bot.send(&parcel, &text()), Verdict::Sent(Some("41".to_owned())));
    let (path, _, body) = server.asked.lock().unwrap()[0].clone();
    assert_eq!(path, "/bot5:secret/sendMessage");
    assert_eq!(body, json!({"chat_id": -5, "text": "Заявка\n\nОтменена.\n.\nКонец"}));
    let (found, after, _) = reason(bot.send(&parcel, &text()));
    assert_eq!((found, after), (Reason::Throttled, Some(2_000)));
    assert!(matches!(bot.send(&parcel, &text()), Verdict::Refused(e) if e.contains("blocked")));
    assert_eq!(reason(bot.send(&parcel, &text())).0, Reason::Provider);
    let (found, _, error) = reason(bot.send(&parcel, &text()));
    assert_eq!((found, error.as_str()), (Reason::Unreachable, "no answer in time"));
}

#[test]
fn sms_gets_the_fields_of_the_settings_and_an_idempotency_key() {
    let server = Server::start(|request| match request {
        0 => Some((202, json!({"ref": 9}))),
        1 => Some((422, json!({"error": "number"}))),
        _ => Some((503, json!({}))),
    });
    let provider = sms::Provider::new(&SmsSettings {
        url: format!("http://{}/v1/send", server.address),
        token: "secret".to_owned(),
        to_field: "msisdn".to_owned(),
        answer_id_field: "ref".to_owned(),
        ..SmsSettings::default()
    });
    let parcel = parcel(3, Address::Sms("+7".to_owned()));
    assert_eq!(provider.send(&parcel, &text()), Verdict::Sent(Some("9".to_owned())));
    let (path, headers, body) = server.asked.lock().unwrap()[0].clone();
    let id = Uuid::from_u128(3).to_string();
    assert_eq!(path, "/v1/send");
    assert_eq!(body, json!({"msisdn": "+7", "text": "Отмена", "id": id}));
    assert_eq!((&headers["idempotency-key"], &*headers["authorization"]), (&id, "Bearer secret"));
    assert!(matches!(provider.send(&parcel, &text()), Verdict::Refused(_)));
    assert_eq!(reason(provider.send(&parcel, &text())).0, Reason::Provider);
}

#[test]
fn nobody_there_is_unreachable_and_no_secret_is_told() {
    let free = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let bot = telegram::Bot::new(&TelegramSettings {
        url: format!("http://{free}"),
        token: "5:secret".to_owned(),
        ..TelegramSettings::default()
    });
    let (found, _, error) = reason(bot.send(&parcel(1, Address::Telegram(1)), &text()));
    assert_eq!(found, Reason::Unreachable);
    assert!(!error.contains("secret"), "{error}");
    let smtp = email::Smtp::new(&EmailSettings {
        host: free.ip().to_string(),
        port: free.port(),
        encryption: Encryption::None,
        ..EmailSettings::default()
    });
    let verdict = smtp.unwrap().send(&parcel(1, Address::Email("a@example.org".into())), &text());
    assert_eq!(reason(verdict).0, Reason::Unreachable);
}

#[test]
fn a_mail_has_the_message_id_and_an_address_that_is_none_is_refused() {
    let stand_ins = StandIns::start().unwrap();
    let mut settings = Settings::default();
    stand_ins.configure(&mut settings);
    settings.email.from = "Service <noreply@example.org>".to_owned();
    let smtp = email::Smtp::new(&settings.email).unwrap();
    let parcel_to = |to: &str| parcel(1, Address::Email(to.to_owned()));
    let id = format!("<{}@example.org>", Uuid::from_u128(1));
    assert_eq!(smtp.send(&parcel_to("a@example.org"), &text()), Verdict::Sent(Some(id.clone())));
    let taken = stand_ins.taken();
    let mail = &taken.messages[0];
    assert_eq!((&*mail.to, &*mail.title, &mail.id), ("a@example.org", "Заявка", &id));
    drop(taken);
    for wrong in ["nobody", "a@b\r\nBcc: x@y", ""] {
        assert!(matches!(smtp.send(&parcel_to(wrong), &text()), Verdict::Refused(_)), "{wrong}");
    }
}

fn receive(results: &Receiver<Reply>) -> Reply {
    results.recv_timeout(WITHIN).expect("a result comes")
}

#[test]
fn the_pool_sends_on_every_channel_and_never_the_same_twice() {
    let stand_ins = StandIns::start().unwrap();
    let mut settings = Settings::default();
    stand_ins.configure(&mut settings);
    let pool = courier::from_settings(&settings, templates()).unwrap();
    let (reply_to, results) = channel();
    let addresses = [
        Address::Email("a@example.org".to_owned()),
        Address::Telegram(5),
        Address::Sms("+7".to_owned()),
    ];
    for round in 0..2 {
        for (id, address) in (1..).zip(&addresses) {
            pool.submit(parcel(id, address.clone()), reply_to.clone());
        }
        let mut ids: Vec<u128> = (0..3).map(|_| receive(&results).id.as_u128()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3], "round {round}");
    }
    let taken = stand_ins.taken();
    assert_eq!(taken.count, 3, "the second round was told from memory");
    let mut channels: Vec<Channel> = taken.messages.iter().map(|m| m.channel).collect();
    channels.sort();
    assert_eq!(channels, [Channel::Email, Channel::Telegram, Channel::Sms]);
    assert!(taken.messages.iter().all(|m| m.title.contains("Заявка №7 отменена")), "{taken:?}");
}

/// A carrier that waits until the test lets it go.
struct Held(Mutex<Receiver<()>>);

impl Carrier for Held {
    fn send(&self, _: &Parcel, _: &Text) -> Verdict {
        let _ = self.0.lock().unwrap().recv_timeout(WITHIN);
        Verdict::Sent(None)
    }
}

#[test]
fn a_message_under_way_is_not_sent_again_and_tells_whoever_asked_last() {
    let (go, wait) = channel();
    let carrier = Arc::new(Held(Mutex::new(wait)));
    let pool =
        Pool::new(templates(), vec![Route { channel: Channel::Sms, carrier, concurrency: 2 }]);
    let ((first, early), (second, late)) = (channel(), channel());
    let parcel = parcel(1, Address::Sms("+7".to_owned()));
    pool.submit(parcel.clone(), first);
    pool.submit(parcel, second);
    go.send(()).unwrap();
    assert_eq!(receive(&late).id.as_u128(), 1);
    assert!(early.try_recv().is_err());
}

#[test]
fn a_hanging_provider_holds_up_its_own_channel_only() {
    let hanging = Server::start(|_| None);
    let working = Server::start(|_| Some((200, json!({}))));
    let telegram = TelegramSettings {
        url: format!("http://{}", hanging.address),
        token: "t".to_owned(),
        timeout_ms: 30_000,
        ..TelegramSettings::default()
    };
    let sms = SmsSettings { url: format!("http://{}", working.address), ..SmsSettings::default() };
    let settings = Settings { telegram, sms, ..Settings::default() };
    let pool = courier::from_settings(&settings, templates()).unwrap();
    let (reply_to, results) = channel();
    for id in 1..=20 {
        pool.submit(parcel(id, Address::Telegram(1)), reply_to.clone());
        pool.submit(parcel(100 + id, Address::Sms("+7".to_owned())), reply_to.clone());
    }
    for _ in 0..20 {
        let reply = receive(&results);
        assert!(reply.id.as_u128() > 100 && matches!(reply.verdict, Verdict::Sent(_)), "{reply:?}");
    }
}

#[test]
fn a_message_without_template_or_parameter_is_refused() {
    let stand_ins = StandIns::start().unwrap();
    let mut settings = Settings::default();
    stand_ins.configure(&mut settings);
    let pool = courier::from_settings(&settings, templates()).unwrap();
    let (reply_to, results) = channel();
    let mut unknown = parcel(1, Address::Sms("+7".to_owned()));
    unknown.message.template = "nothing".to_owned();
    let mut incomplete = parcel(2, Address::Sms("+7".to_owned()));
    incomplete.message.parameters.clear();
    for parcel in [unknown, incomplete] {
        pool.submit(parcel, reply_to.clone());
        assert!(matches!(receive(&results).verdict, Verdict::Refused(_)));
    }
    assert_eq!(stand_ins.taken().count, 0);
}
