//! What hr-documents can tell: the documents of a request, the paperwork still open, a contractor's contract.

use kstreams::serdes::DefaultSerde as _;
use kstreams::{Handle, Result};
use serde_json::{Value, json};

use super::NAME;
use super::by_request::{Paperwork, RequestEntry};
use super::contracts::Contract;
use super::rules::{ContractorId, RequestId};
use super::stores::{CONTRACTS, PAPERWORK, REQUESTS};
use crate::queries::{
    ENTRIES_MAX, Queries, Question, Reads, from_json, get, number, open, to_json, unknown_read,
};

/// The queries of this topology.
pub static QUERIES: &dyn Queries = &HrDocuments;

struct HrDocuments;

impl Queries for HrDocuments {
    fn takes_part(&self, question: &Question) -> bool {
        matches!(
            question,
            Question::Request(_) | Question::Contractor(_) | Question::Paperwork { .. }
        )
    }

    fn part(&self, question: &Question, reads: &Reads<'_>) -> Result<Value> {
        match question {
            Question::Request(id) => request(*id, reads),
            Question::Contractor(id) => contractor(*id, reads),
            Question::Paperwork { open_only } => paperwork(*open_only, reads),
            _ => Ok(Value::Null),
        }
    }

    fn read(&self, handle: &Handle, read: &str, partition: i32, argument: &str) -> Result<Value> {
        match read {
            "documents" => documents(handle, partition, number(argument)?),
            "contract" => {
                to_json(get::<_, Contract>(handle, CONTRACTS, partition, &number(argument)?)?)
            }
            "open-paperwork" => open_paperwork(handle, partition),
            "closed-paperwork" => closed_paperwork(handle, partition),
            _ => Err(unknown_read(NAME, read)),
        }
    }
}

fn request(id: RequestId, reads: &Reads<'_>) -> Result<Value> {
    let partition = reads.handle.partition_for_key(REQUESTS, &id, &i64::serde())?;
    reads.one(PAPERWORK, partition, "documents", &id.to_string())
}

fn contractor(id: ContractorId, reads: &Reads<'_>) -> Result<Value> {
    let partition = reads.handle.partition_for_key(CONTRACTS, &id, &i64::serde())?;
    let contract = reads.one(CONTRACTS, partition, "contract", &id.to_string())?;
    let contract: Option<Contract> = from_json(Some(contract))?;
    let Some(contract) = contract else { return Ok(Value::Null) };
    Ok(json!({
        "contractor_id": id,
        "contract_id": contract.contract_id,
        "contract_valid_from_at_ms": contract.valid_from_ms,
    }))
}

fn paperwork(open_only: bool, reads: &Reads<'_>) -> Result<Value> {
    let mut all: Vec<Value> = Vec::new();
    for part in reads.all(PAPERWORK, "open-paperwork", "")? {
        all.extend(from_json::<Vec<Value>>(Some(part))?);
    }
    if !open_only {
        for part in reads.all(REQUESTS, "closed-paperwork", "")? {
            all.extend(from_json::<Vec<Value>>(Some(part))?);
        }
    }
    all.sort_by_cached_key(|row| (row["created_at_ms"].as_i64(), row["request_id"].as_i64()));
    Ok(json!({ "paperwork": all }))
}

fn documents(handle: &Handle, partition: i32, id: RequestId) -> Result<Value> {
    let row = |kind: &str, document_id: Option<uuid::Uuid>, state: &str| json!({ "document_type": kind, "document_id": document_id, "state": state });
    if let Some(open) = get::<_, Paperwork>(handle, PAPERWORK, partition, &id)? {
        let signed = if open.signed { "signed" } else { "to be signed" };
        let paid = if open.paid { "paid" } else { "to be paid" };
        return Ok(json!({
            "request_id": id,
            "paperwork": "open",
            "documents": [
                row("completion_act", Some(open.completion_act), signed),
                row("payment_order", Some(open.payment_order), paid),
            ],
        }));
    }
    let done = get::<_, RequestEntry>(handle, REQUESTS, partition, &id)?;
    Ok(match done.map(|entry| entry.completed_by) {
        None => Value::Null,
        Some(None) => json!({ "request_id": id, "documents": [] }),
        // Closed paperwork is forgotten but for this.
        Some(Some(_)) => json!({
            "request_id": id,
            "paperwork": "closed",
            "documents": [
                row("completion_act", None, "signed"),
                row("payment_order", None, "paid"),
            ],
        }),
    })
}

fn open_paperwork(handle: &Handle, partition: i32) -> Result<Value> {
    let store = open::<RequestId, Paperwork>(handle, PAPERWORK, partition)?;
    let mut all = Vec::new();
    for entry in store.all()?.take(ENTRIES_MAX) {
        let (request_id, open) = entry?;
        let (units, hundredths) = (open.amount_hundredths / 100, open.amount_hundredths % 100);
        all.push(json!({
            "request_id": request_id,
            "contractor_id": open.contractor_id,
            "customer_id": open.customer_id,
            "signed": open.signed,
            "paid": open.paid,
            "amount": format!("{units}.{hundredths:02} {}", open.currency),
            "created_at_ms": open.created_at_ms,
        }));
    }
    Ok(Value::Array(all))
}

fn closed_paperwork(handle: &Handle, partition: i32) -> Result<Value> {
    let open_ones = open::<RequestId, Paperwork>(handle, PAPERWORK, partition)?;
    let store = open::<RequestId, RequestEntry>(handle, REQUESTS, partition)?;
    let mut all = Vec::new();
    for entry in store.all()? {
        let (request_id, request) = entry?;
        let Some(contractor_id) = request.completed_by else { continue };
        if all.len() < ENTRIES_MAX && open_ones.get(&request_id)?.is_none() {
            all.push(json!({
                "request_id": request_id,
                "contractor_id": contractor_id,
                "signed": true,
                "paid": true,
            }));
        }
    }
    Ok(Value::Array(all))
}
