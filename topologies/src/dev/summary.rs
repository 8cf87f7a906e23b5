//! What a run of the local mode ends with, and whether it adds up.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kstreams::{Error, Result};
use serde::Serialize;

use super::tally::{Missing, Tally};

/// The figures of a run, as `--summary` writes them. All are what an independent reader saw on the topics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    requests: u64,
    assigned: u64,
    waiting: u64,
    cancelled: u64,
    duplicates: u64,
    dead_letters: u64,
    /// Median from the timestamp of `request.created` to the reading of its `workflow.manager_assigned`.
    p50_ms: Option<u64>,
    p99_ms: Option<u64>,
    /// Records on the topics that the topology reads, per second of traffic.
    records_per_second: f64,
    #[serde(skip)]
    escalated: u64,
    #[serde(skip)]
    completed: u64,
    /// What the topologies published beside the assignments: topology, what, how often.
    #[serde(skip)]
    published: Vec<(String, String, u64)>,
    #[serde(skip)]
    missing: Missing,
    /// Requests that were sent and acknowledged, but not read.
    #[serde(skip)]
    unseen: u64,
}

/// What counts as a request; printed with the figures.
const DEFINITION: &str = "\
Requests are the request.created records on request-events, unreadable ones and
duplicates included, as an independent reader of the topics saw them.";

impl Summary {
    /// The figures after `traffic` of so much time, with `sent` requests sent by the simulator.
    pub(super) fn of(tally: &mut Tally, sent: u64, traffic: Duration) -> Self {
        let missing = tally.missing();
        let latencies = tally.latencies();
        let (p50_ms, p99_ms) = (latencies.quantile_ms(0.5), latencies.quantile_ms(0.99));
        let published = tally.published_by_all();
        let counts = tally.counts();
        let per_second = counts.records as f64 / traffic.as_secs_f64().max(0.001);
        Self {
            requests: counts.requests,
            assigned: counts.assigned,
            // Those who wait without need are not waiting, but missing.
            waiting: counts.waiting.saturating_sub(missing.forgotten),
            cancelled: counts.cancelled,
            duplicates: counts.duplicates,
            dead_letters: counts.dead_letters,
            p50_ms,
            p99_ms,
            records_per_second: (per_second * 10.0).round() / 10.0,
            escalated: counts.escalated,
            completed: counts.completed,
            published,
            missing,
            unseen: sent.saturating_sub(counts.requests),
        }
    }

    fn sum(&self) -> u64 {
        self.assigned + self.waiting + self.cancelled + self.duplicates + self.dead_letters
    }

    /// Checks that every request is in exactly one class.
    ///
    /// # Errors
    /// `Fatal`, saying what is missing.
    pub(super) fn check(&self) -> Result<()> {
        let mut missing = Vec::new();
        for (count, what) in [
            (self.unseen, "were sent, but are not on request-events"),
            (self.missing.unread, "are unreadable, but not in the dead-letter topic"),
            (self.missing.forgotten, "wait although a manager of their region is free"),
        ] {
            if count > 0 {
                missing.push(format!("{count} requests {what}"));
            }
        }
        let sum = self.sum();
        if sum != self.requests {
            missing.insert(0, format!("found {sum} in all classes, wanted {}", self.requests));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::fatal(format!("the summary does not add up: {}", missing.join("; "))))
    }

    /// Prints the figures and what they mean.
    pub(super) fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let verdict = if self.check().is_ok() { "adds up" } else { "DOES NOT ADD UP" };
        writeln!(out, "{:>9} requests  ({verdict})", self.requests)?;
        for (count, class, meaning) in [
            (self.assigned, "assigned", "a manager was assigned"),
            (self.waiting, "waiting", "not yet: no manager of their region is free"),
            (self.cancelled, "cancelled", "before a manager was assigned"),
            (self.duplicates, "duplicates", "the same request id once more"),
            (self.dead_letters, "dead letters", "in the dead-letter topic"),
        ] {
            writeln!(out, "{count:>9} {class:<13} {meaning}")?;
        }
        let ms = |value: Option<u64>| value.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        let (p50, p99) = (ms(self.p50_ms), ms(self.p99_ms));
        writeln!(out, "{DEFINITION}")?;
        writeln!(
            out,
            "Latency, request.created sent to its assignment read: p50 {p50}, p99 {p99}."
        )?;
        writeln!(
            out,
            "{} records/s; {} requests escalated, {} completed.",
            self.records_per_second, self.escalated, self.completed
        )?;
        for same in self.published.chunk_by(|(one, ..), (other, ..)| one == other) {
            let counts: Vec<String> =
                same.iter().map(|(_, what, count)| format!("{count} {what}")).collect();
            writeln!(out, "{}: {}.", same[0].0, counts.join(", "))?;
        }
        Ok(())
    }

    /// Writes the figures as JSON.
    ///
    /// # Errors
    /// `Invalid` where the file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::fatal("cannot write the summary as JSON").with_source(error))?;
        std::fs::write(path, json + "\n").map_err(|error| {
            let path = path.display();
            Error::invalid(format!("--summary: cannot write \"{path}\"")).with_source(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            requests: 15,
            assigned: 5,
            waiting: 4,
            cancelled: 3,
            duplicates: 2,
            dead_letters: 1,
            p50_ms: Some(20),
            p99_ms: None,
            records_per_second: 12.5,
            escalated: 0,
            completed: 0,
            published: Vec::new(),
            missing: Missing::default(),
            unseen: 0,
        }
    }

    #[test]
    fn a_sum_that_adds_up_is_accepted_and_any_other_says_what_is_missing() {
        summary().check().unwrap();
        let text = Summary { waiting: 3, ..summary() }.check().unwrap_err().to_string();
        assert_eq!(text, "the summary does not add up: found 14 in all classes, wanted 15");
        let missing = Missing { unread: 2, forgotten: 1 };
        let text = Summary { missing, unseen: 7, ..summary() }.check().unwrap_err().to_string();
        for part in ["7 requests were sent", "2 requests are unreadable", "1 requests wait"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_unreadable_request_that_is_no_dead_letter_does_not_add_up() {
        let mut tally = Tally::default();
        tally.request((0, 0), None);
        let summary = Summary::of(&mut tally, 1, Duration::from_secs(1));
        let text = summary.check().unwrap_err().to_string();
        assert!(
            text.contains("found 0 in all classes, wanted 1; 1 requests are unreadable"),
            "{text}"
        );
        tally.request_letter((0, 0), None);
        Summary::of(&mut tally, 1, Duration::from_secs(1)).check().unwrap();
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(summary()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = [
            "requests",
            "assigned",
            "waiting",
            "cancelled",
            "duplicates",
            "dead_letters",
            "p50_ms",
            "p99_ms",
            "records_per_second",
        ];
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
    }
}
