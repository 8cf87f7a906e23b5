//! What manager-assignment can tell: where a request is, who has it, who waits, what a manager has in hand.

use kstreams::serdes::DefaultSerde as _;
use kstreams::store::KeyValueViewIter;
use kstreams::{Handle, Result};
use serde_json::{Value, json};

use super::NAME;
use super::by_request::RequestEntry;
use super::directory::DirectoryEntry;
use super::region_state::{Held, Manager, Place, Queue};
use super::rules::{ManagerId, RequestId};
use super::serdes::{manager_key, queue_prefix, read_place_key, region_of};
use super::stores::{DIRECTORY, HELD, MANAGERS, PLACES, REQUESTS};
use crate::codec::Present;
use crate::queries::{
    ENTRIES_MAX, Queries, Question, Reads, from_json, get, number, open, to_json, unknown_read,
};

/// The queries of this topology.
pub static QUERIES: &dyn Queries = &ManagerAssignment;

struct ManagerAssignment;

impl Queries for ManagerAssignment {
    fn takes_part(&self, question: &Question) -> bool {
        matches!(question, Question::Request(_) | Question::Manager(_) | Question::Waiting { .. })
    }

    fn part(&self, question: &Question, reads: &Reads<'_>) -> Result<Value> {
        match question {
            Question::Request(id) => request(*id, reads),
            Question::Manager(id) => manager(*id, reads),
            Question::Waiting { region } => waiting(region.as_deref(), reads),
            Question::Contractor(_) | Question::Paperwork { .. } => Ok(Value::Null),
        }
    }

    fn read(&self, handle: &Handle, read: &str, partition: i32, argument: &str) -> Result<Value> {
        match read {
            "request" => {
                to_json(get::<_, RequestEntry>(handle, REQUESTS, partition, &number(argument)?)?)
            }
            "held" => to_json(get::<_, Held>(handle, HELD, partition, &number(argument)?)?),
            "directory" => {
                to_json(get::<_, DirectoryEntry>(handle, DIRECTORY, partition, &number(argument)?)?)
            }
            "manager" => {
                let (region, id): (String, ManagerId) =
                    from_json(serde_json::from_str(argument).ok())?;
                to_json(get::<_, Manager>(handle, MANAGERS, partition, &manager_key(&region, id))?)
            }
            "held-by" => held_by(handle, partition, number(argument)?),
            "places" => places(handle, partition, argument),
            _ => Err(unknown_read(NAME, read)),
        }
    }
}

fn request(id: RequestId, reads: &Reads<'_>) -> Result<Value> {
    let partition = reads.handle.partition_for_key(REQUESTS, &id, &i64::serde())?;
    let entry = reads.one(REQUESTS, partition, "request", &id.to_string())?;
    let open = match from_json::<Option<RequestEntry>>(Some(entry))? {
        None => return Ok(Value::Null),
        Some(RequestEntry::Closed { at_ms }) => {
            return Ok(json!({ "request_id": id, "status": "closed", "closed_at_ms": at_ms }));
        }
        Some(RequestEntry::Open(open)) => open,
    };
    let partition = region_partition(reads, &open.region)?;
    let held = reads.one(HELD, partition, "held", &id.to_string())?;
    // On its way between two tasks it is in nobody's hands.
    let held: Option<Held> = from_json(Some(held))?;
    let held = held.as_ref();
    let terms = held.map_or(open.terms, |held| held.ticket.terms);
    let escalated = held.is_some_and(|held| held.ticket.escalated);
    let manager_id = held.and_then(|held| held.manager_id);
    let status = match (manager_id, escalated) {
        (Some(_), _) => "assigned",
        (None, true) => "escalated",
        (None, false) => "new",
    };
    Ok(json!({
        "request_id": id,
        "status": status,
        "manager_id": manager_id,
        "priority": terms.priority,
        "region": open.region,
        "home_region": open.home,
        "revision": open.revision,
        "filed_at_ms": terms.opened_at_ms,
        "assignments": held.map_or(0, |held| held.ticket.attempts),
        "escalated": escalated,
    }))
}

fn manager(id: ManagerId, reads: &Reads<'_>) -> Result<Value> {
    // The directory's topic has text keys.
    let key = id.to_string();
    let partition = reads.handle.partition_for_key(DIRECTORY, &key, &String::serde())?;
    let home: Option<DirectoryEntry> =
        from_json(Some(reads.one(DIRECTORY, partition, "directory", &key)?))?;
    let mut requests = Vec::new();
    for part in reads.all(HELD, "held-by", &key)? {
        requests.extend(from_json::<Vec<Value>>(Some(part))?);
    }
    let Some(home) = home else {
        if requests.is_empty() {
            return Ok(Value::Null);
        }
        return Ok(
            json!({ "manager_id": id, "active": false, "in_directory": false, "requests": requests }),
        );
    };
    let partition = region_partition(reads, &home.region)?;
    let argument = json!([home.region, id]).to_string();
    let there: Option<Manager> =
        from_json(Some(reads.one(MANAGERS, partition, "manager", &argument)?))?;
    Ok(json!({
        "manager_id": id,
        "region": home.region,
        "capacity": home.capacity,
        "active": home.active,
        "in_directory": true,
        "open": there.map_or(0, |manager| manager.open),
        "requests": requests,
    }))
}

fn waiting(region: Option<&str>, reads: &Reads<'_>) -> Result<Value> {
    let parts = match region {
        Some(region) => {
            let partition = region_partition(reads, region)?;
            vec![reads.one(PLACES, partition, "places", region)?]
        }
        None => reads.all(PLACES, "places", "")?,
    };
    let mut all: Vec<Value> = Vec::new();
    for part in parts {
        all.extend(from_json::<Vec<Value>>(Some(part))?);
    }
    let turn = |place: &Value| {
        let number = |name: &str| place[name].as_i64();
        (place["priority"].as_str().map(str::to_owned), number("filed_at_ms"), number("request_id"))
    };
    all.sort_by_cached_key(turn);
    Ok(json!({ "waiting": all }))
}

fn region_partition(reads: &Reads<'_>, region: &str) -> Result<i32> {
    reads.handle.partition_for_key(HELD, &region.to_owned(), &String::serde())
}

fn held_by(handle: &Handle, partition: i32, manager: ManagerId) -> Result<Value> {
    let held = open::<RequestId, Held>(handle, HELD, partition)?;
    let mut requests = Vec::new();
    for entry in held.all()? {
        let (request_id, held) = entry?;
        if held.manager_id != Some(manager) {
            continue;
        }
        let terms = held.ticket.terms;
        requests.push(json!({
            "request_id": request_id,
            "priority": terms.priority,
            "region": held.region,
            "filed_at_ms": terms.opened_at_ms,
        }));
        if requests.len() == ENTRIES_MAX {
            break;
        }
    }
    Ok(Value::Array(requests))
}

/// Who waits in a region, or in all regions of the partition.
fn places(handle: &Handle, partition: i32, region: &str) -> Result<Value> {
    let store = open::<Vec<u8>, Present>(handle, PLACES, partition)?;
    let mut found = Vec::new();
    let mut add = |places: KeyValueViewIter<Vec<u8>, Present>| -> Result<()> {
        for entry in places.take(ENTRIES_MAX) {
            let key = entry?.0;
            let region = region_of(&key)?;
            for queue in [Queue::Ordinary, Queue::Escalated] {
                if let Ok(place) = read_place_key(&key, region, queue) {
                    found.push(shown(region, &place));
                }
            }
        }
        Ok(())
    };
    if region.is_empty() {
        add(store.all()?)?;
    } else {
        for queue in [Queue::Ordinary, Queue::Escalated] {
            add(store.prefix_scan(&queue_prefix(region, queue, None)))?;
        }
    }
    Ok(Value::Array(found))
}

fn shown(region: &str, place: &Place) -> Value {
    json!({
        "request_id": place.request_id,
        "priority": place.priority,
        "region": region,
        "escalated": place.queue == Queue::Escalated,
        "filed_at_ms": place.opened_at_ms,
    })
}
