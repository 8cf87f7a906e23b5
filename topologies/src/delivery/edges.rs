//! From commands to messages, and from what became of them to events. Hot path.

use kstreams::Timestamp;

use crate::events::{
    Channel, Envelope, Event, NotificationCommand, NotificationEmailSent, NotificationEvent,
    NotificationFailed, NotificationSmsSent, NotificationTelegramSent, VERSION, derived_id,
};

use super::rules::{Input, Message, Outcome, Pending, Settled};

/// The `source` of the events published here.
const SOURCE: &str = "notification-delivery";

/// A command as the outbox takes it.
pub(super) fn of_command(command: NotificationCommand) -> (String, Input) {
    let message = Message {
        id: command.notification_id,
        template: command.template,
        parameters: command.parameters,
        locale: command.locale,
        request_id: command.request_id,
        correlation_id: command.envelope.correlation_id,
        command_id: command.envelope.event_id,
        trace: None,
    };
    (command.recipient, Input::Command { channel: command.channel, message })
}

/// `notification.<channel>.sent` or `notification.failed`.
pub(super) fn of_settled(settled: Settled, now: Timestamp) -> NotificationEvent {
    let Settled { recipient, channel, pending, outcome } = settled;
    let Pending { message, tries, .. } = pending;
    let attempts = i32::try_from(tries).unwrap_or(i32::MAX);
    let envelope = |event_type: &'static str| Envelope {
        event_id: derived_id(message.id, event_type, ""),
        event_type: event_type.into(),
        timestamp: now,
        source: SOURCE.into(),
        version: VERSION,
        correlation_id: message.correlation_id,
        causation_id: Some(message.command_id),
    };
    macro_rules! sent {
        ($event:ident, $provider_message_id:expr) => {
            NotificationEvent::from($event {
                envelope: envelope($event::TYPE),
                notification_id: message.id,
                recipient,
                channel,
                template: message.template,
                request_id: message.request_id,
                attempts,
                provider_message_id: $provider_message_id,
            })
        };
    }
    match (outcome, channel) {
        (Outcome::Failed { error, permanent }, _) => NotificationFailed {
            envelope: envelope(NotificationFailed::TYPE),
            notification_id: message.id,
            recipient,
            channel,
            template: message.template,
            request_id: message.request_id,
            attempts,
            provider_message_id: None,
            error,
            permanent,
        }
        .into(),
        (Outcome::Sent(id), Channel::Telegram) => sent!(NotificationTelegramSent, id),
        (Outcome::Sent(id), Channel::Sms) => sent!(NotificationSmsSent, id),
        (Outcome::Sent(id), Channel::Email | Channel::Unknown) => sent!(NotificationEmailSent, id),
    }
}
