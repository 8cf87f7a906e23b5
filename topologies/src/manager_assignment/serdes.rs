//! Keys of the stores; values are those of [`codec`](crate::codec). Keys of the index stores sort as the rules want:
//!
//! | key | bytes, all big-endian |
//! |---|---|
//! | of a region | length of its name (4), name |
//! | manager | region, manager_id (8) |
//! | candidate | region, tier (1), open (4), last_assigned (8), manager_id (8) |
//! | place | region, queue (1), priority (1), opened_at_ms (8), request_id (8) |
//! | closed request | closed at, ms (8), request_id (8) |
//!
//! Signed numbers have their sign bit turned over. Place of request 7 (P1, ordinary, filed at 1 ms) in "n":
//! `00000001 6e 00 00 8000000000000001 8000000000000007`.

use kstreams::Result;

use crate::codec::{ordered, unordered, wrong_key};

use super::region_state::{Place, Queue, Rank, Tier};
use super::rules::{ManagerId, Priority, RequestId};

/// The beginning of all keys of a region.
pub(super) fn region_prefix(region: &str) -> Vec<u8> {
    let length = u32::try_from(region.len()).expect("a record is far smaller than 4 GiB");
    let mut key = Vec::with_capacity(4 + region.len() + 21);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(region.as_bytes());
    key
}

/// The key of a manager.
pub(super) fn manager_key(region: &str, id: ManagerId) -> Vec<u8> {
    let mut key = region_prefix(region);
    key.extend_from_slice(&ordered(id));
    key
}

/// Region and manager of a key.
pub(super) fn read_manager_key(key: &[u8]) -> Result<(String, ManagerId)> {
    let parts = key.split_first_chunk().and_then(|(length, rest)| {
        let (region, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let id = unordered(rest.try_into().ok()?);
        Some((std::str::from_utf8(region).ok()?.to_owned(), id))
    });
    parts.ok_or_else(|| wrong_key("manager"))
}

/// The beginning of all candidates of a tier.
pub(super) fn tier_prefix(region: &str, tier: Tier) -> Vec<u8> {
    let mut key = region_prefix(region);
    key.push(match tier {
        Tier::Free => 0,
        Tier::Overload => 1,
    });
    key
}

/// The key of a candidate.
pub(super) fn candidate_key(region: &str, rank: &Rank, id: ManagerId) -> Vec<u8> {
    let mut key = tier_prefix(region, rank.tier);
    key.extend_from_slice(&rank.open.to_be_bytes());
    key.extend_from_slice(&rank.last_assigned.to_be_bytes());
    key.extend_from_slice(&ordered(id));
    key
}

/// Rank and manager of a key that begins with the `prefix` of `tier`.
pub(super) fn read_candidate_key(
    key: &[u8],
    prefix: &[u8],
    tier: Tier,
) -> Result<(Rank, ManagerId)> {
    let parts = key.strip_prefix(prefix).and_then(|rest| {
        let (open, rest) = rest.split_first_chunk()?;
        let (last_assigned, rest) = rest.split_first_chunk()?;
        let open = u32::from_be_bytes(*open);
        let last_assigned = u64::from_be_bytes(*last_assigned);
        Some((Rank { tier, open, last_assigned }, unordered(rest.try_into().ok()?)))
    });
    parts.ok_or_else(|| wrong_key("candidate"))
}

/// The beginning of all places of a queue, or of one priority in it.
pub(super) fn queue_prefix(region: &str, queue: Queue, priority: Option<Priority>) -> Vec<u8> {
    let mut key = region_prefix(region);
    key.push(match queue {
        Queue::Ordinary => 0,
        Queue::Escalated => 1,
    });
    key.extend(priority.map(priority_byte));
    key
}

/// The key of a place.
pub(super) fn place_key(region: &str, place: &Place) -> Vec<u8> {
    let mut key = queue_prefix(region, place.queue, Some(place.priority));
    key.extend_from_slice(&ordered(place.opened_at_ms));
    key.extend_from_slice(&ordered(place.request_id));
    key
}

/// The place of a key in a queue of a region.
pub(super) fn read_place_key(key: &[u8], region: &str, queue: Queue) -> Result<Place> {
    let parts = key.strip_prefix(&queue_prefix(region, queue, None)[..]).and_then(|rest| {
        let (priority, rest) = rest.split_first()?;
        let priority = *Priority::ALL.get(usize::from(*priority))?;
        let (opened_at_ms, rest) = rest.split_first_chunk()?;
        let opened_at_ms = unordered(*opened_at_ms);
        Some(Place { queue, priority, opened_at_ms, request_id: unordered(rest.try_into().ok()?) })
    });
    parts.ok_or_else(|| wrong_key("place"))
}

/// The region of a key that begins with one.
pub(super) fn region_of(key: &[u8]) -> Result<&str> {
    let region = key.split_first_chunk().and_then(|(length, rest)| {
        let (region, _) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        std::str::from_utf8(region).ok()
    });
    region.ok_or_else(|| wrong_key("region"))
}

/// The key of a closed request.
pub(super) fn closed_key(at_ms: i64, id: RequestId) -> Vec<u8> {
    [ordered(at_ms), ordered(id)].concat()
}

/// Time and request of a key.
pub(super) fn read_closed_key(key: &[u8]) -> Result<(i64, RequestId)> {
    let parts = key
        .split_first_chunk()
        .and_then(|(at_ms, rest)| Some((unordered(*at_ms), unordered(rest.try_into().ok()?))));
    parts.ok_or_else(|| wrong_key("closed request"))
}

fn priority_byte(priority: Priority) -> u8 {
    match priority {
        Priority::P1 => 0,
        Priority::P2 => 1,
        Priority::P3 => 2,
        Priority::P4 => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::super::region_state::Manager;
    use super::*;
    use crate::codec::internal;

    #[test]
    fn a_manager_takes_few_bytes() {
        let rank = Some(Rank { tier: Tier::Free, open: 3, last_assigned: 1_000_000 });
        let manager = Manager {
            capacity: 10,
            active: true,
            present: true,
            open: 3,
            last_assigned: 1_000_000,
            rank,
        };
        let mut out = Vec::new();
        let _ = internal::<Manager>().serializer().serialize("t", &manager, &mut out).unwrap();
        assert_eq!(out.len(), 14);
    }

    #[test]
    fn keys_are_read_back_and_sort_as_the_rules_want() {
        let place = |queue, priority, opened_at_ms, request_id| Place {
            queue,
            priority,
            opened_at_ms,
            request_id,
        };
        let places = [
            place(Queue::Ordinary, Priority::P1, -1, 9),
            place(Queue::Ordinary, Priority::P1, 1, 7),
            place(Queue::Ordinary, Priority::P1, 256, 0),
            place(Queue::Ordinary, Priority::P4, 0, 0),
            place(Queue::Escalated, Priority::P1, 0, 0),
        ];
        let keys: Vec<_> = places.iter().map(|place| place_key("n", place)).collect();
        assert!(keys.is_sorted());
        for (key, place) in keys.iter().zip(&places) {
            assert_eq!(read_place_key(key, "n", place.queue).unwrap(), *place);
        }
        let hex: String = keys[1].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "000000016e000080000000000000018000000000000007");

        let rank = Rank { tier: Tier::Overload, open: 300, last_assigned: 70_000 };
        let key = candidate_key("n", &rank, 5);
        let prefix = tier_prefix("n", Tier::Overload);
        assert_eq!(read_candidate_key(&key, &prefix, Tier::Overload).unwrap(), (rank, 5));
        assert_eq!(read_manager_key(&manager_key("край", 5)).unwrap(), ("край".to_owned(), 5));
        assert_eq!(read_closed_key(&closed_key(8, 5)).unwrap(), (8, 5));
        assert!(read_manager_key(b"no").is_err());
    }

    #[test]
    fn regions_that_begin_alike_share_no_prefix() {
        assert!(!manager_key("north-east", 1).starts_with(&region_prefix("north")));
    }
}
