//! Events as their producers send them, in short words.

use std::sync::Arc;

use aggregator::events::*;
use kstreams::serdes::SchemaCache;
use kstreams::{Clock, MockClock, Timestamp};
use uuid::Uuid;

/// Where the wall clock of every test begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_772_366_400_000);
/// The customer of a request is this much above its id.
pub(crate) const CUSTOMER: i64 = 1_000_000;

/// Serdes on a registry in memory; parsed once a test binary, which takes longer than most tests.
pub(crate) fn serdes_for_tests() -> Serdes {
    static SERDES: std::sync::OnceLock<Serdes> = std::sync::OnceLock::new();
    let parse = || {
        // No event lies in the future of the clock that validates.
        let clock: Arc<dyn Clock> = Arc::new(MockClock::new(Timestamp::from_millis(i64::MAX / 2)));
        let cache = SchemaCache::new(Arc::new(memory_registry().unwrap()), clock.clone());
        serdes(&cache, &clock).unwrap()
    };
    SERDES.get_or_init(parse).clone()
}

/// The id of the `number`th event of a kind.
pub(crate) fn id(kind: u64, number: i64) -> Uuid {
    Uuid::from_u64_pair(kind, number as u64)
}

/// The correlation id of a request.
pub(crate) fn correlation(request_id: i64) -> Option<Uuid> {
    Some(id(0xc0, request_id))
}

/// An envelope of an event about a request.
pub(crate) fn about(
    request_id: i64,
    event_id: Uuid,
    event_type: &'static str,
    at: Timestamp,
) -> Envelope {
    Envelope::new(event_id, event_type, at, "test", correlation(request_id))
}

/// An envelope of an event about a contractor.
pub(crate) fn of_contractor(event_id: Uuid, event_type: &'static str, at: Timestamp) -> Envelope {
    Envelope::new(event_id, event_type, at, "test", None)
}

pub(crate) fn created(request_id: i64, region: &str, at: Timestamp) -> RequestEvent {
    RequestCreated {
        envelope: about(request_id, id(1, request_id), "request.created", at),
        request_id,
        customer_id: CUSTOMER + request_id,
        title: String::new(),
        description: String::new(),
        urgency: Urgency::Low,
        region: region.to_owned(),
        city: String::new(),
        address: String::new(),
        category: None,
        revision: 1,
    }
    .into()
}

pub(crate) fn updated(request_id: i64, revision: i32, region: &str, at: Timestamp) -> RequestEvent {
    let RequestEvent::Created(old) = created(request_id, region, at) else { unreachable!() };
    let event_id = id(2, request_id * 1_000 + i64::from(revision));
    RequestUpdated {
        envelope: about(request_id, event_id, "request.updated", at),
        request_id,
        customer_id: old.customer_id,
        title: old.title,
        description: old.description,
        urgency: old.urgency,
        region: old.region,
        city: old.city,
        address: old.address,
        category: None,
        revision,
    }
    .into()
}

pub(crate) fn cancelled(request_id: i64, at: Timestamp) -> RequestEvent {
    RequestCancelled {
        envelope: about(request_id, id(3, request_id), "request.cancelled", at),
        request_id,
        customer_id: CUSTOMER + request_id,
        region: "north".to_owned(),
        reason: String::new(),
        cancelled_by: String::new(),
    }
    .into()
}

pub(crate) fn assigned(
    request_id: i64,
    contractor_id: i64,
    event_id: Uuid,
    at: Timestamp,
) -> WorkflowEvent {
    let envelope = about(request_id, event_id, "workflow.contractor_assigned", at);
    WorkflowContractorAssigned { envelope, request_id, contractor_id, manager_id: 7 }.into()
}

pub(crate) fn completed(
    request_id: i64,
    contractor_id: i64,
    event_id: Uuid,
    at: Timestamp,
) -> WorkflowEvent {
    WorkflowWorkCompleted {
        envelope: about(request_id, event_id, "workflow.work_completed", at),
        request_id,
        contractor_id,
        completion_data: CompletionData {
            completed_at: at,
            summary: "done".to_owned(),
            amount: amount(request_id),
            currency: "RUB".to_owned(),
            hours: None,
            photos: Vec::new(),
        },
    }
    .into()
}

/// What the work on a request costs.
pub(crate) fn amount(request_id: i64) -> Money {
    Money::from_hundredths(12_345 + request_id).unwrap()
}

pub(crate) fn status(request_id: i64, to_status: RequestStatus, at: Timestamp) -> WorkflowEvent {
    WorkflowStatusChanged {
        envelope: about(request_id, id(6, request_id), "workflow.status_changed", at),
        request_id,
        from_status: RequestStatus::Assigned,
        to_status,
        reason: None,
    }
    .into()
}

pub(crate) fn verified(
    contractor_id: i64,
    regions: &[&str],
    valid_until: Option<Timestamp>,
    event_id: Uuid,
    at: Timestamp,
) -> SecurityEvent {
    SecurityContractorVerified {
        envelope: of_contractor(event_id, "security.contractor_verified", at),
        contractor_id,
        verified_by: "officer:1".to_owned(),
        regions: regions.iter().map(ToString::to_string).collect(),
        valid_until,
    }
    .into()
}

pub(crate) fn rejected(contractor_id: i64, event_id: Uuid, at: Timestamp) -> SecurityEvent {
    SecurityContractorRejected {
        envelope: of_contractor(event_id, "security.contractor_rejected", at),
        contractor_id,
        reason: "no papers".to_owned(),
        rejected_by: "officer:1".to_owned(),
    }
    .into()
}

pub(crate) fn signed(document_id: Uuid, event_id: Uuid, at: Timestamp) -> HrEvent {
    let envelope = of_contractor(event_id, "hr.document_signed", at);
    HrDocumentSigned { envelope, document_id, signed_by: "customer:1".to_owned() }.into()
}

pub(crate) fn paid(
    document_id: Uuid,
    contractor_id: i64,
    status: &str,
    event_id: Uuid,
    at: Timestamp,
) -> HrEvent {
    HrPaymentProcessed {
        envelope: of_contractor(event_id, "hr.payment_processed", at),
        document_id,
        contractor_id,
        amount: Money::default(),
        currency: "RUB".to_owned(),
        status: status.to_owned(),
    }
    .into()
}

/// The id of the document that a completion makes.
pub(crate) fn document(completion: Uuid, kind: &str) -> Uuid {
    derived_id(completion, "document", kind)
}
