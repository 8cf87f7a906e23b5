//! A request's grants and documents, asked of instances that run different topologies.

use aggregator::events::{
    CompletionData, Envelope, Money, SecurityContractorVerified, SecurityEvent, TopicEvent,
    WorkflowContractorAssigned, WorkflowEvent, WorkflowWorkCompleted,
};
use kstreams::serdes::{Encoded, Serde};
use kstreams::{Clock as _, SystemClock};
use test_support::{DEADLINE, Message, Outcome, Process, produce, wait_until};
use uuid::Uuid;

use crate::load::{Load, registered_serdes};
use crate::queries::{answer, told};
use crate::site::{Instance, Site};

const CONTRACTOR: i64 = 9;

fn envelope(number: u128, event_type: &'static str) -> Envelope {
    let now = SystemClock::default().now();
    Envelope::new(Uuid::from_u128(number), event_type, now, "test", None)
}

fn send<T: TopicEvent + 'static>(serde: &Serde<T>, event: &T) {
    let mut value = Vec::new();
    assert_eq!(serde.serializer().serialize(T::TOPIC, event, &mut value).unwrap(), Encoded::Bytes);
    let key = event.key().map(String::into_bytes);
    produce(T::TOPIC, &[Message { key, value: Some(value), ..Message::default() }], Outcome::Plain);
}

#[test]
fn parts_come_from_whoever_runs_the_topology() {
    let site = Site::new();
    let start = |topologies: &[&str], state: &str| {
        let folder = format!("kafka.state_dir={}", site.folder().join(state).display());
        let settings = ["--set", "log.format=json", "--set", &folder];
        let mut command = site.command(&["run"]);
        command.args(topologies).args(settings);
        Instance { process: Process::start(command) }
    };
    let mut access = start(&["manager-assignment", "contractor-access"], "access");
    let mut papers = start(&["hr-documents", "notification-delivery"], "papers");
    let addresses = [access.address(), papers.address()];
    let serdes = registered_serdes();
    let mut load = Load::new(7);
    produce("request-events", &load.requests(1), Outcome::Plain);
    send(
        &serdes.security,
        &SecurityEvent::from(SecurityContractorVerified {
            envelope: envelope(1, "security.contractor_verified"),
            contractor_id: CONTRACTOR,
            verified_by: "officer:1".into(),
            regions: Vec::new(),
            valid_until: None,
        }),
    );
    send(
        &serdes.workflow,
        &WorkflowEvent::from(WorkflowContractorAssigned {
            envelope: envelope(2, "workflow.contractor_assigned"),
            request_id: 1,
            contractor_id: CONTRACTOR,
            manager_id: 1,
        }),
    );
    // Asked of the instance that runs none of it.
    wait_until("access", DEADLINE, || {
        answer(&site, &addresses[1], &["get", "request", "1"])
            .is_some_and(|found| found["grants"][0]["access"] == "granted")
    });
    wait_until("the contractor's contract", DEADLINE, || {
        answer(&site, &addresses[0], &["get", "contractor", "9"])
            .is_some_and(|found| found["contract_id"].is_string())
    });
    let contractor = answer(&site, &addresses[1], &["get", "contractor", "9"]).unwrap();
    assert_eq!(
        (&contractor["standing"], &contractor["regions"]),
        (&"verified".into(), &"all".into())
    );
    assert_eq!(contractor["grants"][0]["request_id"], 1, "{contractor}");

    let completed = envelope(3, "workflow.work_completed");
    let completion_data = CompletionData {
        completed_at: completed.timestamp,
        summary: "done".into(),
        amount: Money::from_hundredths(12_345).unwrap(),
        currency: "EUR".into(),
        hours: None,
        photos: Vec::new(),
    };
    send(
        &serdes.workflow,
        &WorkflowEvent::from(WorkflowWorkCompleted {
            envelope: completed,
            request_id: 1,
            contractor_id: CONTRACTOR,
            completion_data,
        }),
    );
    wait_until("the end of it", DEADLINE, || {
        answer(&site, &addresses[0], &["get", "request", "1"]).is_some_and(|found| {
            found["status"] == "closed"
                && found["grants"][0]["access"] == "none"
                && found["documents"].as_array().is_some_and(|documents| documents.len() == 2)
        })
    });
    let open = answer(&site, &addresses[0], &["paperwork", "--open"]).unwrap();
    assert_eq!(open["paperwork"][0]["amount"], "123.45 EUR", "{open}");
    assert_eq!(open["paperwork"][0]["signed"], false, "{open}");

    let (text, code) = told(&site, &["get", "request", "999", "--instance", &addresses[1]]);
    assert!(code == Some(1) && text.contains("found nothing about request 999"), "{text}");

    // Where nobody runs a topology, the answer says what is missing.
    papers.stop();
    let (text, code) = told(&site, &["get", "request", "1", "--instance", &addresses[0]]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("closed") && text.contains("incomplete\n  hr-documents: "), "{text}");
    access.stop();
}
