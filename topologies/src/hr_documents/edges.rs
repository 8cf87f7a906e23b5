//! From events to the rules' inputs, and from their outputs to events. Hot path.

use kstreams::{Error, Record, Timestamp};
use uuid::Uuid;

use crate::edge::{Kept, Origin, Original};
use crate::events::{
    DocumentType, Envelope, Event as _, HrContractGenerated, HrDocumentCreated, HrEvent, Money,
    RequestEvent, SecurityEvent, VERSION, WorkflowEvent, derived_id,
};

use super::NAME;
use super::by_request::word;
use super::contracts::Contract;
use super::rules::{
    Cause, Completion, ContractorId, Document, DocumentInput, DocumentKind, Payment, Refusal,
    RequestId, RequestInput,
};

/// What a request event means: every one of them tells whose request it is.
pub(super) fn of_request(
    record: &Record<String, Kept<RequestEvent>>,
    _: Origin,
) -> Option<(RequestId, RequestInput)> {
    let (envelope, request_id, customer_id, is_final) = match &record.value.event {
        RequestEvent::Created(e) => (&e.envelope, e.request_id, e.customer_id, false),
        RequestEvent::Updated(e) => (&e.envelope, e.request_id, e.customer_id, false),
        RequestEvent::ClarificationNeeded(e) => (&e.envelope, e.request_id, e.customer_id, false),
        RequestEvent::Cancelled(e) => (&e.envelope, e.request_id, e.customer_id, true),
        RequestEvent::Unknown => return None,
    };
    let correlation_id = envelope.correlation_id;
    Some((request_id, RequestInput::Known { request_id, customer_id, correlation_id, is_final }))
}

/// What a workflow event means; `None` for what does not matter here.
pub(super) fn of_workflow(
    record: &Record<String, Kept<WorkflowEvent>>,
    origin: Origin,
) -> Option<(RequestId, RequestInput)> {
    let input = match &record.value.event {
        WorkflowEvent::ContractorAssigned(e) => RequestInput::Assigned {
            request_id: e.request_id,
            contractor_id: e.contractor_id,
            cause: cause(&e.envelope),
        },
        WorkflowEvent::WorkCompleted(e) => RequestInput::Completed {
            request_id: e.request_id,
            completion: Completion {
                contractor_id: e.contractor_id,
                amount_hundredths: e.completion_data.amount.hundredths(),
                currency: e.completion_data.currency.clone(),
                cause: cause(&e.envelope),
                original: Original::new(origin, record),
            },
        },
        WorkflowEvent::StatusChanged(e) if e.to_status.is_final() => {
            RequestInput::Final(e.request_id)
        }
        WorkflowEvent::StatusChanged(_)
        | WorkflowEvent::ManagerAssigned(_)
        | WorkflowEvent::SentToContractors(_)
        | WorkflowEvent::WorkStarted(_)
        | WorkflowEvent::Unknown => return None,
    };
    Some((input.request_id(), input))
}

/// What a security event means: a verification wants a contract.
pub(super) fn of_security(
    record: &Record<String, Kept<SecurityEvent>>,
    _: Origin,
) -> Option<(ContractorId, Cause)> {
    match &record.value.event {
        SecurityEvent::ContractorVerified(e) => Some((e.contractor_id, cause(&e.envelope))),
        SecurityEvent::ContractorRejected(_)
        | SecurityEvent::AccessGranted(_)
        | SecurityEvent::AccessRevoked(_)
        | SecurityEvent::Unknown => None,
    }
}

/// What an hr event means, with the status of a payment. Our own documents and contracts mean nothing, so that they never loop.
pub(super) fn of_hr(
    record: &Record<String, Kept<HrEvent>>,
    origin: Origin,
) -> Option<(Uuid, (DocumentInput, String))> {
    match &record.value.event {
        HrEvent::DocumentSigned(e) => Some((e.document_id, (DocumentInput::Signed, String::new()))),
        HrEvent::PaymentProcessed(e) => {
            let original = Original::new(origin, record);
            let payment = Payment { contractor_id: e.contractor_id, original };
            Some((e.document_id, (DocumentInput::Paid(payment), e.status.clone())))
        }
        HrEvent::DocumentCreated(_) | HrEvent::ContractGenerated(_) | HrEvent::Unknown => None,
    }
}

fn cause(envelope: &Envelope) -> Cause {
    Cause {
        event_id: envelope.event_id,
        correlation_id: envelope.correlation_id,
        timestamp_ms: envelope.timestamp.as_millis(),
    }
}

/// The envelope of an event that `cause` leads to.
fn envelope(
    cause: &Cause,
    event_type: &'static str,
    discriminator: &str,
    now: Timestamp,
) -> Envelope {
    Envelope {
        event_id: derived_id(cause.event_id, event_type, discriminator),
        event_type: event_type.into(),
        timestamp: now,
        source: NAME.into(),
        version: VERSION,
        correlation_id: cause.correlation_id,
        causation_id: Some(cause.event_id),
    }
}

/// `hr.document_created`.
pub(super) fn document(document: Document, now: Timestamp) -> HrDocumentCreated {
    let Document { document_id, about, customer_id, amount_hundredths, currency, cause } = document;
    HrDocumentCreated {
        envelope: envelope(&cause, HrDocumentCreated::TYPE, word(about.kind), now),
        document_id,
        document_type: document_type(about.kind),
        request_id: about.request_id,
        contractor_id: about.contractor_id,
        customer_id,
        amount: Money::from_hundredths(amount_hundredths),
        currency: Some(currency),
        content_uri: None,
    }
}

/// `hr.contract_generated`.
pub(super) fn contract(
    contractor_id: ContractorId,
    contract: &Contract,
    now: Timestamp,
) -> HrContractGenerated {
    let discriminator = contractor_id.to_string();
    HrContractGenerated {
        envelope: envelope(&contract.cause, HrContractGenerated::TYPE, &discriminator, now),
        contract_id: contract.contract_id,
        contractor_id,
        valid_from: Timestamp::from_millis(contract.valid_from_ms),
    }
}

fn document_type(kind: DocumentKind) -> DocumentType {
    match kind {
        DocumentKind::CompletionAct => DocumentType::CompletionAct,
        DocumentKind::PaymentOrder => DocumentType::PaymentOrder,
    }
}

/// Why a completion of a request is dead-lettered.
pub(super) fn refused_completion(
    request_id: RequestId,
    refusal: Refusal,
    wait_ms: u64,
    waiting_max: usize,
) -> Error {
    let wanted = match refusal {
        Refusal::WrongContractor { found, wanted } => {
            format!("found contractor {found}, wanted the assigned one, {wanted}")
        }
        Refusal::NoAssignment => {
            format!("found no workflow.contractor_assigned within {wait_ms} ms, wanted one")
        }
        Refusal::NoRequest => {
            format!("found no event of it on request-events within {wait_ms} ms, wanted one")
        }
        Refusal::TooMany => {
            format!("found {waiting_max} completions that wait for its assignment, wanted fewer")
        }
    };
    Error::bad_record(format!("workflow.work_completed of request {request_id}: {wanted}"))
}

/// Why a payment of a document is dead-lettered.
pub(super) fn refused_payment(document_id: Uuid, refusal: Refusal) -> Error {
    let text = match refusal {
        Refusal::WrongContractor { found, wanted } => {
            format!("found contractor {found}, wanted the one of the document, {wanted}")
        }
        other => format!("refused as {}", other.word()),
    };
    Error::bad_record(format!("hr.payment_processed of document {document_id}: {text}"))
}
