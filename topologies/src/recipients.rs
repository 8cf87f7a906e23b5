//! How people are reached: what `contacts` and `managers` say of a recipient, and which channel follows from it.
//!
//! Shared by the topologies that write and that deliver notifications, each with a store of its own. A recipient is `customer:456`,
//! `contractor:9` or `manager:7`. What `contacts` says holds; a manager's e-mail address in the directory fills the gap. Pure, but for the
//! processor that re-keys the directory.

use kstreams::{Error, Processor, ProcessorContext, Record, Result};
use serde::{Deserialize, Serialize};

use crate::events::{Channel, Contact, Manager};

/// How somebody can be reached; a text that is blank counts as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// E-mail address.
    pub email: Option<String>,
    /// Chat of the Telegram bot.
    pub telegram_chat_id: Option<i64>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Language of messages.
    pub locale: Option<String>,
}

/// Where one message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// E-mail address.
    Email(String),
    /// Chat of the Telegram bot.
    Telegram(i64),
    /// Telephone number.
    Sms(String),
}

impl Address {
    /// The channel that it belongs to.
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Email,
            Self::Telegram(_) => Channel::Telegram,
            Self::Sms(_) => Channel::Sms,
        }
    }
}

/// The order of channels for a recipient who cannot be reached by the one that was wanted.
const FALLBACK: [Channel; 3] = [Channel::Email, Channel::Sms, Channel::Telegram];

impl Reach {
    /// The address on a channel.
    pub fn address(&self, channel: Channel) -> Option<Address> {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        match channel {
            Channel::Email => text(&self.email).map(Address::Email),
            Channel::Telegram => self.telegram_chat_id.map(Address::Telegram),
            Channel::Sms => text(&self.phone).map(Address::Sms),
            Channel::Unknown => None,
        }
    }

    /// The wanted channel, or else the first of e-mail, SMS and Telegram that reaches the recipient.
    pub fn channel(&self, wanted: Channel) -> Option<Channel> {
        std::iter::once(wanted).chain(FALLBACK).find(|channel| self.address(*channel).is_some())
    }
}

/// What is known of a recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    contact: Option<Reach>,
    manager_email: Option<String>,
}

/// What has changed of a recipient; `None` where the record was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// In `contacts`.
    Contact(Option<Reach>),
    /// The e-mail address in `managers`.
    Manager(Option<String>),
}

impl Entry {
    /// Takes a change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Contact(contact) => self.contact = contact,
            Change::Manager(email) => self.manager_email = email,
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How the recipient can be reached.
    pub fn reach(&self) -> Reach {
        let mut reach = self.contact.clone().unwrap_or_default();
        if reach.address(Channel::Email).is_none() {
            reach.email.clone_from(&self.manager_email);
        }
        reach
    }
}

/// The recipient that a manager is.
pub fn manager(id: i64) -> String {
    format!("manager:{id}")
}

/// The recipient that a customer is.
pub fn customer(id: i64) -> String {
    format!("customer:{id}")
}

/// The recipient that a contractor is.
pub fn contractor(id: i64) -> String {
    format!("contractor:{id}")
}

/// Re-keys the records of `contacts` and `managers` by recipient.
#[derive(Debug, Default)]
pub(crate) struct Directory;

impl Processor<String, Option<Contact>, String, Change> for Directory {
    fn process(
        &mut self,
        record: Record<String, Option<Contact>>,
        context: &mut ProcessorContext<'_, '_, String, Change>,
    ) -> Result<()> {
        let named = record.value.as_ref().map(|contact| contact.recipient.as_str());
        if named.is_some_and(|named| named != record.key) {
            return Err(Error::bad_record(format!(
                "contact: found key \"{}\" for recipient {named:?}, wanted the recipient as text",
                record.key
            )));
        }
        let change = Change::Contact(record.value.clone().map(reach_of));
        context.forward(record.with_value(change))
    }
}

impl Processor<String, Option<Manager>, String, Change> for Directory {
    fn process(
        &mut self,
        record: Record<String, Option<Manager>>,
        context: &mut ProcessorContext<'_, '_, String, Change>,
    ) -> Result<()> {
        let id: Option<i64> = record.key.parse().ok().filter(|id| *id >= 0);
        let named = record.value.as_ref().map(|manager| manager.manager_id);
        match id {
            Some(id) if named.is_none_or(|named| named == id) => {
                let email = record.value.clone().map(|manager| manager.email);
                context.forward(record.with_key(manager(id)).with_value(Change::Manager(email)))
            }
            _ => Err(Error::bad_record(format!(
                "manager: found key \"{}\" for manager_id {named:?}, wanted the id as text",
                record.key
            ))),
        }
    }
}

fn reach_of(contact: Contact) -> Reach {
    let Contact { email, telegram_chat_id, phone, locale, .. } = contact;
    Reach { email, telegram_chat_id, phone, locale: Some(locale) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(email: &str, chat: Option<i64>, phone: Option<&str>) -> Reach {
        Reach {
            email: Some(email.to_owned()),
            telegram_chat_id: chat,
            phone: phone.map(str::to_owned),
            locale: None,
        }
    }

    #[test]
    fn a_missing_channel_falls_back_to_email_then_sms_then_telegram() {
        use Channel::*;
        let all = reach("a@b", Some(1), Some("+7"));
        assert_eq!(
            [Email, Telegram, Sms].map(|c| all.channel(c)),
            [Email, Telegram, Sms].map(Some)
        );
        assert_eq!(all.channel(Unknown), Some(Email));
        let blank = reach("  ", Some(1), Some("+7"));
        assert_eq!([Email, Telegram].map(|c| blank.channel(c)), [Some(Sms), Some(Telegram)]);
        assert_eq!(reach("", Some(1), None).channel(Sms), Some(Telegram));
        assert_eq!(reach("a@b", None, None).channel(Telegram), Some(Email));
        assert_eq!(Reach::default().channel(Email), None);
    }

    #[test]
    fn contacts_hold_and_the_directory_fills_the_gap() {
        let mut entry = Entry::default();
        entry.apply(Change::Manager(Some("desk@x".to_owned())));
        assert_eq!(entry.reach().address(Channel::Email), Some(Address::Email("desk@x".into())));
        entry.apply(Change::Contact(Some(reach("own@x", None, None))));
        assert_eq!(entry.reach().address(Channel::Email), Some(Address::Email("own@x".into())));
        entry.apply(Change::Contact(Some(reach("", Some(5), None))));
        assert_eq!(entry.reach().email.as_deref(), Some("desk@x"));
        entry.apply(Change::Contact(None));
        entry.apply(Change::Manager(None));
        assert!(entry.is_empty());
    }
}
