//! Who there is: managers, contractors and customers, and how each of them can be reached, by rule.

use aggregator::events::{Channel, Contact, Manager};
use test_support::Message;

use super::life::REGIONS;
use super::records::value;
use crate::load::registered_serdes;

/// Contractors, with ids from 1.
pub(crate) const CONTRACTORS: i64 = 400;
const LOCALE: &str = "en";

/// Customers are one to a request.
pub(crate) fn customer_of(request_id: i64) -> i64 {
    request_id + 1_000_000
}

pub(crate) fn customer(id: i64) -> String {
    format!("customer:{id}")
}

pub(crate) fn contractor(id: i64) -> String {
    format!("contractor:{id}")
}

pub(crate) fn manager(id: i64) -> String {
    format!("manager:{id}")
}

/// The manager of a region: each has one, with room for all.
pub(crate) fn manager_of(region: &str) -> i64 {
    REGIONS.iter().position(|known| *known == region).unwrap() as i64 + 1
}

/// The channels that a recipient has, by the last digit of the id.
fn channels(recipient: &str) -> (bool, bool) {
    let (kind, id) = recipient.split_once(':').unwrap();
    let number: i64 = id.parse().unwrap();
    match (kind, number % 10) {
        // A contractor whom only a wrong payment names has none.
        ("contractor", _) if number > CONTRACTORS => (false, false),
        ("contractor", 1 | 2) | ("customer", 1) | ("manager", 1) => (true, false),
        ("contractor", 3) | ("customer", 2) | ("manager", 2) => (false, true),
        ("contractor", 4) | ("customer", 3) => (true, true),
        _ => (false, false),
    }
}

/// The channel by which a message reaches the recipient; `None`: there is none.
///
/// Nobody has an e-mail address, so what is wanted by e-mail falls back: to SMS, and then to Telegram.
pub(crate) fn reach(recipient: &str, wants_telegram: bool) -> Option<Channel> {
    match channels(recipient) {
        (false, false) => None,
        (true, true) if wants_telegram => Some(Channel::Telegram),
        (_, true) => Some(Channel::Sms),
        (true, false) => Some(Channel::Telegram),
    }
}

/// How everybody is reached, of so many requests' customers.
pub(crate) fn contacts(requests: usize) -> Vec<Message> {
    let serde = registered_serdes().contacts;
    let customers = (1..=requests as i64).map(|request| customer(customer_of(request)));
    let contractors = (1..=CONTRACTORS).map(contractor);
    let managers = (1..=REGIONS.len() as i64).map(manager);
    let all = customers.chain(contractors).chain(managers);
    let message = |recipient: String| {
        let (telegram, sms) = channels(&recipient);
        let contact = Contact {
            recipient: recipient.clone(),
            // Blank is none.
            email: Some(" ".to_owned()),
            telegram_chat_id: telegram.then_some(5),
            phone: sms.then(|| "+100".to_owned()),
            locale: LOCALE.to_owned(),
        };
        let key = Some(recipient.into_bytes());
        (telegram || sms).then(|| Message { key, ..value(&serde, "contacts", &contact) })
    };
    all.filter_map(message).collect()
}

pub(crate) fn managers() -> Vec<Message> {
    let serde = registered_serdes().managers;
    let message = |region: &&str| {
        let manager_id = manager_of(region);
        let manager = Manager {
            manager_id,
            name: "M".to_owned(),
            email: String::new(),
            region: (*region).to_owned(),
            capacity: 1_000_000,
            active: true,
        };
        let key = Some(manager_id.to_string().into_bytes());
        Message { key, ..value(&serde, "managers", &manager) }
    };
    REGIONS.iter().map(message).collect()
}
