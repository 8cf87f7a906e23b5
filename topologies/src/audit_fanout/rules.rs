//! The rules of audit-fanout: what an event or a dead letter is to those who check. Pure.
//!
//! | kind | when | actor |
//! |---|---|---|
//! | `user_action` | the event names the person who acted | that person: `customer:456`, `manager:7`, … |
//! | `system_event` | nobody is named, or a service is | `service:<source of the event>` |
//! | `error_occurred` | `notification.failed`, and every dead letter | the same |
//!
//! The entity is the request where there is one, else the contractor, the document, or the recipient; of a dead letter the application that
//! set it aside. An event's audit id follows from its own id: a duplicate of the event is audited again, at its own place, under the same id, so that
//! who counts events can drop it.

use std::collections::BTreeMap;

use crate::events::{
    Envelope, HrEvent, NotificationEvent, RequestEvent, SecurityEvent, WorkflowEvent,
};
use crate::recipients::{contractor, customer, manager};

/// What kind of audit event it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `audit.user_action`
    UserAction,
    /// `audit.system_event`
    SystemEvent,
    /// `audit.error_occurred`
    ErrorOccurred,
}

/// What is reported of an event, beside its type and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of audit event it becomes.
    pub kind: Kind,
    /// What it is about.
    pub entity: String,
    /// Who acted.
    pub actor: String,
    /// The request concerned.
    pub request_id: Option<i64>,
    /// The contractor concerned.
    pub contractor_id: Option<i64>,
    /// Further facts.
    pub details: BTreeMap<String, String>,
}

/// An event that can be audited.
pub trait Audited {
    /// What is reported of it; `None` for an event type that this version does not know.
    fn finding(&self) -> Option<Finding>;
}

/// Texts longer than this are cut, so that an audit event is never too large to be sent.
pub const TEXT_MAX: usize = 2_000;

/// Facts out of fields, by their names.
macro_rules! details {
    ($event:expr; $($field:ident),*) => {
        BTreeMap::from([$((stringify!($field).to_owned(), cut($event.$field.to_string()))),*])
    };
}

impl Audited for RequestEvent {
    fn finding(&self) -> Option<Finding> {
        Some(match self {
            Self::Created(e) => {
                let details = details!(e; customer_id, title, urgency, region, revision);
                about_request(e.request_id, by_person(customer(e.customer_id)), details)
            }
            Self::Updated(e) => {
                let details = details!(e; customer_id, title, urgency, region, revision);
                about_request(e.request_id, by_person(customer(e.customer_id)), details)
            }
            Self::Cancelled(e) => {
                let details = details!(e; customer_id, reason, region);
                about_request(e.request_id, by(&e.cancelled_by, &e.envelope), details)
            }
            Self::ClarificationNeeded(e) => {
                let details = details!(e; customer_id, question, region);
                about_request(e.request_id, by(&e.asked_by, &e.envelope), details)
            }
            Self::Unknown => return None,
        })
    }
}

impl Audited for WorkflowEvent {
    fn finding(&self) -> Option<Finding> {
        Some(match self {
            Self::ManagerAssigned(e) => {
                let mut details = details!(e; manager_id, region, priority, attempt, escalated);
                // As a number, so that who searches can compare it.
                let deadline = e.sla_deadline.as_millis().to_string();
                details.insert("sla_deadline".to_owned(), deadline);
                about_request(e.request_id, by_service(&e.envelope), details)
            }
            Self::SentToContractors(e) => {
                let ids: Vec<String> = e.contractor_ids.iter().map(i64::to_string).collect();
                let details = BTreeMap::from([("contractor_ids".to_owned(), cut(ids.join(",")))]);
                about_request(e.request_id, by_person(manager(e.manager_id)), details)
            }
            Self::ContractorAssigned(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(
                    e.request_id,
                    by_person(manager(e.manager_id)),
                    details!(e; contractor_id),
                )
            },
            Self::WorkStarted(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(
                    e.request_id,
                    by_person(contractor(e.contractor_id)),
                    BTreeMap::new(),
                )
            },
            Self::WorkCompleted(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(
                    e.request_id,
                    by_person(contractor(e.contractor_id)),
                    details!(e.completion_data; summary, amount, currency),
                )
            },
            Self::StatusChanged(e) => {
                let mut details = details!(e; from_status, to_status);
                details.extend(e.reason.clone().map(|reason| ("reason".to_owned(), cut(reason))));
                about_request(e.request_id, by_service(&e.envelope), details)
            }
            Self::Unknown => return None,
        })
    }
}

impl Audited for NotificationEvent {
    fn finding(&self) -> Option<Finding> {
        macro_rules! sent {
            ($e:expr) => {
                about_recipient(
                    $e.request_id,
                    &$e.recipient,
                    by_service(&$e.envelope),
                    details!($e; notification_id, recipient, channel, template, attempts),
                )
            };
        }
        Some(match self {
            Self::EmailSent(e) => sent!(e),
            Self::TelegramSent(e) => sent!(e),
            Self::SmsSent(e) => sent!(e),
            Self::Failed(e) => {
                let mut finding = sent!(e);
                finding.kind = Kind::ErrorOccurred;
                finding.details.extend(details!(e; error, permanent));
                finding
            }
            Self::Unknown => return None,
        })
    }
}

impl Audited for SecurityEvent {
    fn finding(&self) -> Option<Finding> {
        Some(match self {
            Self::ContractorVerified(e) => {
                let details = BTreeMap::from([("regions".to_owned(), cut(e.regions.join(",")))]);
                about_contractor(e.contractor_id, by(&e.verified_by, &e.envelope), details)
            }
            Self::ContractorRejected(e) => about_contractor(
                e.contractor_id,
                by(&e.rejected_by, &e.envelope),
                details!(e; reason),
            ),
            Self::AccessGranted(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(e.request_id, by_service(&e.envelope), details!(e; reason))
            },
            Self::AccessRevoked(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(e.request_id, by_service(&e.envelope), details!(e; reason))
            },
            Self::Unknown => return None,
        })
    }
}

impl Audited for HrEvent {
    fn finding(&self) -> Option<Finding> {
        Some(match self {
            Self::DocumentCreated(e) => Finding {
                contractor_id: Some(e.contractor_id),
                ..about_request(
                    e.request_id,
                    by_service(&e.envelope),
                    details!(e; document_id, document_type, customer_id),
                )
            },
            Self::DocumentSigned(e) => {
                let (kind, actor) = by(&e.signed_by, &e.envelope);
                Finding {
                    kind,
                    entity: format!("document:{}", e.document_id),
                    actor,
                    request_id: None,
                    contractor_id: None,
                    details: details!(e; document_id),
                }
            }
            Self::ContractGenerated(e) => {
                let details = details!(e; contract_id, valid_from);
                about_contractor(e.contractor_id, by_service(&e.envelope), details)
            }
            Self::PaymentProcessed(e) => {
                let details = details!(e; document_id, amount, currency, status);
                about_contractor(e.contractor_id, by_service(&e.envelope), details)
            }
            Self::Unknown => return None,
        })
    }
}

type Actor = (Kind, String);

fn by_person(person: String) -> Actor {
    (Kind::UserAction, person)
}

fn by_service(envelope: &Envelope) -> Actor {
    (Kind::SystemEvent, format!("service:{}", envelope.source))
}

/// Who a field names: a person, unless it says that it is a service or says nothing.
fn by(named: &str, envelope: &Envelope) -> Actor {
    let named = named.trim();
    match named {
        "" | "system" => by_service(envelope),
        service if service.starts_with("service:") => (Kind::SystemEvent, cut(service.to_owned())),
        person => by_person(cut(person.to_owned())),
    }
}

fn about_request(id: i64, (kind, actor): Actor, details: BTreeMap<String, String>) -> Finding {
    let entity = format!("request:{id}");
    Finding { kind, entity, actor, request_id: Some(id), contractor_id: None, details }
}

fn about_contractor(id: i64, (kind, actor): Actor, details: BTreeMap<String, String>) -> Finding {
    let entity = contractor(id);
    Finding { kind, entity, actor, request_id: None, contractor_id: Some(id), details }
}

fn about_recipient(
    request_id: Option<i64>,
    recipient: &str,
    (kind, actor): Actor,
    details: BTreeMap<String, String>,
) -> Finding {
    let named = recipient.strip_prefix("contractor:").and_then(|id| id.parse().ok());
    let entity = match request_id {
        Some(id) => format!("request:{id}"),
        None => cut(recipient.to_owned()),
    };
    Finding { kind, entity, actor, request_id, contractor_id: named, details }
}

/// A text of at most [`TEXT_MAX`] bytes.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let boundary = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(boundary.unwrap_or(0));
        text.push('…');
    }
    text
}
