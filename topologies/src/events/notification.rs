//! `notification-events`: What became of notifications; keyed by recipient. And the commands that ask for one.

use uuid::Uuid;

use super::symbols::Channel;
use super::{event, topic_events};

event! {
    /// An e-mail was handed to its provider.
    NotificationEmailSent, "notification-events", "notification.email.sent" key recipient {
        /// Id of the notification; one is never delivered twice.
        notification_id: Uuid,
        /// Who is notified, such as customer:456; the record's key.
        recipient: String,
        /// Channel that was used last.
        channel: Channel,
        /// Name of the message template.
        template: String,
        /// Id of the request it is about.
        request_id: Option<i64>,
        /// Number of delivery attempts.
        attempts: i32,
        /// Id that the provider gave to the message.
        provider_message_id: Option<String>,
    }
}

event! {
    /// A Telegram message was handed to its provider.
    NotificationTelegramSent, "notification-events", "notification.telegram.sent" key recipient {
        /// Id of the notification; one is never delivered twice.
        notification_id: Uuid,
        /// Who is notified, such as customer:456; the record's key.
        recipient: String,
        /// Channel that was used last.
        channel: Channel,
        /// Name of the message template.
        template: String,
        /// Id of the request it is about.
        request_id: Option<i64>,
        /// Number of delivery attempts.
        attempts: i32,
        /// Id that the provider gave to the message.
        provider_message_id: Option<String>,
    }
}

event! {
    /// An SMS was handed to its provider.
    NotificationSmsSent, "notification-events", "notification.sms.sent" key recipient {
        /// Id of the notification; one is never delivered twice.
        notification_id: Uuid,
        /// Who is notified, such as customer:456; the record's key.
        recipient: String,
        /// Channel that was used last.
        channel: Channel,
        /// Name of the message template.
        template: String,
        /// Id of the request it is about.
        request_id: Option<i64>,
        /// Number of delivery attempts.
        attempts: i32,
        /// Id that the provider gave to the message.
        provider_message_id: Option<String>,
    }
}

event! {
    /// A notification could not be delivered.
    NotificationFailed, "notification-events", "notification.failed" key recipient {
        /// Id of the notification; one is never delivered twice.
        notification_id: Uuid,
        /// Who is notified, such as customer:456; the record's key.
        recipient: String,
        /// Channel that was used last.
        channel: Channel,
        /// Name of the message template.
        template: String,
        /// Id of the request it is about.
        request_id: Option<i64>,
        /// Number of delivery attempts.
        attempts: i32,
        /// Id that the provider gave to the message.
        provider_message_id: Option<String>,
        /// What the provider or the deliverer said.
        error: String,
        /// Whether trying again is pointless.
        permanent: bool,
    }
}

topic_events! {
    /// An event of `notification-events`.
    NotificationEvent, "notification-events" {
        /// `notification.email.sent`
        EmailSent(NotificationEmailSent),
        /// `notification.telegram.sent`
        TelegramSent(NotificationTelegramSent),
        /// `notification.sms.sent`
        SmsSent(NotificationSmsSent),
        /// `notification.failed`
        Failed(NotificationFailed),
    }
}
