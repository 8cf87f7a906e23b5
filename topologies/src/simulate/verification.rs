//! Who checks contractors, and what becomes of their documents. Pure: a function of seed and ids.
//!
//! Most contractors are verified when the simulation begins; some later, some for a few seconds only. Now and then one is
//! rejected, and verified anew. Customers sign the acts, and the bank pays the orders, sometimes at the second attempt.

use std::time::Duration;

use kstreams::Timestamp;

use crate::events::{
    Envelope, Event, HrDocumentCreated, HrDocumentSigned, HrEvent, HrPaymentProcessed,
    SecurityContractorRejected, SecurityContractorVerified, SecurityEvent, derived_id,
};

use super::random::Random;
use super::regions::REGIONS;

/// Contractors, with ids from 1.
pub(crate) const CONTRACTORS: i64 = 500;
/// How often a payment is refused at first.
const REFUSED: f64 = 0.05;
const OFFICE: &str = "security-office";
/// The time between two rejections.
pub(crate) const REJECTION_EVERY: Duration = Duration::from_secs(2);
/// After a rejection, a contractor is verified anew.
pub(crate) const REJECTED_FOR: Duration = Duration::from_secs(6);

/// When a contractor is verified first, in milliseconds from the beginning; 0 for most.
pub(crate) fn verified_after_ms(seed: u64, contractor_id: i64) -> i64 {
    let mut random = Random::of(seed, "verified", contractor_id);
    match random.below(10) {
        0 => random.between(1_000, 20_000),
        _ => 0,
    }
}

/// The `number`th verification of a contractor, and when the next one is due: verifications that end are renewed.
pub(crate) fn verified(
    seed: u64,
    contractor_id: i64,
    number: i64,
    now: Timestamp,
) -> (SecurityEvent, Option<Duration>) {
    let mut random = Random::of(seed, "contractor", contractor_id * 10_000 + number);
    let event_id = random.uuid();
    let regions: Vec<String> = match random.below(10) {
        // Everywhere but in the first, the largest one.
        0 => REGIONS[1..].iter().map(|region| region.name.to_owned()).collect(),
        _ => Vec::new(),
    };
    let valid_for = (random.below(20) == 0).then(|| Duration::from_secs(5 + random.below(10)));
    let event = SecurityContractorVerified {
        envelope: Envelope::new(event_id, SecurityContractorVerified::TYPE, now, OFFICE, None),
        contractor_id,
        verified_by: "officer:1".to_owned(),
        regions,
        valid_until: valid_for.map(|valid_for| now + valid_for),
    };
    (event.into(), valid_for.map(|valid_for| valid_for + Duration::from_secs(3)))
}

/// The `number`th rejection: of whom, and its event.
pub(crate) fn rejected(seed: u64, number: i64, now: Timestamp) -> (i64, SecurityEvent) {
    let mut random = Random::of(seed, "rejected", number);
    let event_id = random.uuid();
    let contractor_id = random.between(1, CONTRACTORS);
    let event = SecurityContractorRejected {
        envelope: Envelope::new(event_id, SecurityContractorRejected::TYPE, now, OFFICE, None),
        contractor_id,
        reason: "a paper has run out".to_owned(),
        rejected_by: "officer:1".to_owned(),
    };
    (contractor_id, event.into())
}

/// What is done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handling {
    /// The customer signs.
    Signature,
    /// The bank pays.
    Payment,
    /// The bank pays after it has refused.
    SecondPayment,
}

impl Handling {
    /// Milliseconds until it is done.
    pub(crate) fn delay_ms(self, document: &HrDocumentCreated) -> i64 {
        let mut random = Random::of(self as u64, "handling", document.request_id);
        match self {
            Self::Signature => random.between(500, 3_000),
            Self::Payment | Self::SecondPayment => random.between(1_000, 4_000),
        }
    }

    /// The event, and what has to follow.
    pub(crate) fn take(
        self,
        seed: u64,
        document: &HrDocumentCreated,
        now: Timestamp,
    ) -> (HrEvent, Option<Self>) {
        let source = match self {
            Self::Signature => "customer-portal",
            Self::Payment | Self::SecondPayment => "bank",
        };
        let envelope = |event_type| {
            let mut envelope = document.envelope.derive(event_type, "", source, now);
            if self == Self::SecondPayment {
                envelope.event_id = derived_id(envelope.event_id, "second", "");
            }
            envelope
        };
        let document_id = document.document_id;
        if self == Self::Signature {
            let envelope = envelope(HrDocumentSigned::TYPE);
            let signed_by = format!("customer:{}", document.customer_id);
            return (HrDocumentSigned { envelope, document_id, signed_by }.into(), None);
        }
        let is_refused = self == Self::Payment
            && Random::of(seed, "payment", document.request_id).happens(REFUSED);
        let event = HrPaymentProcessed {
            envelope: envelope(HrPaymentProcessed::TYPE),
            document_id,
            contractor_id: document.contractor_id,
            amount: document.amount.unwrap_or_default(),
            currency: document.currency.clone().unwrap_or_default(),
            status: if is_refused { "refused" } else { "paid" }.to_owned(),
        };
        (event.into(), is_refused.then_some(Self::SecondPayment))
    }
}
