//! Dead letters as findings. Pure.
//!
//! A dead letter is read as bytes, and everything here has a default, so that no letter can become one itself.

use std::collections::BTreeMap;

use kstreams::dlq::ErrorHeaders;
use kstreams::{Headers, Timestamp};

use super::rules::{Finding, Kind, cut};

/// The headers that are worth a place among the details, and their names there.
const DETAILS: [(&str, &str); 10] = [
    ("topic", "source_topic"),
    ("partition", "source_partition"),
    ("offset", "source_offset"),
    ("exception", "exception"),
    ("message", "message"),
    ("stage", "stage"),
    ("class", "class"),
    ("task.id", "task"),
    ("processor.node.id", "node"),
    ("fingerprint", "fingerprint"),
];

/// A dead letter, as far as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What is reported.
    pub finding: Finding,
    /// The topic that the record came from, for the figures.
    pub source_topic: String,
    /// When it was set aside.
    pub at: Option<Timestamp>,
}

/// What a record of a dead-letter topic says by its headers. `topic` is the dead-letter topic.
pub fn letter(topic: &str, headers: &Headers) -> Letter {
    let headers = ErrorHeaders::read(headers);
    let application = headers.get("application.id").unwrap_or("unknown");
    let details: BTreeMap<String, String> = DETAILS
        .iter()
        .filter_map(|(header, name)| {
            Some(((*name).to_owned(), cut(headers.get(header)?.to_owned())))
        })
        .collect();
    let at = headers.get("timestamp").and_then(|text| text.parse().ok()).filter(|at| *at >= 0);
    let service = cut(format!("service:{application}"));
    Letter {
        finding: Finding {
            kind: Kind::ErrorOccurred,
            entity: service.clone(),
            actor: service,
            request_id: None,
            contractor_id: None,
            details,
        },
        source_topic: headers.get("topic").unwrap_or(topic).to_owned(),
        at: at.map(Timestamp::from_millis),
    }
}
