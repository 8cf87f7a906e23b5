//! Reference data: the latest value per key, in compacted topics; null deletes.

use kstreams::serdes::AvroRecord;
use kstreams::{Result, Timestamp};
use serde::{Deserialize, Serialize};

use super::Validate;
use super::validate::{Checked, broken};

/// A manager of the directory; the record's key is `manager_id` as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Id of the manager.
    pub manager_id: i64,
    /// Full name.
    pub name: String,
    /// E-mail address.
    pub email: String,
    /// Home region.
    pub region: String,
    /// Number of open requests that the manager can take; 0 means none.
    pub capacity: i32,
    /// Whether the manager takes requests at all.
    pub active: bool,
}

impl AvroRecord for Manager {
    const SCHEMA: &'static str = include_str!("../../../avro/managers/manager.avsc");
}

impl Validate for Manager {
    fn validate(&self, _: Timestamp) -> Result<()> {
        self.manager_id.check("manager", "manager_id")?;
        self.region.check("manager", "region")?;
        if self.capacity < 0 {
            return Err(broken("manager", "capacity", self.capacity, "0 or more"));
        }
        Ok(())
    }
}

/// How to reach somebody; the record's key is the recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Who it is, such as `customer:456`.
    pub recipient: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Chat of the Telegram bot; negative for groups.
    pub telegram_chat_id: Option<i64>,
    /// Telephone number, E.164.
    pub phone: Option<String>,
    /// Language of messages, such as `ru` or `en`.
    pub locale: String,
}

impl AvroRecord for Contact {
    const SCHEMA: &'static str = include_str!("../../../avro/contacts/contact.avsc");
}

impl Validate for Contact {
    fn validate(&self, _: Timestamp) -> Result<()> {
        Ok(())
    }
}
