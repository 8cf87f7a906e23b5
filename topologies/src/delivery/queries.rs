//! What notification-delivery can tell: the messages about a request, and what has become of them.

use kstreams::{Handle, Result};
use serde_json::{Value, json};

use super::NAME;
use super::rules::{Fate, Shown};
use super::stores::REQUESTS;
use crate::codec::ordered;
use crate::queries::{
    ENTRIES_MAX, Queries, Question, Reads, from_json, number, open, unknown_read,
};

/// The queries of this topology.
pub(crate) static QUERIES: &dyn Queries = &Delivery;

struct Delivery;

impl Queries for Delivery {
    fn takes_part(&self, question: &Question) -> bool {
        matches!(question, Question::Request(_))
    }

    fn part(&self, question: &Question, reads: &Reads<'_>) -> Result<Value> {
        let Question::Request(id) = question else { return Ok(Value::Null) };
        // Its messages lie with those whom they are for.
        let mut all: Vec<Value> = Vec::new();
        for part in reads.all(REQUESTS, "messages", &id.to_string())? {
            all.extend(from_json::<Vec<Value>>(Some(part))?);
        }
        if all.is_empty() {
            return Ok(Value::Null);
        }
        let turn = |row: &Value| (row["since_at_ms"].as_i64(), row["template"].to_string());
        all.sort_by_cached_key(turn);
        Ok(json!({ "request_id": id, "notifications": all }))
    }

    fn read(&self, handle: &Handle, read: &str, partition: i32, argument: &str) -> Result<Value> {
        match read {
            "messages" => messages(handle, partition, number(argument)?),
            _ => Err(unknown_read(NAME, read)),
        }
    }
}

fn messages(handle: &Handle, partition: i32, request_id: i64) -> Result<Value> {
    let store = open::<Vec<u8>, Shown>(handle, REQUESTS, partition)?;
    let mut all = Vec::new();
    for entry in store.prefix_scan(&ordered(request_id)).take(ENTRIES_MAX) {
        let Shown { recipient, template, channel, at_ms, fate } = entry?.1;
        let (state, error) = match fate {
            Fate::Waiting => ("waiting", None),
            Fate::Sent => ("sent", None),
            Fate::Failed(error) => ("failed", Some(error)),
        };
        all.push(json!({
            "recipient": recipient,
            "template": template,
            "channel": channel.as_str(),
            "state": state,
            "since_at_ms": at_ms,
            "error": error,
        }));
    }
    Ok(Value::Array(all))
}
