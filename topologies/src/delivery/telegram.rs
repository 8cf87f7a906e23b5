//! The Telegram Bot API, `sendMessage`. Source: <https://core.telegram.org/bots/api#making-requests>.
//!
//! It has no idempotency key: a message whose answer was lost is sent again, as the lesser evil.

use kstreams::telemetry::TRACEPARENT;
use serde_json::json;
use ureq::Agent;

use crate::recipients::Address;

use super::courier::Carrier;
use super::http::{Answer, agent, later, post};
use super::rules::{Parcel, Reason, Verdict};
use super::settings::TelegramSettings;
use super::templates::Text;

/// The longest text that the API takes, in characters.
const TEXT_CHARS_MAX: usize = 4_096;

/// A bot.
pub(super) struct Bot {
    agent: Agent,
    url: String,
}

impl Bot {
    /// A bot as the settings describe it.
    pub(super) fn new(settings: &TelegramSettings) -> Self {
        let base = settings.url.trim_end_matches('/');
        let url = format!("{base}/bot{}/sendMessage", settings.token);
        Self { agent: agent(settings.timeout_ms), url }
    }
}

impl Carrier for Bot {
    fn send(&self, parcel: &Parcel, text: &Text) -> Verdict {
        let Address::Telegram(chat_id) = parcel.address else {
            return Verdict::Refused("found another address than a chat".to_owned());
        };
        let whole = format!("{}\n\n{}", text.subject, text.text);
        let whole: String = whole.chars().take(TEXT_CHARS_MAX).collect();
        let body = json!({ "chat_id": chat_id, "text": whole });
        let trace = parcel.message.trace.map(|context| context.to_string());
        let headers: Vec<_> = trace.iter().map(|trace| (TRACEPARENT, trace.as_str())).collect();
        match post(&self.agent, &self.url, &headers, &body) {
            Ok(answer) => judge(&answer),
            Err(error) => later(Reason::Unreachable, error, None),
        }
    }
}

fn judge(answer: &Answer) -> Verdict {
    let body = &answer.body;
    if answer.status == 200 && body["ok"] == true {
        let id = body["result"]["message_id"].as_i64();
        return Verdict::Sent(id.map(|id| id.to_string()));
    }
    let description = body["description"].as_str().or_else(|| body.as_str()).unwrap_or_default();
    let error = format!("{} {description}", answer.status).trim().to_owned();
    let seconds = body["parameters"]["retry_after"].as_i64();
    let retry_after_ms = seconds.map(|s| s.saturating_mul(1_000)).or(answer.retry_after_ms);
    match answer.status {
        429 => later(Reason::Throttled, error, retry_after_ms),
        // No bot has this token: wrong settings, never the message's fault.
        401 | 404 => later(Reason::Unreachable, error, None),
        400 | 403 | 413 => Verdict::Refused(error),
        _ => later(Reason::Provider, error, retry_after_ms),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn judged(status: u16, body: Value) -> Verdict {
        judge(&Answer { status, retry_after_ms: None, body })
    }

    #[test]
    fn answers_are_judged_as_the_api_means_them() {
        let sent = json!({"ok": true, "result": {"message_id": 77}});
        assert_eq!(judged(200, sent), Verdict::Sent(Some("77".to_owned())));
        let flood = json!({"ok": false, "error_code": 429, "parameters": {"retry_after": 3}});
        let Verdict::Later { reason, retry_after_ms, .. } = judged(429, flood) else { panic!() };
        assert_eq!((reason, retry_after_ms), (Reason::Throttled, Some(3_000)));
        let blocked = json!({"ok": false, "description": "Forbidden: bot was blocked by the user"});
        assert_eq!(
            judged(403, blocked),
            Verdict::Refused("403 Forbidden: bot was blocked by the user".to_owned())
        );
        for (status, reason) in [
            (401, Reason::Unreachable),
            (404, Reason::Unreachable),
            (500, Reason::Provider),
            (200, Reason::Provider),
        ] {
            let verdict = judged(status, json!("x"));
            assert!(
                matches!(verdict, Verdict::Later { reason: found, .. } if found == reason),
                "{verdict:?}"
            );
        }
    }
}
