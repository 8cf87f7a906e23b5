//! The consumer groups: who is in them, and whether their offsets still fit the topics.

use kstreams::kafka::librdkafka::LibrdkafkaClients;
use kstreams::kafka::{ConsumerPurpose, KafkaClients as _, application_server};
use kstreams::{Result, TopicPartition, client_settings};

use super::local::answers;
use super::{Findings, Patient};
use crate::catalog::{CATALOG, TopologySpec};

pub(super) fn look(patient: &mut Patient<'_>, findings: &mut Findings) {
    for spec in CATALOG {
        let group = patient.settings.application_id(spec.name);
        if let Err(error) = members(patient, &group, findings) {
            findings.blind("group", &group, &error);
        }
        if let Err(error) = offsets(patient, spec, &group, findings) {
            findings.blind("offsets", &group, &error);
        }
    }
}

fn members(patient: &mut Patient<'_>, group: &str, findings: &mut Findings) -> Result<()> {
    let members = patient.patiently(|at| at.admin.describe_group(group, at.timeout))?;
    let before = findings.0.len();
    for member in &members {
        let Some(address) = application_server(&member.client_id) else { continue };
        if let Err(error) = answers(address) {
            let found = format!(
                "found the member \"{}\" with {} partitions, and nothing at its address ({error})",
                member.client_id,
                member.partitions.len()
            );
            let cure = "start that instance again, or wait for kafka.session_timeout_ms: its partitions rest until then";
            findings.warn("group", group, found, cure);
        }
    }
    if findings.0.len() == before {
        let found = match members.len() {
            0 => "no member: not running".to_owned(),
            count => format!("{count} members"),
        };
        findings.ok("group", group, found);
    }
    Ok(())
}

fn offsets(
    patient: &mut Patient<'_>,
    spec: &TopologySpec,
    group: &str,
    findings: &mut Findings,
) -> Result<()> {
    let config = patient.settings.streams_config(spec.name);
    let clients = LibrdkafkaClients::new(client_settings(&config))?;
    let mut consumer = clients.consumer(ConsumerPurpose::Main)?;
    let partitions = partitions(patient, spec);
    let committed = patient.patiently(|at| consumer.committed(&partitions, at.timeout))?;
    let (before, mut behind) = (findings.0.len(), 0);
    for (partition, committed) in partitions.iter().zip(committed) {
        let Some(committed) = committed.map(|committed| committed.offset) else { continue };
        let (first, end) = consumer.offsets(partition, patient.timeout)?;
        let about = format!("{group}, {partition}");
        if committed < first {
            let found = format!(
                "found the group at {committed} and the first record at {first}: {} offsets were deleted unread",
                first - committed
            );
            let cure = "send again what they held; then raise the topic's retention.ms, or run more instances";
            findings.fail("offsets", &about, found, cure);
        } else if committed > end {
            let found = format!(
                "found the group at {committed} and the topic's end at {end}: the topic was made anew"
            );
            let cure = "stop all instances and reset the group's offsets (`kafka-consumer-groups --reset-offsets --to-earliest`)";
            findings.fail("offsets", &about, found, cure);
        } else {
            behind += end - committed;
        }
    }
    if findings.0.len() == before {
        findings.ok("offsets", group, format!("{behind} offsets behind"));
    }
    Ok(())
}

fn partitions(patient: &Patient<'_>, spec: &TopologySpec) -> Vec<TopicPartition> {
    let of = |topic: &'static str| {
        let count = patient.topics.get(topic).map_or(0, |description| description.partitions);
        (0..count).map(move |partition| TopicPartition { topic: topic.into(), partition })
    };
    spec.sources.iter().copied().flat_map(of).collect()
}
