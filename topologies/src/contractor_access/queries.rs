//! What contractor-access can tell: a contractor's standing, and who has access to what.

use kstreams::serdes::DefaultSerde as _;
use kstreams::{Handle, Result};
use serde_json::{Value, json};

use super::NAME;
use super::by_contractor::{ContractorEntry, Grant, Standing, WaitingDecision};
use super::by_request::{RequestEntry, Stage};
use super::rules::{ContractorId, RequestId};
use super::stores::{CONTRACTORS, GRANTS, REQUESTS, WAITING, pair_key};
use crate::codec::{ordered, unordered, wrong_key};
use crate::queries::{
    ENTRIES_MAX, Queries, Question, Reads, from_json, get, number, open, to_json, unknown_read,
};

/// The queries of this topology.
pub static QUERIES: &dyn Queries = &ContractorAccess;

struct ContractorAccess;

impl Queries for ContractorAccess {
    fn takes_part(&self, question: &Question) -> bool {
        matches!(question, Question::Request(_) | Question::Contractor(_))
    }

    fn part(&self, question: &Question, reads: &Reads<'_>) -> Result<Value> {
        match question {
            Question::Request(id) => request(*id, reads),
            Question::Contractor(id) => contractor(*id, reads),
            _ => Ok(Value::Null),
        }
    }

    fn read(&self, handle: &Handle, read: &str, partition: i32, argument: &str) -> Result<Value> {
        match read {
            "request" => {
                to_json(get::<_, RequestEntry>(handle, REQUESTS, partition, &number(argument)?)?)
            }
            "contractor" => {
                let id = number(argument)?;
                to_json(get::<_, ContractorEntry>(handle, CONTRACTORS, partition, &id)?)
            }
            "access" => {
                let (id, of): (ContractorId, RequestId) =
                    from_json(serde_json::from_str(argument).ok())?;
                let key = pair_key(id, of);
                let grant = get::<_, Grant>(handle, GRANTS, partition, &key)?;
                let waiting = get::<_, WaitingDecision>(handle, WAITING, partition, &key)?;
                Ok(access(id, of, grant.as_ref(), waiting.as_ref()).unwrap_or_default())
            }
            "all-access" => all_access(handle, partition, number(argument)?),
            _ => Err(unknown_read(NAME, read)),
        }
    }
}

fn request(id: RequestId, reads: &Reads<'_>) -> Result<Value> {
    let partition = reads.handle.partition_for_key(REQUESTS, &id, &i64::serde())?;
    let entry = reads.one(REQUESTS, partition, "request", &id.to_string())?;
    let Some(entry) = from_json::<Option<RequestEntry>>(Some(entry))? else {
        return Ok(Value::Null);
    };
    let Some(assigned) = entry.assigned else {
        return Ok(json!({ "request_id": id, "grants": [] }));
    };
    let contractor = assigned.contractor_id;
    let partition = contractor_partition(reads, contractor)?;
    let argument = json!([contractor, id]).to_string();
    let access = match reads.one(GRANTS, partition, "access", &argument)? {
        // A decision was made, and access is over or never was.
        Value::Null if matches!(assigned.stage, Stage::Waiting { .. }) => {
            json!({ "contractor_id": contractor, "request_id": id, "access": "waiting" })
        }
        Value::Null => json!({ "contractor_id": contractor, "request_id": id, "access": "none" }),
        access => access,
    };
    Ok(json!({ "request_id": id, "contractor_id": contractor, "grants": [access] }))
}

fn contractor(id: ContractorId, reads: &Reads<'_>) -> Result<Value> {
    let partition = contractor_partition(reads, id)?;
    let entry = reads.one(CONTRACTORS, partition, "contractor", &id.to_string())?;
    let entry: Option<ContractorEntry> = from_json(Some(entry))?;
    let grants = reads.one(GRANTS, partition, "all-access", &id.to_string())?;
    if entry.is_none() && grants.as_array().is_none_or(Vec::is_empty) {
        return Ok(Value::Null);
    }
    let (standing, regions, valid_until_ms, reason) = match entry.map(|entry| entry.standing) {
        None => ("unknown", None, None, None),
        Some(Standing::Expired) => ("expired", None, None, None),
        Some(Standing::Rejected { reason }) => ("rejected", None, None, Some(reason)),
        Some(Standing::Verified { regions, valid_until_ms }) => {
            let regions = if regions.is_empty() { "all".to_owned() } else { regions.join(", ") };
            ("verified", Some(regions), valid_until_ms, None)
        }
    };
    Ok(json!({
        "contractor_id": id,
        "standing": standing,
        "regions": regions,
        "valid_until_at_ms": valid_until_ms,
        "reason": reason,
        "grants": grants,
    }))
}

fn contractor_partition(reads: &Reads<'_>, id: ContractorId) -> Result<i32> {
    reads.handle.partition_for_key(CONTRACTORS, &id, &i64::serde())
}

fn access(
    id: ContractorId,
    of: RequestId,
    grant: Option<&Grant>,
    waiting: Option<&WaitingDecision>,
) -> Option<Value> {
    match (grant, waiting) {
        (Some(grant), _) => Some(json!({
            "contractor_id": id, "request_id": of, "access": "granted", "since_at_ms": grant.since_ms,
        })),
        (None, Some(waiting)) => Some(json!({
            "contractor_id": id, "request_id": of, "access": "waiting", "until_at_ms": waiting.until_ms,
        })),
        (None, None) => None,
    }
}

/// Everything that a contractor has access to or waits for.
fn all_access(handle: &Handle, partition: i32, id: ContractorId) -> Result<Value> {
    let prefix = ordered(id);
    let request_of = |key: &[u8]| -> Result<RequestId> {
        let request = key.strip_prefix(&prefix[..]).and_then(|rest| rest.try_into().ok());
        request.map(unordered).ok_or_else(|| wrong_key("grant"))
    };
    let mut all = Vec::new();
    let grants = open::<Vec<u8>, Grant>(handle, GRANTS, partition)?;
    for entry in grants.prefix_scan(&prefix).take(ENTRIES_MAX) {
        let (key, grant) = entry?;
        all.extend(access(id, request_of(&key)?, Some(&grant), None));
    }
    let waiting = open::<Vec<u8>, WaitingDecision>(handle, WAITING, partition)?;
    for entry in waiting.prefix_scan(&prefix).take(ENTRIES_MAX) {
        let (key, waiting) = entry?;
        all.extend(access(id, request_of(&key)?, None, Some(&waiting)));
    }
    Ok(Value::Array(all))
}
