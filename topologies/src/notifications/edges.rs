//! From events to the rules' inputs, and from decisions to events. Hot path.

use std::borrow::Cow;

use kstreams::Timestamp;

use crate::events::{
    Channel, DocumentType, Envelope, Event, HrEvent, NotificationCommand, NotificationEvent,
    NotificationFailed, RequestEvent, SecurityEvent, VERSION, WorkflowEvent, derived_id,
};
use crate::recipients;

use super::cases::Case;
use super::rules::{
    Ask, Cause, Failure, Notice, Parameters, RecipientInput, RequestInput, Submission, Who,
};

/// The `source` of the events published here.
const SOURCE: &str = "notifications";

/// A parameter's value.
trait Text {
    fn text(&self) -> Cow<'_, str>;
}

macro_rules! displayed {
    ($($type:ty),+) => {
        $(impl Text for $type {
            fn text(&self) -> Cow<'_, str> { Cow::Owned(self.to_string()) }
        })+
    };
}

displayed!(i64, f64, uuid::Uuid, crate::events::Money, crate::events::Urgency);
displayed!(crate::events::Priority, crate::events::AccessReason);

impl Text for String {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Text for Timestamp {
    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(rfc3339(*self))
    }
}

impl<T: Text> Text for Option<T> {
    fn text(&self) -> Cow<'_, str> {
        self.as_ref().map_or(Cow::Borrowed(""), Text::text)
    }
}

/// Parameters out of the fields of an event, by their names.
macro_rules! parameters {
    ($from:expr; $($field:ident),*) => {
        Parameters::from([$((stringify!($field).to_owned(), $from.$field.text().into_owned())),*])
    };
}

/// What a request event means; `None` for what does not matter here.
pub(super) fn of_request(event: RequestEvent) -> Option<RequestInput> {
    let customer = |envelope: &Envelope, case, parameters| {
        vec![Ask { case, who: Who::Customer, cause: cause(envelope), parameters }]
    };
    match event {
        RequestEvent::Created(event) => {
            let parameters = parameters!(event; title, region, city, urgency);
            let asks = customer(&event.envelope, Case::RequestCreated, parameters);
            Some(RequestInput {
                request_id: event.request_id,
                submission: Some(Submission {
                    revision: event.revision,
                    customer_id: event.customer_id,
                    title: event.title,
                    city: event.city,
                    address: event.address,
                }),
                is_created: true,
                asks,
                ..RequestInput::default()
            })
        }
        RequestEvent::Updated(event) => Some(RequestInput {
            request_id: event.request_id,
            submission: Some(Submission {
                revision: event.revision,
                customer_id: event.customer_id,
                title: event.title,
                city: event.city,
                address: event.address,
            }),
            ..RequestInput::default()
        }),
        RequestEvent::Cancelled(event) => Some(RequestInput {
            request_id: event.request_id,
            customer_id: Some(event.customer_id),
            is_final: true,
            asks: customer(&event.envelope, Case::RequestCancelled, parameters!(event; reason)),
            ..RequestInput::default()
        }),
        RequestEvent::ClarificationNeeded(event) => Some(RequestInput {
            request_id: event.request_id,
            customer_id: Some(event.customer_id),
            asks: customer(
                &event.envelope,
                Case::ClarificationNeeded,
                parameters!(event; question, asked_by),
            ),
            ..RequestInput::default()
        }),
        RequestEvent::Unknown => None,
    }
}

/// What a workflow event means; `None` for what does not matter here.
pub(super) fn of_workflow(event: WorkflowEvent) -> Option<RequestInput> {
    let about = |request_id| RequestInput { request_id, ..RequestInput::default() };
    match event {
        WorkflowEvent::ManagerAssigned(event) => {
            let who = Who::Recipient(recipients::manager(event.manager_id));
            let parameters = parameters!(event; region, priority, sla_deadline);
            let cause = cause(&event.envelope);
            Some(RequestInput {
                manager: Some((event.attempt, event.manager_id)),
                asks: vec![Ask { case: Case::ManagerAssigned, who, cause, parameters }],
                ..about(event.request_id)
            })
        }
        WorkflowEvent::SentToContractors(event) => {
            Some(RequestInput { manager: Some((0, event.manager_id)), ..about(event.request_id) })
        }
        WorkflowEvent::ContractorAssigned(event) => {
            let cause = cause(&event.envelope);
            let contractor = Who::Recipient(recipients::contractor(event.contractor_id));
            let parameters = parameters!(event; contractor_id);
            let job = Ask {
                case: Case::JobAssigned,
                who: contractor,
                cause,
                parameters: Parameters::new(),
            };
            let found = Ask { case: Case::ContractorFound, who: Who::Customer, cause, parameters };
            Some(RequestInput {
                manager: Some((0, event.manager_id)),
                asks: vec![job, found],
                ..about(event.request_id)
            })
        }
        WorkflowEvent::WorkCompleted(event) => {
            let cause = cause(&event.envelope);
            let done = event.completion_data;
            let parameters = parameters!(done; summary, amount, currency, completed_at);
            let mut report = parameters.clone();
            report.extend(parameters!(done; hours));
            report.extend(parameters!(event; contractor_id));
            let completed =
                Ask { case: Case::WorkCompleted, who: Who::Customer, cause, parameters };
            let report =
                Ask { case: Case::WorkReport, who: Who::Manager, cause, parameters: report };
            Some(RequestInput {
                is_final: true,
                asks: vec![completed, report],
                ..about(event.request_id)
            })
        }
        WorkflowEvent::StatusChanged(event) if event.to_status.is_final() => {
            Some(RequestInput { is_final: true, ..about(event.request_id) })
        }
        WorkflowEvent::StatusChanged(_)
        | WorkflowEvent::WorkStarted(_)
        | WorkflowEvent::Unknown => None,
    }
}

/// Whom a security event concerns, and with what.
pub(super) fn of_security(event: SecurityEvent) -> Option<(String, RecipientInput)> {
    match event {
        SecurityEvent::AccessRevoked(event) => {
            let parameters = parameters!(event; request_id, reason, detail);
            let recipient = recipients::contractor(event.contractor_id);
            let request = Some(event.request_id);
            Some(notice(recipient, Case::AccessRevoked, &event.envelope, request, parameters))
        }
        SecurityEvent::ContractorVerified(_)
        | SecurityEvent::ContractorRejected(_)
        | SecurityEvent::AccessGranted(_)
        | SecurityEvent::Unknown => None,
    }
}

/// Whom an event of the paperwork concerns, and with what.
pub(super) fn of_hr(event: HrEvent) -> Option<(String, RecipientInput)> {
    match event {
        HrEvent::ContractGenerated(event) => {
            let parameters = parameters!(event; contract_id, valid_from);
            let recipient = recipients::contractor(event.contractor_id);
            Some(notice(recipient, Case::ContractGenerated, &event.envelope, None, parameters))
        }
        HrEvent::DocumentCreated(event) => {
            let (case, recipient) = match event.document_type {
                DocumentType::CompletionAct => {
                    (Case::CompletionAct, recipients::customer(event.customer_id))
                }
                DocumentType::PaymentOrder => {
                    (Case::PaymentOrder, recipients::contractor(event.contractor_id))
                }
                // A kind that this version does not know: nobody can be told what to do with it.
                DocumentType::Unknown => return None,
            };
            let parameters =
                parameters!(event; document_id, request_id, amount, currency, content_uri);
            let request = Some(event.request_id);
            Some(notice(recipient, case, &event.envelope, request, parameters))
        }
        HrEvent::PaymentProcessed(event) => {
            let parameters = parameters!(event; document_id, amount, currency, status);
            let recipient = recipients::contractor(event.contractor_id);
            Some(notice(recipient, Case::PaymentProcessed, &event.envelope, None, parameters))
        }
        HrEvent::DocumentSigned(_) | HrEvent::Unknown => None,
    }
}

/// The command that a deliverer gets.
pub(super) fn command(
    recipient: String,
    channel: Channel,
    locale: String,
    notice: Notice,
    now: Timestamp,
) -> NotificationCommand {
    let Notice { id, case, cause, request_id, parameters } = notice;
    NotificationCommand {
        envelope: derived(id, NotificationCommand::TYPE, cause, now),
        notification_id: id,
        recipient,
        channel,
        template: case.template().to_owned(),
        parameters,
        locale,
        request_id,
    }
}

/// `notification.failed`, of a notification that never became a command.
pub(super) fn failed(failure: Failure, now: Timestamp) -> NotificationEvent {
    let Failure { recipient, notice, error } = failure;
    let Notice { id, case, cause, request_id, .. } = notice;
    let event_id = derived_id(id, NotificationFailed::TYPE, "");
    NotificationEvent::Failed(NotificationFailed {
        envelope: derived(event_id, NotificationFailed::TYPE, cause, now),
        notification_id: id,
        recipient,
        channel: case.channel(),
        template: case.template().to_owned(),
        request_id,
        attempts: 0,
        provider_message_id: None,
        error,
        permanent: true,
    })
}

fn derived(
    event_id: uuid::Uuid,
    event_type: &'static str,
    cause: Cause,
    timestamp: Timestamp,
) -> Envelope {
    Envelope {
        event_id,
        event_type: event_type.into(),
        timestamp,
        source: SOURCE.into(),
        version: VERSION,
        correlation_id: cause.correlation_id,
        causation_id: Some(cause.event_id),
    }
}

fn cause(envelope: &Envelope) -> Cause {
    let Envelope { event_id, correlation_id, .. } = *envelope;
    Cause { event_id, correlation_id, trace: None }
}

fn notice(
    recipient: String,
    case: Case,
    envelope: &Envelope,
    request_id: Option<i64>,
    parameters: Parameters,
) -> (String, RecipientInput) {
    let notice = Notice::new(&recipient, case, cause(envelope), request_id, parameters);
    (recipient, RecipientInput::Notice(notice))
}

/// A moment as people and machines read it, in UTC: `2026-03-01T12:00:00Z`.
pub fn rfc3339(timestamp: Timestamp) -> String {
    let seconds = timestamp.as_millis().div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970. Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 1 March of the year 0
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_772_366_400_999, "2026-03-01T12:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(ms)), text);
        }
    }
}
