//! The records that tell a story, as the services of the domain write them.

use std::collections::BTreeMap;

use aggregator::events::*;
use kstreams::Timestamp;
use kstreams::serdes::{Encoded, Serde};
use test_support::Message;
use uuid::Uuid;

use super::life::{Assignment, Completion, Paper, REGIONS, Revision, Standing, Word};
use super::people;

/// The source of all of them.
pub(crate) const SOURCE: &str = "story";

/// Records in the order in which they are written, and how often each event is among them.
#[derive(Default)]
pub(crate) struct Records {
    /// Place in the writing, topic, record.
    placed: Vec<(usize, &'static str, Message)>,
    pub(crate) counts: BTreeMap<&'static str, BTreeMap<Uuid, usize>>,
}

impl Records {
    /// Adds a record, and says which number it has.
    pub(crate) fn add<E: TopicEvent + 'static>(
        &mut self,
        serde: &Serde<E>,
        place: usize,
        key: String,
        event: &E,
    ) -> usize {
        let Envelope { event_id, timestamp, .. } = event.envelope().unwrap();
        *self.counts.entry(E::TOPIC).or_default().entry(*event_id).or_default() += 1;
        let message = Message {
            key: Some(key.into_bytes()),
            timestamp_ms: Some(timestamp.as_millis()),
            ..value(serde, E::TOPIC, event)
        };
        self.placed.push((place, E::TOPIC, message));
        self.placed.len() - 1
    }

    /// Brings them into the order of their places; those of one place stay in the order in which they were added.
    pub(crate) fn sort(&mut self) {
        self.placed.sort_by_key(|(place, ..)| *place);
    }

    /// The records in `parts` parts, each by topic, in the order of writing.
    pub(crate) fn parts(&self, parts: usize) -> Vec<BTreeMap<&'static str, Vec<Message>>> {
        let size = self.placed.len().div_ceil(parts);
        let part = |records: &[(usize, &'static str, Message)]| {
            let mut by_topic: BTreeMap<_, Vec<Message>> = BTreeMap::new();
            for (_, topic, message) in records {
                by_topic.entry(*topic).or_default().push(message.clone());
            }
            by_topic
        };
        self.placed.chunks(size).map(part).collect()
    }
}

/// A message without a key.
pub(crate) fn value<T: 'static>(serde: &Serde<T>, topic: &str, value: &T) -> Message {
    let mut bytes = Vec::new();
    let encoded = serde.serializer().serialize(topic, value, &mut bytes).unwrap();
    assert_eq!(encoded, Encoded::Bytes);
    Message { value: Some(bytes), ..Message::default() }
}

/// The correlation id of a request.
pub(crate) fn correlation(request_id: i64) -> Uuid {
    Uuid::from_u64_pair(0xc0, request_id.cast_unsigned())
}

fn envelope(event_id: Uuid, event_type: &'static str, at_ms: i64, of: Option<i64>) -> Envelope {
    let at = Timestamp::from_millis(at_ms);
    Envelope::new(event_id, event_type, at, SOURCE, of.map(correlation))
}

/// The title of a request.
pub(crate) fn title(request_id: i64) -> String {
    format!("Leaking tap {request_id}")
}

pub(crate) fn filed(id: i64, number: usize, revision: &Revision) -> RequestEvent {
    let Revision { event_id, at_ms, region, urgency } = *revision;
    let created = RequestCreated {
        envelope: envelope(event_id, RequestCreated::TYPE, at_ms, Some(id)),
        request_id: id,
        customer_id: people::customer_of(id),
        title: title(id),
        description: String::new(),
        urgency,
        region: region.to_owned(),
        city: String::new(),
        address: String::new(),
        category: None,
        revision: i32::try_from(number).unwrap() + 1,
    };
    if number == 0 {
        return created.into();
    }
    RequestUpdated {
        envelope: envelope(event_id, RequestUpdated::TYPE, at_ms, Some(id)),
        request_id: id,
        customer_id: created.customer_id,
        title: created.title,
        description: created.description,
        urgency,
        region: created.region,
        city: created.city,
        address: created.address,
        category: None,
        revision: created.revision,
    }
    .into()
}

pub(crate) fn cancelled(request_id: i64, event_id: Uuid, at_ms: i64) -> RequestEvent {
    RequestCancelled {
        envelope: envelope(event_id, RequestCancelled::TYPE, at_ms, Some(request_id)),
        request_id,
        customer_id: people::customer_of(request_id),
        region: REGIONS[0].to_owned(),
        reason: String::new(),
        cancelled_by: people::customer(people::customer_of(request_id)),
    }
    .into()
}

pub(crate) fn assigned(request_id: i64, assignment: &Assignment) -> WorkflowEvent {
    let Assignment { event_id, at_ms, contractor, manager } = *assignment;
    WorkflowContractorAssigned {
        envelope: envelope(event_id, WorkflowContractorAssigned::TYPE, at_ms, Some(request_id)),
        request_id,
        contractor_id: contractor,
        manager_id: manager,
    }
    .into()
}

pub(crate) fn completed(request_id: i64, completion: &Completion) -> WorkflowEvent {
    let Completion { event_id, at_ms, contractor } = *completion;
    WorkflowWorkCompleted {
        envelope: envelope(event_id, WorkflowWorkCompleted::TYPE, at_ms, Some(request_id)),
        request_id,
        contractor_id: contractor,
        completion_data: CompletionData {
            completed_at: Timestamp::from_millis(at_ms),
            summary: String::new(),
            amount: amount(request_id),
            currency: "EUR".to_owned(),
            hours: None,
            photos: Vec::new(),
        },
    }
    .into()
}

/// What the work on a request costs.
pub(crate) fn amount(request_id: i64) -> Money {
    Money::from_hundredths(1_000 + request_id).unwrap()
}

/// `valid_until` is for verifications that end.
pub(crate) fn said(contractor_id: i64, word: &Word, valid_until_ms: i64) -> SecurityEvent {
    let envelope = |event_type| envelope(word.event_id, event_type, word.at_ms, None);
    match word.standing {
        Standing::Rejected => SecurityContractorRejected {
            envelope: envelope(SecurityContractorRejected::TYPE),
            contractor_id,
            reason: "no papers".to_owned(),
            rejected_by: "officer:1".to_owned(),
        }
        .into(),
        Standing::Verified { confined, ends } => SecurityContractorVerified {
            envelope: envelope(SecurityContractorVerified::TYPE),
            contractor_id,
            verified_by: "officer:1".to_owned(),
            regions: confined.then(|| REGIONS[0].to_owned()).into_iter().collect(),
            valid_until: ends.then(|| Timestamp::from_millis(valid_until_ms)),
        }
        .into(),
    }
}

pub(crate) fn paper(paper: &Paper, at_ms: i64) -> HrEvent {
    let Paper { event_id, document: document_id, contractor, paid } = *paper;
    let envelope = |event_type| envelope(event_id, event_type, at_ms, None);
    match contractor {
        None => HrDocumentSigned {
            envelope: envelope(HrDocumentSigned::TYPE),
            document_id,
            signed_by: "customer:1".to_owned(),
        }
        .into(),
        Some(contractor_id) => HrPaymentProcessed {
            envelope: envelope(HrPaymentProcessed::TYPE),
            document_id,
            contractor_id,
            amount: Money::default(),
            currency: "EUR".to_owned(),
            status: if paid { "paid" } else { "refused" }.to_owned(),
        }
        .into(),
    }
}
