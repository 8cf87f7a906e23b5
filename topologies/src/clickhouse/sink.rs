//! The sink: audit events as rows of a table. Batches, back-off and offsets are the engine's ([`kstreams::connect`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kstreams::connect::{ExternalSink, SinkEvent, SinkHandle, SinkOptions, SinkRow, SinkWorker};
use kstreams::kafka::KafkaClients;
use kstreams::serdes::Serde;
use kstreams::telemetry::Placed;
use kstreams::{Error, ErrorKind, RawRecord, Result, State, TopicPartition};
use serde_json::{Value, json};

use super::client::ClickHouse;
use super::rows::{self, Place};
use super::settings::Settings;
use super::{NAME, TABLE, TOPIC, metrics};
use crate::events::AuditEvent;
use crate::health;
use crate::http::Observed;

/// What the sink works with.
pub struct Sink {
    /// Makes clients of its consumer group.
    pub clients: Arc<dyn KafkaClients>,
    /// Reads the events.
    pub serde: Serde<AuditEvent>,
    /// How it works.
    pub settings: Settings,
    /// Bound of a single request to the cluster.
    pub request_timeout: Duration,
}

impl Sink {
    /// Runs until it is told to stop or fails for good.
    ///
    /// # Errors
    /// What the group can never get over; ClickHouse's errors are waited out.
    pub fn run(self, handle: &SinkHandle) -> Result<()> {
        let options = SinkOptions {
            name: NAME.to_owned(),
            batch_rows: self.settings.batch_rows,
            batch_bytes_max: self.settings.batch_max_bytes,
            batch_interval: Duration::from_millis(self.settings.batch_interval_ms),
            retry_backoff_max: Duration::from_millis(self.settings.retry_backoff_max_ms),
            request_timeout: self.request_timeout,
        };
        let table = Table {
            server: ClickHouse::new(&self.settings),
            serde: self.serde,
            buffered: metrics::buffered(),
            lags: BTreeMap::new(),
        };
        SinkWorker::new(self.clients, &[TOPIC], table, options, handle)?.run()
    }
}

impl Observed for SinkHandle {
    fn name(&self) -> &str {
        NAME
    }

    fn state(&self) -> State {
        SinkHandle::state(self)
    }

    fn failure(&self) -> Option<String> {
        SinkHandle::failure(self)
    }

    fn describe(&self) -> String {
        format!("Sink: {NAME} (topics: [{TOPIC}]) --> table {TABLE}\n")
    }

    fn tasks(&self) -> Value {
        let state = SinkHandle::state(self).to_string().to_lowercase();
        let describe = |(partition, position): (TopicPartition, i64)| {
            let task = format!("{NAME}-{}", partition.partition);
            json!({ "task": task, "state": state, "position": position })
        };
        self.positions().into_iter().map(describe).collect()
    }
}

/// The table of audit events.
struct Table {
    server: ClickHouse,
    serde: Serde<AuditEvent>,
    buffered: Placed,
    /// By partition; gone with it.
    lags: BTreeMap<i32, Placed>,
}

impl ExternalSink for Table {
    fn convert(&mut self, partition: &TopicPartition, record: &RawRecord) -> Result<Vec<u8>> {
        let place = Place { topic: TOPIC, partition: partition.partition, offset: record.offset };
        let mut json = Vec::new();
        let read = self.serde.deserializer();
        let why = match read.deserialize(TOPIC, &record.headers, record.value.as_ref()) {
            Ok(event) => match rows::event(place, &event, &mut json) {
                Some(()) => return Ok(json),
                None => "an event type that this version does not know".to_owned(),
            },
            Err(error) if error.kind() == ErrorKind::BadRecord => error.to_string(),
            Err(error) => return Err(error),
        };
        metrics::unreadable();
        tracing::warn!(
            topic = TOPIC,
            partition = partition.partition,
            offset = record.offset,
            why,
            "record is no audit event; it becomes a row as it is"
        );
        rows::unreadable(place, record, &why, &mut json);
        Ok(json)
    }

    fn find_present(
        &mut self,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<BTreeSet<i64>> {
        let (database, partition) = (self.server.database(), partition.partition);
        let (first, last) = offsets.into_inner();
        let answer = self.server.run(&format!(
            "SELECT DISTINCT kafka_offset FROM {database}.{TABLE} WHERE kafka_topic = '{TOPIC}' \
             AND kafka_partition = {partition} AND kafka_offset >= {first} AND kafka_offset <= {last} FORMAT TSV"
        ))?;
        let offset = |line: &str| {
            line.parse().map_err(|_| {
                Error::retriable(format!("ClickHouse answered \"{line}\", wanted an offset"))
            })
        };
        answer.lines().map(offset).collect()
    }

    fn write(&mut self, rows: &[SinkRow]) -> Result<()> {
        self.server.insert(TABLE, rows.iter().flat_map(|row| row.bytes.iter().copied()).collect())
    }

    fn observe(&mut self, event: SinkEvent<'_>) {
        match event {
            SinkEvent::Written(rows) => metrics::inserted(rows),
            SinkEvent::Present(rows) => metrics::present(rows),
            SinkEvent::Buffered(rows) => self.buffered.set_count(rows as u64),
            SinkEvent::Lag(partition, records) => {
                let partition = partition.partition;
                let lag = self.lags.entry(partition).or_insert_with(|| metrics::lag(partition));
                lag.set_count(u64::try_from(records).unwrap_or(0));
            }
            SinkEvent::Unassigned => self.lags.clear(),
            SinkEvent::Failed(why) => {
                metrics::failed();
                health::set(NAME, "", Some(why));
            }
            SinkEvent::Recovered => health::set(NAME, "", None),
        }
    }
}
