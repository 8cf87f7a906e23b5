//! What customers do: file requests, sometimes twice, change their mind, cancel. Pure: a function of seed and request id.

use kstreams::Timestamp;

use crate::events::{
    Envelope, Event, RequestCancelled, RequestClarificationNeeded, RequestCreated, RequestUpdated,
    Urgency,
};

use super::poison::Poison;
use super::random::Random;
use super::regions::Region;

/// The `source` of the events of customers.
const SOURCE: &str = "customer-portal";
/// Probabilities of what becomes of a request; a request has at most one of the last three.
const DUPLICATED: f64 = 0.01;
const URGENCY_CHANGED: f64 = 0.03;
const REGION_CHANGED: f64 = 0.01;
const CANCELLED: f64 = 0.04;
/// Probability that somebody has a question.
const UNCLEAR: f64 = 0.03;

/// What a customer does after filing the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// `request.updated` with another urgency.
    Urgency,
    /// `request.updated` with another region.
    Region,
    /// `request.cancelled`.
    Cancel,
}

/// All that will happen to a request from its customer's side, times in milliseconds after filing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Makes the record unreadable; nothing else happens to it then.
    pub(crate) poison: Option<Poison>,
    /// Sent a second time.
    pub(crate) duplicate_after_ms: Option<i64>,
    /// A change and when.
    pub(crate) change: Option<(Change, i64)>,
    /// A question and when.
    pub(crate) question_after_ms: Option<i64>,
}

/// What is planned for a request.
pub(crate) fn plan(seed: u64, request_id: i64, poison: f64) -> Plan {
    let mut random = Random::of(seed, "plan", request_id);
    if random.happens(poison) {
        let poison = Some(*random.pick(&Poison::ALL));
        return Plan { poison, duplicate_after_ms: None, change: None, question_after_ms: None };
    }
    let duplicate_after_ms = random.happens(DUPLICATED).then(|| random.between(50, 2_000));
    let change = if random.happens(URGENCY_CHANGED) {
        Some(Change::Urgency)
    } else if random.happens(REGION_CHANGED) {
        Some(Change::Region)
    } else if random.happens(CANCELLED) {
        Some(Change::Cancel)
    } else {
        None
    };
    let change = change.map(|change| (change, random.between(1, 3_000)));
    let question_after_ms = random.happens(UNCLEAR).then(|| random.between(500, 2_500));
    Plan { poison: None, duplicate_after_ms, change, question_after_ms }
}

/// The request as it is filed.
pub(crate) fn created(seed: u64, request_id: i64, now: Timestamp) -> RequestCreated {
    const WISHES: [(&str, &str); 8] = [
        ("repair", "The tap drips"),
        ("repair", "The door does not close"),
        ("repair", "No power in the kitchen"),
        ("cleaning", "Windows of the ground floor"),
        ("cleaning", "Flat after renovation"),
        ("delivery", "A wardrobe to the third floor"),
        ("delivery", "Twelve boxes across town"),
        ("garden", "The hedge is too high"),
    ];
    let mut random = Random::of(seed, "request", request_id);
    let event_id = random.uuid();
    let correlation_id = Some(random.uuid());
    let region = Region::pick(&mut random);
    let (category, title) = *random.pick(&WISHES);
    let customer_id = random.between(1, 100_000);
    RequestCreated {
        envelope: Envelope::new(event_id, RequestCreated::TYPE, now, SOURCE, correlation_id),
        request_id,
        customer_id,
        title: title.to_owned(),
        description: format!("{title}. Customer {customer_id} asks for {category}."),
        urgency: urgency(&mut random),
        region: region.name.to_owned(),
        city: region.city.to_owned(),
        address: format!("{} Main Street", random.between(1, 400)),
        category: Some(category.to_owned()),
        revision: 1,
    }
}

fn urgency(random: &mut Random) -> Urgency {
    match random.below(100) {
        0..10 => Urgency::Critical,
        10..30 => Urgency::High,
        30..70 => Urgency::Medium,
        _ => Urgency::Low,
    }
}

/// The request with another urgency, or in another region.
pub(crate) fn updated(
    seed: u64,
    request_id: i64,
    change: Change,
    now: Timestamp,
) -> RequestUpdated {
    let old = created(seed, request_id, now);
    let mut random = Random::of(seed, "update", request_id);
    let (mut region, mut city) = (old.region.clone(), old.city.clone());
    while change == Change::Region && region == old.region {
        let new = Region::pick(&mut random);
        (region, city) = (new.name.to_owned(), new.city.to_owned());
    }
    let mut new_urgency = old.urgency;
    while change == Change::Urgency && new_urgency == old.urgency {
        new_urgency = urgency(&mut random);
    }
    RequestUpdated {
        envelope: old.envelope.derive(RequestUpdated::TYPE, "2", SOURCE, now),
        request_id,
        customer_id: old.customer_id,
        title: old.title,
        description: old.description,
        urgency: new_urgency,
        region,
        city,
        address: old.address,
        category: old.category,
        revision: 2,
    }
}

/// The request's end by its customer.
pub(crate) fn cancelled(seed: u64, request_id: i64, now: Timestamp) -> RequestCancelled {
    let request = created(seed, request_id, now);
    RequestCancelled {
        envelope: request.envelope.derive(RequestCancelled::TYPE, "", SOURCE, now),
        request_id,
        customer_id: request.customer_id,
        region: request.region,
        reason: "no longer needed".to_owned(),
        cancelled_by: format!("customer:{}", request.customer_id),
    }
}

/// A question about the request, to its customer.
pub(crate) fn clarification(
    seed: u64,
    request_id: i64,
    now: Timestamp,
) -> RequestClarificationNeeded {
    let request = created(seed, request_id, now);
    RequestClarificationNeeded {
        envelope: request.envelope.derive(
            RequestClarificationNeeded::TYPE,
            "",
            "manager-desk",
            now,
        ),
        request_id,
        customer_id: request.customer_id,
        region: request.region,
        question: "On which floor?".to_owned(),
        asked_by: "service:manager-desk".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    #[test]
    fn a_request_follows_from_seed_and_id_alone() {
        assert_eq!(created(7, 5, NOW), created(7, 5, NOW));
        assert_ne!(created(7, 5, NOW), created(8, 5, NOW));
        assert_ne!(created(7, 5, NOW).envelope.event_id, created(7, 6, NOW).envelope.event_id);
        assert_eq!(plan(7, 5, 0.5), plan(7, 5, 0.5));
    }

    #[test]
    fn changes_change_what_they_say_and_grow_the_revision() {
        for id in 1..200 {
            let old = created(1, id, NOW);
            let moved = updated(1, id, Change::Region, NOW);
            assert_ne!(moved.region, old.region);
            assert_eq!((moved.urgency, moved.revision), (old.urgency, 2));
            let raised = updated(1, id, Change::Urgency, NOW);
            assert_ne!(raised.urgency, old.urgency);
            assert_eq!(raised.region, old.region);
            assert_eq!(raised.envelope.causation_id, Some(old.envelope.event_id));
        }
    }

    #[test]
    fn the_share_of_poison_is_as_asked_for_and_poison_has_no_future() {
        let plans: Vec<Plan> = (0..100_000).map(|id| plan(3, id, 0.01)).collect();
        let poisoned: Vec<_> = plans.iter().filter(|plan| plan.poison.is_some()).collect();
        assert!((900..1_100).contains(&poisoned.len()), "{}", poisoned.len());
        assert!(poisoned.iter().all(|p| p.change.is_none() && p.duplicate_after_ms.is_none()));
        assert!((0..1_000).all(|id| plan(3, id, 0.0).poison.is_none()));
        for kind in Poison::ALL {
            assert!(poisoned.iter().any(|plan| plan.poison == Some(kind)), "{kind:?}");
        }
    }
}
