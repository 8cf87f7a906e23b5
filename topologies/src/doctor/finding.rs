//! What was found, as lines and as JSON.

use std::fmt::Write as _;

use kstreams::Error;
use serde::Serialize;

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well or for as long as it should.
    Warn,
    /// Something does not work, or loses or misplaces records.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which look this was; a word of a closed set.
    pub check: &'static str,
    /// What was looked at: an address, a topic, a group, a folder.
    pub about: String,
    /// How well it is.
    pub status: Status,
    /// What was found, and what was wanted where that differs.
    pub found: String,
    /// What to do; nothing where all is well.
    pub cure: String,
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, about: &str, found: impl Into<String>) {
        self.add(check, about, Status::Ok, found.into(), "");
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        about: &str,
        found: impl Into<String>,
        cure: &str,
    ) {
        self.add(check, about, Status::Warn, found.into(), cure);
    }

    pub(super) fn fail(
        &mut self,
        check: &'static str,
        about: &str,
        found: impl Into<String>,
        cure: &str,
    ) {
        self.add(check, about, Status::Fail, found.into(), cure);
    }

    /// A look that could not be taken.
    pub(super) fn blind(&mut self, check: &'static str, about: &str, error: &Error) {
        let cure = "see to what the other lines say, then look again";
        self.fail(check, about, format!("could not be looked at: {error}"), cure);
    }

    fn add(&mut self, check: &'static str, about: &str, status: Status, found: String, cure: &str) {
        let (about, cure) = (about.to_owned(), cure.to_owned());
        self.0.push(Finding { check, about, status, found, cure });
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|finding| finding.status < Status::Fail)
    }

    /// A line for each, the cure on a line of its own, and how many of each there are.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let word = match finding.status {
                Status::Ok => "ok",
                Status::Warn => "WARN",
                Status::Fail => "FAIL",
            };
            let Finding { check, about, found, cure, .. } = finding;
            let _ = writeln!(text, "{word:<5}{check:<12}{about}: {}", found.replace('\n', " "));
            if !cure.is_empty() {
                let _ = writeln!(text, "{:17}-> {cure}", "");
            }
        }
        let count = |status| self.0.iter().filter(|finding| finding.status == status).count();
        let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
        let _ = writeln!(text, "{} looks: {ok} ok, {warn} warn, {fail} fail", self.0.len());
        text
    }

    /// The same for machines.
    pub fn json(&self) -> String {
        let body = serde_json::json!({ "ok": self.is_good(), "findings": self.0 });
        format!("{body:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_cure_and_only_a_failure_is_not_good() {
        let mut findings = Findings::default();
        findings.ok("brokers", "127.0.0.1:9092", "3");
        findings.warn("disk", "state", "found 1 byte free", "make room");
        assert!(findings.is_good());
        findings.fail("topics", "hr-events", "missing", "run it");
        assert!(!findings.is_good());
        let wanted = "ok   brokers     127.0.0.1:9092: 3\n\
                      WARN disk        state: found 1 byte free\n                 -> make room\n\
                      FAIL topics      hr-events: missing\n                 -> run it\n\
                      3 looks: 1 ok, 1 warn, 1 fail\n";
        assert_eq!(findings.text(), wanted);
        let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["findings"][1]["status"], "warn");
    }
}
