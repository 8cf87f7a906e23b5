//! Effective settings as TOML with the origin of each, secrets hidden.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Value;

use super::Loaded;
use crate::mask::Mask;

/// What stands for a secret.
pub const HIDDEN: &str = "********";

impl Loaded {
    /// Every setting in effect, sorted, as TOML that can be read back where nothing is hidden.
    pub fn show(&self) -> String {
        // In order of tables: TOML does not let one go on after another.
        let mut tables: BTreeMap<&str, String> = BTreeMap::new();
        for (key, (value, origin)) in &self.values {
            let (table, name) = split(key);
            let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let name = if bare { name.to_owned() } else { format!("{name:?}") };
            let lines = tables.entry(table).or_default();
            let _ = writeln!(lines, "{name} = {} # {origin}", shown(key, value));
        }
        let tables = tables.iter().map(|(table, lines)| format!("[{table}]\n{lines}"));
        tables.collect::<Vec<_>>().join("\n")
    }
}

impl Loaded {
    /// Hides the secrets among these settings.
    pub fn mask(&self) -> Mask {
        let secrets = self.values.iter().filter(|(key, _)| is_secret(key));
        Mask::new(
            secrets.flat_map(|(key, (value, _))| parts(key, value.as_str().unwrap_or_default())),
        )
    }
}

/// A secret, and the password alone of one that is `user:password`.
fn parts(key: &str, value: &str) -> Vec<String> {
    let password =
        value.split_once(':').filter(|_| key.contains("user_info") || key.contains("user.info"));
    let password = password.map(|(_, password)| password.to_owned());
    std::iter::once(value.to_owned()).chain(password).collect()
}

/// Whether the value of a setting is never to be shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    // Where a key lies is no secret; what it is, is.
    let place = key.ends_with(".location") || key.ends_with("_file");
    let words = ["password", "secret", "token", "key", "user_info", "user.info", "sasl.jaas"];
    // A key of the table of regions is a region's name.
    !place && !key.starts_with("manager_assignment.") && words.iter().any(|word| key.contains(word))
}

fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => value.to_string(),
        _ if is_secret(key) => format!("\"{HIDDEN}\""),
        value => value.to_string(),
    }
}

fn split(key: &str) -> (&str, &str) {
    for table in super::layers::FREE {
        if let Some(rest) = key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) {
            return (&key[..table.len()], rest);
        }
    }
    key.rsplit_once('.').unwrap_or(("", key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(flags: &[(&str, &str)]) -> String {
        let flags: Vec<_> = flags.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Loaded::load(&[], [], &flags).unwrap().show()
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let text = shown_of(&[
            ("client.sasl.password", "hunter2"),
            ("client.ssl.key.password", "hunter2"),
            ("client.ssl.key.pem", "hunter2"),
            ("client.sasl.oauthbearer.client.secret", "hunter2"),
            ("schema_registry.basic_auth_user_info", "me:hunter2"),
            ("client.ssl.key.location", "here.pem"),
            ("client.sasl.username", "me"),
            ("http.bearer_token", "hunter2"),
            ("clickhouse.password", "hunter2"),
            ("delivery.telegram.token", "hunter2"),
        ]);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("\"ssl.key.location\" = \"here.pem\" # flag"), "{text}");
        assert!(text.contains("\"sasl.password\" = \"********\" # flag"), "{text}");
        assert!(text.contains("[client]"), "{text}");
    }

    #[test]
    fn settings_with_secrets_are_known_by_their_names() {
        for key in ["schema_registry.bearer_auth_token", "http.bearer_token", "delivery.sms.token"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["http.tls_key_file", "kafka.state_dir", "client.ssl.key.location"] {
            assert!(!is_secret(key), "{key}");
        }
        let flags = [("schema_registry.basic_auth_user_info".to_owned(), "ann:s3cret".to_owned())];
        let mask = Loaded::load(&[], [], &flags).unwrap().mask();
        assert_eq!(mask.text("ann:s3cret, and s3cret alone"), "********, and ******** alone");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let text = shown_of(&[
            ("client.security.protocol", "SSL"),
            ("manager_assignment.fallback_regions.Key West", "Miami \"Beach\""),
        ]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let loaded = Loaded::load(&[file.path().to_owned()], [], &[]).unwrap();
        assert_eq!(loaded.settings.client["security.protocol"], "SSL");
        let regions = &loaded.settings.manager_assignment.fallback_regions;
        assert_eq!(regions["Key West"], "Miami \"Beach\"");
    }
}
