//! The benchmark's input: 2,000,000 requests, 1,000,000 assignments, 145,000 verifications, always the same.
//!
//! The peer's page fixes the order in which random numbers are drawn, every field's content and the record order;
//! a test below runs both workloads in memory and compares the outcome with the peer's checksums.

use crate::avro::Writer;
use crate::events::id;
use crate::hash::partition_of;
use crate::random::SplittableRandom;

/// Requests of the full data set.
pub(crate) const REQUESTS: u32 = 2_000_000;
/// Assignments of the full data set.
pub(crate) const ASSIGNMENTS: u32 = 1_000_000;

const SEED: u64 = 20_240_607;
/// 2025-01-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_735_689_600_000;
/// 2,000,000 requests span one hour.
const STEP_MS: f64 = 1.8;
const REGIONS: usize = 60;
const CONTRACTORS: u32 = 100_000;
const STATUS_EVENTS: u32 = 150_000;
const WORDS: [&str; 30] = [
    "boiler", "pump", "leak", "valve", "door", "window", "roof", "wiring", "socket", "heater",
    "filter", "drain", "pipe", "lamp", "motor", "fan", "cable", "switch", "panel", "lock",
    "sensor", "meter", "tank", "frame", "hinge", "urgent", "repair", "replace", "inspect",
    "adjust",
];

/// The three input topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// Key: region in UTF-8.
    Requests,
    /// Key: request id, 8 bytes big endian.
    Workflow,
    /// Key: contractor id, 8 bytes big endian.
    Security,
}

impl Topic {
    pub(crate) const ALL: [Self; 3] = [Self::Requests, Self::Workflow, Self::Security];

    pub(crate) fn name(self, prefix: &str) -> String {
        let name = match self {
            Self::Requests => "request-events",
            Self::Workflow => "workflow-events",
            Self::Security => "security-events",
        };
        format!("{prefix}{name}")
    }

    pub(crate) fn partitions(self) -> i32 {
        match self {
            Self::Requests => 6,
            Self::Workflow | Self::Security => 3,
        }
    }
}

/// One record of the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputRecord<'a> {
    pub(crate) topic: Topic,
    pub(crate) partition: i32,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Hands the input to `sink` in order, until its first error.
pub(crate) fn generate<E>(
    requests: u32,
    assignments: u32,
    mut sink: impl FnMut(InputRecord<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut generator = Generator { random: SplittableRandom::new(SEED), value: Vec::new() };
    let mut emit = |topic: Topic, timestamp_ms, key: &[u8], value: &[u8]| {
        let partition = partition_of(key, topic.partitions());
        sink(InputRecord { topic, partition, timestamp_ms, key, value })
    };
    // All verifications are older than all assignments, so the table is complete before the first join.
    for index in 0..STATUS_EVENTS {
        if let Some((timestamp_ms, contractor)) = generator.verification(index) {
            emit(Topic::Security, timestamp_ms, &contractor.to_be_bytes(), &generator.value)?;
        }
    }
    let regions = regions();
    for index in 0..requests {
        let (timestamp_ms, region) = generator.request(index, &regions);
        emit(Topic::Requests, timestamp_ms, region.as_bytes(), &generator.value)?;
    }
    for index in 0..assignments {
        let timestamp_ms = generator.assignment(index);
        let key = (i64::from(index) + 1).to_be_bytes();
        emit(Topic::Workflow, timestamp_ms, &key, &generator.value)?;
    }
    Ok(())
}

/// 60 names, ten for each of six partitions.
pub(crate) fn regions() -> Vec<String> {
    let partitions = Topic::Requests.partitions();
    let mut in_partition = vec![0; partitions as usize];
    let mut regions = Vec::with_capacity(REGIONS);
    for number in 0.. {
        if regions.len() == REGIONS {
            break;
        }
        let name = format!("region-{number:03}");
        let taken = &mut in_partition[partition_of(name.as_bytes(), partitions) as usize];
        if *taken < REGIONS / partitions as usize {
            *taken += 1;
            regions.push(name);
        }
    }
    regions
}

/// Draws events; the last one's bytes are in `value`.
///
/// The order of the draws is the order of Java's argument evaluation, hence the local variables.
struct Generator {
    random: SplittableRandom,
    value: Vec<u8>,
}

impl Generator {
    fn words(&mut self, count: usize) -> String {
        let drawn: Vec<_> = (0..count)
            .map(|_| WORDS[self.random.next_below(WORDS.len() as u32) as usize])
            .collect();
        drawn.join(" ")
    }

    /// `None` for the 5 % of the contractors that start out unknown.
    fn verification(&mut self, index: u32) -> Option<(i64, i64)> {
        let contractor = match index {
            known if known < CONTRACTORS => known,
            _ => self.random.next_below(CONTRACTORS),
        };
        if index < CONTRACTORS && index % 20 == 19 {
            return None;
        }
        let random = &mut self.random;
        let status = match random.next_below(100) {
            0..85 => "verified",
            85..95 => "suspended",
            _ => "rejected",
        };
        let timestamp_ms = START_MS - 3_600_000 + i64::from(index) * 10;
        self.value.clear();
        Writer::new(&mut self.value, id::CONTRACTOR_VERIFIED)
            .text(random.next_uuid())
            .text("security.contractor_verified")
            .long(timestamp_ms)
            .text("security-service")
            .text("1.0")
            .text(random.next_uuid())
            .long(contractor.into())
            .text(status)
            .long((1 + random.next_below(5)).into())
            .text(format!("officer-{}", random.next_below(50)));
        Some((timestamp_ms, contractor.into()))
    }

    fn request<'r>(&mut self, index: u32, regions: &'r [String]) -> (i64, &'r str) {
        let timestamp_ms = START_MS + (f64::from(index) * STEP_MS) as i64;
        let region = &regions[self.random.next_below(REGIONS as u32) as usize];
        let urgency = match self.random.next_below(100) {
            0..40 => "low",
            40..75 => "medium",
            75..93 => "high",
            _ => "critical",
        };
        let event_id = self.random.next_uuid();
        let correlation_id = self.random.next_uuid();
        let customer_id = 1 + self.random.next_below(500_000);
        let title = self.words(3);
        let description = self.words(10);
        let city = format!("city-{}", self.random.next_below(1000));
        let street = self.words(1);
        let house = 1 + self.random.next_below(200);
        let flat = 1 + self.random.next_below(300);
        self.value.clear();
        Writer::new(&mut self.value, id::REQUEST_CREATED)
            .text(event_id)
            .text("request.created")
            .long(timestamp_ms)
            .text("request-service")
            .text("1.0")
            .text(correlation_id)
            .long(i64::from(index) + 1)
            .long(customer_id.into())
            .text(title)
            .text(description)
            .text(urgency)
            .text(region)
            .text(city)
            .text(format!("{street} street {house}, apt {flat}"));
        (timestamp_ms, region)
    }

    fn assignment(&mut self, index: u32) -> i64 {
        let timestamp_ms = START_MS + (f64::from(index) * STEP_MS) as i64 + 30_000;
        let random = &mut self.random;
        self.value.clear();
        Writer::new(&mut self.value, id::CONTRACTOR_ASSIGNED)
            .text(random.next_uuid())
            .text("workflow.contractor_assigned")
            .long(timestamp_ms)
            .text("workflow-service")
            .text("1.0")
            .text(random.next_uuid())
            .long(i64::from(index) + 1)
            .long(random.next_below(CONTRACTORS).into())
            .long(random.next_below(600).into());
        timestamp_ms
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use bytes::Bytes;

    use super::*;
    use crate::events::{Assignment, ManagerLoads, Request, Verification};
    use crate::hash::Checksum;
    use crate::rules;
    use crate::verify::Expected;

    /// What the workloads must put out, computed without an engine.
    #[derive(Debug, Default)]
    pub(crate) struct Reference {
        pub(crate) w1: Checksum,
        pub(crate) w2: Checksum,
        input: Checksum,
        loads: BTreeMap<Bytes, ManagerLoads>,
        statuses: BTreeMap<i64, Verification>,
    }

    impl Reference {
        pub(crate) fn compute(requests: u32, assignments: u32) -> Self {
            let mut reference = Self::default();
            let done = generate(requests, assignments, |record| {
                reference.add(&record);
                Ok::<_, Infallible>(())
            });
            assert_eq!(done, Ok(()));
            reference
        }

        fn add(&mut self, record: &InputRecord<'_>) {
            let value = Bytes::copy_from_slice(record.value);
            let mut out = Vec::new();
            match record.topic {
                Topic::Security => {
                    let contractor = i64::from_be_bytes(record.key.try_into().unwrap());
                    self.statuses.insert(contractor, Verification::decode(&value).unwrap());
                }
                Topic::Requests => {
                    self.input.add(record.key, record.value);
                    let request = Request::decode(&value).unwrap().unwrap();
                    let state = self
                        .loads
                        .entry(Bytes::copy_from_slice(record.key))
                        .or_insert_with(|| rules::no_loads(&request.region));
                    let assigned = rules::assign_manager(request, state).unwrap();
                    assigned.encode(&mut out);
                    self.w1.add(&assigned.request_id.to_be_bytes(), &out);
                }
                Topic::Workflow => {
                    let assignment = Assignment::decode(&value).unwrap().unwrap();
                    let status = self.statuses.get(&assignment.contractor_id);
                    let decision = rules::decide_access(&assignment, status);
                    decision.encode(&mut out);
                    self.w2.add(&decision.contractor_id.to_be_bytes(), &out);
                }
            }
        }
    }

    /// Goal: data, codecs and rules are the peer's. Method: compute W1 and W2 in memory over the full data set and compare
    /// with the checksums that the JVM program's output topics have.
    #[test]
    fn the_full_data_set_gives_the_peers_checksums() {
        let reference = Reference::compute(REQUESTS, ASSIGNMENTS);
        assert_eq!(reference.w1, Expected::W1.checksum());
        assert_eq!(reference.w2, Expected::W2.checksum());
        assert_eq!(reference.input, Expected::Passthrough.checksum());
        for state in reference.loads.values() {
            let mut framed = Vec::new();
            state.encode(&mut framed);
            assert_eq!(ManagerLoads::decode(&Bytes::from(framed)).unwrap(), *state);
        }
    }

    #[test]
    fn regions_are_spread_evenly() {
        let mut in_partition = [0; 6];
        for region in regions() {
            in_partition[partition_of(region.as_bytes(), 6) as usize] += 1;
        }
        assert_eq!(in_partition, [10; 6]);
    }
}
