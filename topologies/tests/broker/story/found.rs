//! What came out: committed records only, read by a plain client.

use std::collections::{BTreeMap, BTreeSet};

use aggregator::events::*;
use bytes::Bytes;
use kstreams::Headers;
use kstreams::serdes::Serde;
use test_support::{Follower, Message};
use uuid::Uuid;

use crate::site::Site;

/// Partition and offset.
pub(crate) type Place = (i32, i64);

/// A topic's events, as far as they were read.
pub(crate) struct Log<E: 'static> {
    pub(crate) topic: &'static str,
    follower: Follower,
    serde: Serde<E>,
    pub(crate) read: Vec<(Place, E)>,
    /// Events whose record has another time than they themselves.
    pub(crate) mistimed: usize,
}

impl<E> Log<E> {
    fn new(topic: &'static str, serde: Serde<E>) -> Self {
        Self { topic, follower: Follower::new(topic), serde, read: Vec::new(), mistimed: 0 }
    }

    /// Reads on; says whether the topic was read to its end once.
    fn look(&mut self, envelope: impl Fn(&E) -> Option<&Envelope>) -> bool {
        let (topic, serde, read) = (self.topic, &self.serde, &mut self.read);
        let mistimed = &mut self.mistimed;
        self.follower.look(&mut |message| {
            let value = message.value.map(Bytes::from);
            let event =
                serde.deserializer().deserialize(topic, &Headers::default(), value.as_ref());
            let event = event.unwrap();
            let at = envelope(&event).map(|envelope| envelope.timestamp.as_millis());
            *mistimed += usize::from(at != message.timestamp_ms);
            read.push(((message.partition.unwrap(), message.offset), event));
        })
    }
}

/// Follows everything that topologies write, and what they read.
pub(crate) struct Found {
    pub(crate) requests: Log<RequestEvent>,
    pub(crate) workflow: Log<WorkflowEvent>,
    pub(crate) security: Log<SecurityEvent>,
    pub(crate) hr: Log<HrEvent>,
    pub(crate) notifications: Log<NotificationEvent>,
    pub(crate) commands: Log<NotificationCommand>,
    pub(crate) audit: Log<AuditEvent>,
    /// Dead letters, by topic.
    letters: Vec<(String, Follower)>,
    pub(crate) set_aside: Vec<(String, Message)>,
    paperwork: Follower,
    /// Requests with open paperwork, by the store's changelog.
    pub(crate) open: BTreeSet<i64>,
}

impl Found {
    /// The program must have been started once: its own topics are read too.
    pub(crate) fn new(site: &Site, serdes: Serdes) -> Self {
        let letters = site.own_topics().into_iter().filter(|topic| topic.ends_with("-dlq"));
        Self {
            requests: Log::new("request-events", serdes.requests),
            workflow: Log::new("workflow-events", serdes.workflow),
            security: Log::new("security-events", serdes.security),
            hr: Log::new("hr-events", serdes.hr),
            notifications: Log::new("notification-events", serdes.notifications),
            commands: Log::new("notification-commands", serdes.notification_commands),
            audit: Log::new("audit-events", serdes.audit),
            letters: letters.map(|topic| (topic.clone(), Follower::new(&topic))).collect(),
            set_aside: Vec::new(),
            paperwork: Follower::new(&site.topic_of("hr-documents", "paperwork-changelog")),
            open: BTreeSet::new(),
        }
    }

    /// Reads what has come; says whether each topic was read to its end once.
    pub(crate) fn look(&mut self) -> bool {
        let mut complete = self.requests.look(TopicEvent::envelope)
            & self.workflow.look(TopicEvent::envelope)
            & self.security.look(TopicEvent::envelope)
            & self.hr.look(TopicEvent::envelope)
            & self.notifications.look(TopicEvent::envelope)
            & self.commands.look(|command| Some(&command.envelope))
            & self.audit.look(TopicEvent::envelope);
        let set_aside = &mut self.set_aside;
        for (topic, follower) in &mut self.letters {
            complete &= follower.look(&mut |message| set_aside.push((topic.clone(), message)));
        }
        let open = &mut self.open;
        complete
            & self.paperwork.look(&mut |message| {
                let key = message.key.as_deref().unwrap();
                let request = i64::from_be_bytes(key.try_into().unwrap());
                match message.value {
                    Some(_) => open.insert(request),
                    None => open.remove(&request),
                };
            })
    }

    /// Records of the domain topics and dead letters: as many are audited.
    pub(crate) fn to_be_audited(&self) -> usize {
        self.requests.read.len()
            + self.workflow.read.len()
            + self.security.read.len()
            + self.hr.read.len()
            + self.notifications.read.len()
            + self.set_aside.len()
    }

    /// How many decisions on access, and revocations, there are.
    pub(crate) fn decisions(&self) -> usize {
        let ours = |event: &SecurityEvent| {
            matches!(event, SecurityEvent::AccessGranted(_) | SecurityEvent::AccessRevoked(_))
        };
        self.security.read.iter().filter(|(_, event)| ours(event)).count()
    }

    /// Notifications that have failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &NotificationFailed> {
        self.notifications.read.iter().filter_map(|(_, event)| match event {
            NotificationEvent::Failed(event) => Some(event),
            _ => None,
        })
    }

    /// Those that were sent: id, channel, recipient.
    pub(crate) fn sent(&self) -> impl Iterator<Item = (Uuid, Channel, &str)> {
        self.notifications.read.iter().filter_map(|(_, event)| match event {
            NotificationEvent::EmailSent(e) => {
                Some((e.notification_id, Channel::Email, &*e.recipient))
            }
            NotificationEvent::SmsSent(e) => Some((e.notification_id, Channel::Sms, &*e.recipient)),
            NotificationEvent::TelegramSent(e) => {
                Some((e.notification_id, Channel::Telegram, &*e.recipient))
            }
            NotificationEvent::Failed(_) | NotificationEvent::Unknown => None,
        })
    }

    /// How far it is, for people.
    pub(crate) fn progress(&self) -> String {
        format!(
            "{} decisions and revocations, {} of hr, {} commands, {} sent, {} failed, {} dead letters, {} audit events of {}",
            self.decisions(),
            self.hr.read.len(),
            self.commands.read.len(),
            self.sent().count(),
            self.failed().count(),
            self.set_aside.len(),
            self.audit.read.len(),
            self.to_be_audited() + self.decisions(),
        )
    }
}

/// How often each of them is there.
pub(crate) fn counted<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts
}
