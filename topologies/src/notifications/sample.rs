//! Events in, notifications out, in short words: the topology on the test driver.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kstreams::serdes::{DefaultSerde, SchemaCache, option_serde};
use kstreams::testing::{TestInputTopic, TestOutputTopic, TestSettings, TopologyTestDriver};
use kstreams::{Clock, MockClock, StreamsBuilder, Timestamp};
use uuid::Uuid;

use super::add_to;
use super::settings::Settings;
use crate::events::*;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// Parsed once: parsing the schemas takes longer than a case.
pub(crate) fn shared_serdes() -> Serdes {
    static SERDES: OnceLock<Serdes> = OnceLock::new();
    let parse = || {
        let start = Timestamp::from_millis(i64::MAX / 2); // no event lies in the future
        let clock: Arc<dyn Clock> = Arc::new(MockClock::new(start));
        let cache = SchemaCache::new(Arc::new(memory_registry().unwrap()), clock.clone());
        serdes(&cache, &clock).unwrap()
    };
    SERDES.get_or_init(parse).clone()
}

pub(super) struct World {
    pub(super) driver: TopologyTestDriver,
    requests: TestInputTopic<String, RequestEvent>,
    workflow: TestInputTopic<String, WorkflowEvent>,
    security: TestInputTopic<String, SecurityEvent>,
    hr: TestInputTopic<String, HrEvent>,
    contacts: TestInputTopic<String, Option<Contact>>,
    managers: TestInputTopic<String, Option<Manager>>,
    commands: TestOutputTopic<String, NotificationCommand>,
    failures: TestOutputTopic<String, NotificationEvent>,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let (serdes, text) = (shared_serdes(), String::serde);
        let builder = StreamsBuilder::new();
        add_to(&builder, &serdes, settings).unwrap();
        let test = TestSettings { start: START, ..TestSettings::default() };
        let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), test).unwrap();
        Self {
            requests: driver.input_topic_with("request-events", text(), serdes.requests),
            workflow: driver.input_topic_with("workflow-events", text(), serdes.workflow),
            security: driver.input_topic_with("security-events", text(), serdes.security),
            hr: driver.input_topic_with("hr-events", text(), serdes.hr),
            contacts: driver.input_topic_with("contacts", text(), option_serde(serdes.contacts)),
            managers: driver.input_topic_with("managers", text(), option_serde(serdes.managers)),
            commands: driver.output_topic_with(
                "notification-commands",
                text(),
                serdes.notification_commands,
            ),
            failures: driver.output_topic_with("notification-events", text(), serdes.notifications),
            driver,
        }
    }

    pub(super) fn tick(&self, ms: u64) {
        self.driver.advance_wall_clock_time(Duration::from_millis(ms)).unwrap();
    }

    pub(super) fn pipe(&self, input: Input) {
        match input {
            Input::Request(event) => self.requests.pipe(key(&event), event),
            Input::Workflow(event) => self.workflow.pipe(key(&event), event),
            Input::Security(event) => self.security.pipe(key(&event), event),
            Input::Hr(event) => self.hr.pipe(key(&event), event),
            Input::Contact(name, contact) => self.contacts.pipe(name, contact),
            Input::Manager(id, manager) => self.managers.pipe(id.to_string(), manager),
        }
        .unwrap();
    }

    pub(super) fn commands(&self) -> Vec<NotificationCommand> {
        self.commands.read_records().unwrap().into_iter().map(|record| record.value).collect()
    }

    pub(super) fn failures(&self) -> Vec<NotificationFailed> {
        let records = self.failures.read_records().unwrap().into_iter();
        let failed = records.map(|record| match record.value {
            NotificationEvent::Failed(event) => event,
            other => panic!("wanted notification.failed, found {other:?}"),
        });
        failed.collect()
    }

    /// What was published since the last call, as sorted lines.
    pub(super) fn told(&self) -> Vec<String> {
        let commands = self.commands().into_iter().map(|c| {
            let title = c.parameters.get("title").map_or("-", String::as_str);
            format!("{} {} {} {} \"{title}\"", c.recipient, c.channel, c.locale, c.template)
        });
        let failures = self.failures().into_iter();
        let failures = failures.map(|f| format!("{} failed {}", f.recipient, f.template));
        let mut lines: Vec<String> = commands.chain(failures).collect();
        lines.sort();
        lines
    }
}

fn key(event: &impl TopicEvent) -> String {
    event.key().unwrap_or_default()
}

/// A record of one of the topics.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Request(RequestEvent),
    Workflow(WorkflowEvent),
    Security(SecurityEvent),
    Hr(HrEvent),
    Contact(String, Option<Contact>),
    Manager(i64, Option<Manager>),
}

/// The envelope of an event with this number.
pub(crate) fn envelope<E: Event>(number: u64) -> Envelope {
    let correlation = Some(Uuid::from_u64_pair(2, number));
    Envelope::new(Uuid::from_u64_pair(1, number), E::TYPE, START, "test", correlation)
}

pub(crate) fn created(number: u64, id: i64, customer_id: i64) -> Input {
    Input::Request(RequestEvent::Created(RequestCreated {
        envelope: envelope::<RequestCreated>(number),
        request_id: id,
        customer_id,
        title: "t1".into(),
        description: "d".into(),
        urgency: Urgency::High,
        region: "north".into(),
        city: "c".into(),
        address: "a".into(),
        category: None,
        revision: 1,
    }))
}

pub(crate) fn updated(number: u64, id: i64, customer_id: i64, revision: i32) -> Input {
    Input::Request(RequestEvent::Updated(RequestUpdated {
        envelope: envelope::<RequestUpdated>(number),
        request_id: id,
        customer_id,
        title: format!("t{revision}"),
        description: "d".into(),
        urgency: Urgency::High,
        region: "north".into(),
        city: "c".into(),
        address: "a".into(),
        category: None,
        revision,
    }))
}

pub(crate) fn cancelled(number: u64, id: i64, customer_id: i64) -> Input {
    Input::Request(RequestEvent::Cancelled(RequestCancelled {
        envelope: envelope::<RequestCancelled>(number),
        request_id: id,
        customer_id,
        region: "north".into(),
        reason: "r".into(),
        cancelled_by: "customer:1".into(),
    }))
}

pub(crate) fn clarification(number: u64, id: i64, customer_id: i64) -> Input {
    Input::Request(RequestEvent::ClarificationNeeded(RequestClarificationNeeded {
        envelope: envelope::<RequestClarificationNeeded>(number),
        request_id: id,
        customer_id,
        region: "north".into(),
        question: "q".into(),
        asked_by: "manager:7".into(),
    }))
}

pub(crate) fn manager_assigned(number: u64, id: i64, manager_id: i64, attempt: i32) -> Input {
    Input::Workflow(WorkflowEvent::ManagerAssigned(WorkflowManagerAssigned {
        envelope: envelope::<WorkflowManagerAssigned>(number),
        request_id: id,
        manager_id,
        region: "north".into(),
        priority: Priority::P2,
        sla_deadline: START,
        attempt,
        escalated: false,
    }))
}

pub(crate) fn contractor_assigned(number: u64, id: i64, contractor_id: i64, by: i64) -> Input {
    Input::Workflow(WorkflowEvent::ContractorAssigned(WorkflowContractorAssigned {
        envelope: envelope::<WorkflowContractorAssigned>(number),
        request_id: id,
        contractor_id,
        manager_id: by,
    }))
}

pub(crate) fn completed(number: u64, id: i64, contractor_id: i64) -> Input {
    Input::Workflow(WorkflowEvent::WorkCompleted(WorkflowWorkCompleted {
        envelope: envelope::<WorkflowWorkCompleted>(number),
        request_id: id,
        contractor_id,
        completion_data: CompletionData {
            completed_at: START,
            summary: "s".into(),
            amount: Money::from_hundredths(12_50).unwrap(),
            currency: "RUB".into(),
            hours: Some(1.5),
            photos: Vec::new(),
        },
    }))
}

pub(crate) fn status(number: u64, id: i64, to_status: RequestStatus) -> Input {
    Input::Workflow(WorkflowEvent::StatusChanged(WorkflowStatusChanged {
        envelope: envelope::<WorkflowStatusChanged>(number),
        request_id: id,
        from_status: RequestStatus::New,
        to_status,
        reason: None,
    }))
}

pub(crate) fn revoked(number: u64, contractor_id: i64) -> Input {
    Input::Security(SecurityEvent::AccessRevoked(SecurityAccessRevoked {
        envelope: envelope::<SecurityAccessRevoked>(number),
        contractor_id,
        request_id: 1,
        reason: AccessReason::Expired,
        detail: None,
    }))
}

pub(crate) fn contract(number: u64, contractor_id: i64) -> Input {
    Input::Hr(HrEvent::ContractGenerated(HrContractGenerated {
        envelope: envelope::<HrContractGenerated>(number),
        contract_id: Uuid::nil(),
        contractor_id,
        valid_from: START,
    }))
}

pub(crate) fn document(
    number: u64,
    document_type: DocumentType,
    contractor_id: i64,
    customer_id: i64,
) -> Input {
    Input::Hr(HrEvent::DocumentCreated(HrDocumentCreated {
        envelope: envelope::<HrDocumentCreated>(number),
        document_id: Uuid::nil(),
        document_type,
        request_id: 1,
        contractor_id,
        customer_id,
        amount: Money::from_hundredths(5),
        currency: Some("RUB".into()),
        content_uri: None,
    }))
}

pub(crate) fn payment(number: u64, contractor_id: i64) -> Input {
    Input::Hr(HrEvent::PaymentProcessed(HrPaymentProcessed {
        envelope: envelope::<HrPaymentProcessed>(number),
        document_id: Uuid::nil(),
        contractor_id,
        amount: Money::from_hundredths(5).unwrap(),
        currency: "RUB".into(),
        status: "paid".into(),
    }))
}

/// A contact with the channels of `channels`: `e`, `t`, `s`.
pub(super) fn contact(name: &str, channels: &str, locale: &str) -> Input {
    let has = |channel| channels.contains(channel);
    let contact = Contact {
        recipient: name.to_owned(),
        email: has('e').then(|| format!("{name}@example.org")),
        telegram_chat_id: has('t').then_some(5),
        phone: has('s').then(|| "+70000000001".to_owned()),
        locale: locale.to_owned(),
    };
    Input::Contact(name.to_owned(), Some(contact))
}

pub(super) fn manager(id: i64, email: &str) -> Input {
    let manager = Manager {
        manager_id: id,
        name: "n".into(),
        email: email.to_owned(),
        region: "north".into(),
        capacity: 1,
        active: true,
    };
    Input::Manager(id, Some(manager))
}
