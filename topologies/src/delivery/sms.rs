//! An SMS provider over HTTP: one POST of a JSON object, whose field names are settings.

use kstreams::telemetry::TRACEPARENT;
use serde_json::{Map, Value};
use ureq::Agent;

use crate::recipients::Address;

use super::courier::Carrier;
use super::http::{Answer, agent, later, post};
use super::rules::{Parcel, Reason, Verdict};
use super::settings::SmsSettings;
use super::templates::Text;

/// A provider.
pub(super) struct Provider {
    agent: Agent,
    settings: SmsSettings,
}

impl Provider {
    /// A provider as the settings describe it.
    pub(super) fn new(settings: &SmsSettings) -> Self {
        Self { agent: agent(settings.timeout_ms), settings: settings.clone() }
    }

    fn body(&self, to: &str, text: &str, id: &str) -> Value {
        let settings = &self.settings;
        let mut body = Map::new();
        for (name, value) in [
            (&settings.to_field, to),
            (&settings.text_field, text),
            (&settings.id_field, id),
            (&settings.from_field, &settings.from),
        ] {
            if !name.is_empty() && !value.is_empty() {
                body.insert(name.clone(), Value::String(value.to_owned()));
            }
        }
        Value::Object(body)
    }
}

impl Carrier for Provider {
    fn send(&self, parcel: &Parcel, text: &Text) -> Verdict {
        let Address::Sms(to) = &parcel.address else {
            return Verdict::Refused("found another address than a telephone number".to_owned());
        };
        let id = parcel.message.id.to_string();
        let authorization = format!("Bearer {}", self.settings.token);
        let trace = parcel.message.trace.map(|context| context.to_string());
        let mut headers = vec![("Idempotency-Key", id.as_str())];
        headers.extend(trace.iter().map(|trace| (TRACEPARENT, trace.as_str())));
        if !self.settings.token.is_empty() {
            headers.push(("Authorization", &authorization));
        }
        let body = self.body(to, &text.sms, &id);
        match post(&self.agent, &self.settings.url, &headers, &body) {
            Ok(answer) => judge(&answer, &self.settings.answer_id_field),
            Err(error) => later(Reason::Unreachable, error, None),
        }
    }
}

fn judge(answer: &Answer, id_field: &str) -> Verdict {
    if (200..300).contains(&answer.status) {
        let id = match &answer.body[id_field] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        return Verdict::Sent(id);
    }
    let said = match &answer.body {
        Value::String(text) => text.clone(),
        other => other.to_string().chars().take(200).collect(),
    };
    let error = format!("{} {said}", answer.status);
    match answer.status {
        429 => later(Reason::Throttled, error, answer.retry_after_ms),
        // Wrong settings, or an unpaid bill: never the message's fault.
        401..=405 => later(Reason::Unreachable, error, None),
        408 | 425 | 500.. => later(Reason::Provider, error, answer.retry_after_ms),
        _ => Verdict::Refused(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_have_the_names_of_the_settings() {
        let settings = SmsSettings {
            to_field: "msisdn".into(),
            text_field: "body".into(),
            from_field: "sender".into(),
            id_field: String::new(),
            from: "ACME".into(),
            ..SmsSettings::default()
        };
        let body = Provider::new(&settings).body("+7", "hello", "id");
        assert_eq!(body, json!({"msisdn": "+7", "body": "hello", "sender": "ACME"}));
        let body = Provider::new(&SmsSettings::default()).body("+7", "hello", "1");
        assert_eq!(body, json!({"to": "+7", "text": "hello", "id": "1"}));
    }

    #[test]
    fn answers_are_judged_by_status() {
        let judged =
            |status, body| judge(&Answer { status, retry_after_ms: Some(5_000), body }, "id");
        assert_eq!(judged(202, json!({"id": 8})), Verdict::Sent(Some("8".into())));
        assert_eq!(judged(200, json!("ok")), Verdict::Sent(None));
        assert!(
            matches!(judged(422, json!({"error": "bad number"})), Verdict::Refused(e) if e.contains("bad number"))
        );
        for (status, reason) in
            [(429, Reason::Throttled), (401, Reason::Unreachable), (503, Reason::Provider)]
        {
            let verdict = judged(status, json!({}));
            assert!(
                matches!(verdict, Verdict::Later { reason: found, .. } if found == reason),
                "{verdict:?}"
            );
        }
    }
}
