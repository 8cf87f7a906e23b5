//! The application's whole manager-assignment topology on the requests of the data set.
//!
//! Its contracts, serdes and registry cache are the application's own; the registry is in memory. Every request goes over
//! two repartition topics and three stores, and is assigned: managers have room for all. Ends with a check that each request
//! was assigned exactly once. The topology reads what it writes, so `workflow-events` is made anew for each run.

use std::sync::Arc;
use std::time::Duration;

use aggregator::events::{
    self, Envelope, Manager, RequestCreated, RequestEvent, Serdes, Urgency, WorkflowEvent,
};
use aggregator::manager_assignment::{self, settings::Settings};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kstreams::serdes::{Deserializer, Encoded, SchemaCache, Serde, Serializer};
use kstreams::{Clock, Headers, StreamsBuilder, SystemClock, Timestamp, Topology};
use rdkafka::Message;
use rdkafka::producer::{BaseProducer, Producer};
use uuid::Uuid;

use crate::data::{self, Topic};
use crate::events::Request;
use crate::generate;
use crate::hash::partition_of;
use crate::kafka::Cluster;
use crate::topologies::Progress;

/// Requests of a full run: a quarter of the data set, for each of them means five records on topics.
pub(crate) const REQUESTS: u32 = 500_000;

const REQUEST_TOPIC: &str = "request-events";
const WORKFLOW_TOPIC: &str = "workflow-events";
const MANAGER_TOPIC: &str = "managers";

fn serdes() -> Result<Serdes> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let registry = Arc::new(events::memory_registry()?);
    Ok(events::serdes(&SchemaCache::new(registry, clock.clone()), &clock)?)
}

/// Makes the output topic anew, empty.
///
/// # Errors
/// Where the input is missing: it is filled by a process of its own, whose memory must not count here.
pub(crate) fn prepare(cluster: &Cluster) -> Result<()> {
    let existing = cluster.topics()?;
    if !existing.contains_key(REQUEST_TOPIC) {
        bail!("topic \"{REQUEST_TOPIC}\" does not exist: fill it with `generate`");
    }
    if existing.contains_key(WORKFLOW_TOPIC) {
        cluster.delete_topics(&[WORKFLOW_TOPIC.to_owned()])?;
    }
    cluster.create_topics(&[(WORKFLOW_TOPIC.to_owned(), 3)], &[("retention.ms", "-1")])
}

/// Creates and fills the topics of requests and managers.
pub(crate) fn fill(cluster: &Cluster) -> Result<()> {
    let topics = [(REQUEST_TOPIC.to_owned(), 6), (MANAGER_TOPIC.to_owned(), 3)];
    cluster.create_topics(&topics, &[("retention.ms", "-1")])?;
    let serdes = serdes()?;
    let producer: BaseProducer = generate::producer(cluster)?;
    let mut value = Vec::new();
    data::generate(REQUESTS, 0, |record| {
        if record.topic != Topic::Requests {
            return Ok(());
        }
        let Some(request) = Request::decode(&Bytes::copy_from_slice(record.value))? else {
            return Ok(());
        };
        let event = RequestEvent::Created(created(&request)?);
        value.clear();
        let _ = serdes.requests.serializer().serialize(REQUEST_TOPIC, &event, &mut value)?;
        let record = data::InputRecord { value: &value, ..record };
        generate::send(&producer, REQUEST_TOPIC, &record)
    })?;
    for (region, name) in data::regions().into_iter().enumerate() {
        for index in 0..10 {
            let manager_id = 1 + region as i64 * 10 + index;
            let manager = Manager {
                manager_id,
                name: format!("manager {manager_id}"),
                email: format!("manager-{manager_id}@example.org"),
                region: name.clone(),
                capacity: i32::MAX,
                active: true,
            };
            value.clear();
            let _ = serdes.managers.serializer().serialize(MANAGER_TOPIC, &manager, &mut value)?;
            let key = manager_id.to_string();
            let record = data::InputRecord {
                topic: Topic::Requests,
                partition: partition_of(key.as_bytes(), 3),
                timestamp_ms: data::START_MS,
                key: key.as_bytes(),
                value: &value,
            };
            generate::send(&producer, MANAGER_TOPIC, &record)?;
        }
    }
    producer.flush(Duration::from_secs(120)).context("waiting for the last records")
}

fn created(request: &Request) -> Result<RequestCreated> {
    let correlation_id = Uuid::try_parse_ascii(request.correlation_id.as_bytes())?;
    let timestamp = Timestamp::from_millis(request.timestamp_ms);
    Ok(RequestCreated {
        envelope: Envelope::new(
            Uuid::from_u128(correlation_id.as_u128() ^ 1),
            "request.created",
            timestamp,
            "request-service",
            Some(correlation_id),
        ),
        request_id: request.request_id,
        customer_id: 1 + request.request_id % 500_000,
        title: "leak under the boiler".to_owned(),
        description: "urgent: the pump drips on the panel, please inspect and replace".to_owned(),
        urgency: match request.priority {
            1 => Urgency::Critical,
            2 => Urgency::High,
            3 => Urgency::Medium,
            _ => Urgency::Low,
        },
        region: String::from_utf8(request.region.as_bytes().to_vec())?,
        city: "city-123".to_owned(),
        address: "valve street 17, apt 42".to_owned(),
        category: None,
        revision: 1,
    })
}

/// The application's topology; progress is told by its serdes, so that the topology itself is the real one.
pub(crate) fn topology(progress: &Arc<Progress>) -> Result<Topology> {
    let mut serdes = serdes()?;
    let told = Told { serde: serdes.requests.clone(), progress: progress.clone() };
    serdes.requests = Serde::from_both(told);
    let told = Told { serde: serdes.workflow.clone(), progress: progress.clone() };
    serdes.workflow = Serde::from_both(told);
    let builder = StreamsBuilder::new();
    manager_assignment::add_to(&builder, &serdes, &Settings::default())?;
    Ok(builder.build()?)
}

/// A serde that tells the progress what passes.
struct Told<T> {
    serde: Serde<T>,
    progress: Arc<Progress>,
}

impl<T: Counts> Serializer<T> for Told<T> {
    fn serialize(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> kstreams::Result<Encoded> {
        let encoded = self.serde.serializer().serialize(topic, value, out)?;
        if value.is_result() {
            self.progress.count();
        }
        Ok(encoded)
    }
}

impl<T: Counts> Deserializer<T> for Told<T> {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> kstreams::Result<T> {
        self.progress.seen();
        self.serde.deserializer().deserialize(topic, headers, data)
    }
}

trait Counts: 'static {
    /// Whether writing this completes a request.
    fn is_result(&self) -> bool;
}

impl Counts for RequestEvent {
    fn is_result(&self) -> bool {
        false
    }
}

impl Counts for WorkflowEvent {
    fn is_result(&self) -> bool {
        matches!(self, Self::ManagerAssigned(_))
    }
}

/// Checks that each request was assigned once.
///
/// # Errors
/// Names the first request for which that is not so.
pub(crate) fn check(cluster: &Cluster) -> Result<()> {
    let serdes = serdes()?;
    let mut assigned = vec![0u8; REQUESTS as usize];
    let mut outcome = Ok(());
    cluster.read_topic(WORKFLOW_TOPIC, |message| {
        let value = message.payload().map(Bytes::copy_from_slice);
        let deserializer = serdes.workflow.deserializer();
        match deserializer.deserialize(WORKFLOW_TOPIC, &Headers::default(), value.as_ref()) {
            Ok(WorkflowEvent::ManagerAssigned(event)) => {
                let index = usize::try_from(event.request_id - 1).unwrap_or(usize::MAX);
                match assigned.get_mut(index) {
                    Some(count) => *count = count.saturating_add(1),
                    None => outcome = Err(anyhow::anyhow!("found request {}", event.request_id)),
                }
            }
            Ok(_) => {}
            Err(error) => outcome = Err(error.into()),
        }
    })?;
    outcome?;
    match assigned.iter().position(|count| *count != 1) {
        None => Ok(()),
        Some(index) => {
            bail!("request {} was assigned {} times, wanted once", index + 1, assigned[index])
        }
    }
}
