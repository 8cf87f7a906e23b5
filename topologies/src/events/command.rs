//! `notification-commands`: what the deliverers are asked to send; keyed by recipient.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::event;
use super::symbols::Channel;

event! {
    /// Asks a deliverer to send one message.
    NotificationCommand, "notification-commands", "notification.command" key recipient {
        /// Id of the notification; one is never delivered twice.
        notification_id: Uuid,
        /// Who is notified, such as customer:456; the record's key.
        recipient: String,
        /// Channel to use first.
        channel: Channel,
        /// Name of the message template.
        template: String,
        /// Values for the template's placeholders.
        parameters: BTreeMap<String, String>,
        /// Language of the message.
        locale: String,
        /// Id of the request it is about.
        request_id: Option<i64>,
    }
}
