//! What is not shown: secrets, in whatever line they stand, and personal data (telephone numbers, e-mail addresses, names).
//!
//! Logs and errors pass through a [`Mask`]; the views of dead letters through [`personal`] unless the data is asked for. Cold.

use std::borrow::Cow;
use std::sync::LazyLock;

use kstreams::Error;
use regex::Regex;
use serde_json::Value;

use crate::settings::HIDDEN;

/// What stands for personal data.
pub const PERSONAL: &str = "***";
/// Shorter secrets are not looked for in texts: they would be found in every other word.
const SECRET_LETTERS_MIN: usize = 4;

/// Fields that are, or end in `_` and, one of these hold personal data.
const PERSONAL_FIELDS: [&str; 5] = ["name", "email", "phone", "telegram_chat_id", "address"];

/// An e-mail address, whose domain ends in letters (`topic-1@0` is a place, not one), or a telephone number with its country's code.
static PERSONAL_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[\w.%+-]+@[\w-]+(\.[\w-]+)*\.\p{Alphabetic}{2,}|\+\d[\d ()-]{5,}\d")
        .expect("the pattern is valid")
});

/// Hides what must not be shown.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// The longest first: one may be part of another.
    secrets: Vec<String>,
}

impl Mask {
    /// A mask over these secrets, as they are and as JSON writes them.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let long = |secret: &String| secret.chars().count() >= SECRET_LETTERS_MIN;
        let mut all = Vec::new();
        for secret in secrets.into_iter().filter(long) {
            let json = Value::from(secret.as_str()).to_string();
            all.push(json.trim_matches('"').to_owned());
            all.push(secret);
        }
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { secrets: all }
    }

    /// The text without secrets and personal data.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.secrets {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(shown.replace(secret.as_str(), HIDDEN));
            }
        }
        match PERSONAL_TEXT.is_match(&shown) {
            true => Cow::Owned(PERSONAL_TEXT.replace_all(&shown, PERSONAL).into_owned()),
            false => shown,
        }
    }

    /// The error with its causes in one masked message.
    pub fn error(&self, error: Error) -> Error {
        let mut text = error.message().to_owned();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        Error::new(error.kind(), self.text(&text))
    }
}

/// Hides personal data in a record: whole fields by their names, and what looks like it in other texts.
pub fn personal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if is_personal(name) && !value.is_null() {
                    *value = PERSONAL.into();
                } else {
                    personal(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(personal),
        Value::String(text) => {
            if let Cow::Owned(masked) = Mask::default().text(text) {
                *text = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_personal(field: &str) -> bool {
    let ends = |word: &str| {
        field.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    };
    PERSONAL_FIELDS.into_iter().any(ends)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_in_any_text_also_as_json_writes_them() {
        let mask = Mask::new(["p\"w;rd".to_owned(), "p\"w;rd-longer".to_owned(), "abc".to_owned()]);
        let text = mask.text(r#"user p"w;rd-longer, {"password":"p\"w;rd"}, abc"#);
        assert_eq!(text, r#"user ********, {"password":"********"}, abc"#);
    }

    #[test]
    fn addresses_and_numbers_are_hidden_and_places_are_not() {
        let mask = Mask::default();
        for (text, shown) in [
            ("550 no such user <ada.l@mail.example.org>", "550 no such user <***>"),
            ("почта иван@пример.рф", "почта ***"),
            ("to +7 (912) 345-67-89 now", "to *** now"),
            (
                "request-events-1@17, offset +12, at 951782400000",
                "request-events-1@17, offset +12, at 951782400000",
            ),
            ("2026-03-01T12:00:00.000+00:00", "2026-03-01T12:00:00.000+00:00"),
        ] {
            assert_eq!(mask.text(text), shown);
        }
    }

    #[test]
    fn an_error_keeps_its_kind_and_tells_its_causes() {
        let error = Error::retriable("cannot log in").with_source(Error::fatal("wrong hunter2"));
        let masked = Mask::new(["hunter2".to_owned()]).error(error);
        assert_eq!(masked.kind(), kstreams::ErrorKind::Retriable);
        assert_eq!(masked.message(), "cannot log in: wrong ********");
    }

    #[test]
    fn fields_of_persons_are_hidden_wherever_they_stand() {
        let mut value = json!({
            "manager_id": 7, "name": "Ada", "email": null, "region": "North",
            "parameters": { "customer_name": "Bob", "surname_hint": "x", "text": "call +79123456789" },
            "list": [{ "telegram_chat_id": 5 }],
        });
        personal(&mut value);
        let wanted = json!({
            "manager_id": 7, "name": "***", "email": null, "region": "North",
            "parameters": { "customer_name": "***", "surname_hint": "x", "text": "call ***" },
            "list": [{ "telegram_chat_id": "***" }],
        });
        assert_eq!(value, wanted);
    }
}
