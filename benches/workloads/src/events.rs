//! The events of the benchmark: written whole, read in projection.
//!
//! Each type holds the fields that a workload uses; constants of an event (source, version, type) are written by
//! its encoder. Layouts: the `.avsc` files of the peer, in the order below. Hot path.

use bytes::Bytes;
use kstreams::Result;

use crate::avro::{Reader, Text, Writer, schema_id};

/// Managers of one region.
pub(crate) const MANAGERS: usize = 10;

/// The schema ids, fixed by the specification.
pub(crate) mod id {
    pub(crate) const REQUEST_CREATED: u32 = 1;
    pub(crate) const MANAGER_ASSIGNED: u32 = 2;
    pub(crate) const CONTRACTOR_ASSIGNED: u32 = 3;
    pub(crate) const CONTRACTOR_VERIFIED: u32 = 4;
    pub(crate) const ACCESS_DECISION: u32 = 5;
    pub(crate) const MANAGER_LOADS: u32 = 7;
}

/// What W1 reads of `RequestCreated`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) timestamp_ms: i64,
    pub(crate) correlation_id: Text,
    pub(crate) request_id: i64,
    /// 1 critical, 2 high, 3 medium, 4 anything else.
    pub(crate) priority: i32,
    pub(crate) region: Text,
}

impl Request {
    /// `None` where the value is another event.
    pub(crate) fn decode(framed: &Bytes) -> Result<Option<Self>> {
        if schema_id(framed)? != id::REQUEST_CREATED {
            return Ok(None);
        }
        let mut reader = Reader::new(framed);
        reader.skip_texts(2)?; // event_id, event_type
        let timestamp_ms = reader.long()?;
        reader.skip_texts(2)?; // source, version
        let correlation_id = reader.text()?;
        let request_id = reader.long()?;
        reader.long()?; // customer_id
        reader.skip_texts(2)?; // title, description
        let priority = match reader.word()? {
            b"critical" => 1,
            b"high" => 2,
            b"medium" => 3,
            _ => 4,
        };
        let region = reader.text()?;
        reader.skip_texts(2)?; // city, address
        reader.finish()?;
        Ok(Some(Self { timestamp_ms, correlation_id, request_id, priority, region }))
    }
}

/// The event W1 emits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManagerAssigned {
    pub(crate) timestamp_ms: i64,
    pub(crate) correlation_id: Text,
    pub(crate) request_id: i64,
    pub(crate) manager_id: i64,
    pub(crate) region: Text,
    pub(crate) priority: i32,
}

impl ManagerAssigned {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        Writer::new(out, id::MANAGER_ASSIGNED)
            .numbered("ma-", self.request_id)
            .text("workflow.manager_assigned")
            .long(self.timestamp_ms)
            .text("workflow-service")
            .text("1.0")
            .text(&self.correlation_id)
            .long(self.request_id)
            .long(self.manager_id)
            .text(&self.region)
            .long(self.priority.into());
    }
}

/// W1's state: the load of each manager of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManagerLoads {
    pub(crate) region: Text,
    pub(crate) loads: [i64; MANAGERS],
}

impl ManagerLoads {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out, id::MANAGER_LOADS);
        writer.text(&self.region).long(MANAGERS as i64);
        for load in self.loads {
            writer.long(load);
        }
        writer.long(0); // the array's end
    }

    pub(crate) fn decode(framed: &Bytes) -> Result<Self> {
        expect_id(framed, id::MANAGER_LOADS)?;
        let mut reader = Reader::new(framed);
        let region = reader.text()?;
        let count = reader.long()?;
        if count != MANAGERS as i64 {
            return Err(kstreams::Error::bad_record(format!(
                "found {count} loads in the array's first block, wanted {MANAGERS}"
            )));
        }
        let mut loads = [0; MANAGERS];
        for load in &mut loads {
            *load = reader.long()?;
        }
        reader.long()?; // the array's end
        reader.finish()?;
        Ok(Self { region, loads })
    }
}

/// What W2 reads of `ContractorAssigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The whole event as it came: the repartition topic carries it unchanged.
    pub(crate) framed: Bytes,
    pub(crate) timestamp_ms: i64,
    pub(crate) correlation_id: Text,
    pub(crate) request_id: i64,
    pub(crate) contractor_id: i64,
}

impl Assignment {
    /// `None` where the value is another event.
    pub(crate) fn decode(framed: &Bytes) -> Result<Option<Self>> {
        if schema_id(framed)? != id::CONTRACTOR_ASSIGNED {
            return Ok(None);
        }
        let mut reader = Reader::new(framed);
        reader.skip_texts(2)?; // event_id, event_type
        let timestamp_ms = reader.long()?;
        reader.skip_texts(2)?; // source, version
        let correlation_id = reader.text()?;
        let request_id = reader.long()?;
        let contractor_id = reader.long()?;
        reader.long()?; // manager_id
        reader.finish()?;
        let framed = framed.clone();
        Ok(Some(Self { framed, timestamp_ms, correlation_id, request_id, contractor_id }))
    }
}

/// What W2 reads of `ContractorVerified`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verification {
    /// The whole event as it came: the table's store keeps it unchanged.
    pub(crate) framed: Bytes,
    pub(crate) status: Text,
}

impl Verification {
    /// # Errors
    /// `BadRecord` for another event: the table holds verifications only.
    pub(crate) fn decode(framed: &Bytes) -> Result<Self> {
        expect_id(framed, id::CONTRACTOR_VERIFIED)?;
        let mut reader = Reader::new(framed);
        reader.skip_texts(2)?; // event_id, event_type
        reader.long()?; // timestamp
        reader.skip_texts(3)?; // source, version, correlation_id
        reader.long()?; // contractor_id
        let status = reader.text()?;
        reader.long()?; // level
        reader.skip_texts(1)?; // verified_by
        reader.finish()?;
        Ok(Self { framed: framed.clone(), status })
    }
}

/// The event W2 emits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessDecision {
    pub(crate) granted: bool,
    pub(crate) timestamp_ms: i64,
    pub(crate) correlation_id: Text,
    pub(crate) request_id: i64,
    pub(crate) contractor_id: i64,
    pub(crate) reason: Text,
}

impl AccessDecision {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let event_type =
            if self.granted { "security.access_granted" } else { "security.access_revoked" };
        Writer::new(out, id::ACCESS_DECISION)
            .numbered("ac-", self.request_id)
            .text(event_type)
            .long(self.timestamp_ms)
            .text("security-service")
            .text("1.0")
            .text(&self.correlation_id)
            .long(self.request_id)
            .long(self.contractor_id)
            .text(&self.reason);
    }
}

fn expect_id(framed: &[u8], wanted: u32) -> Result<()> {
    match schema_id(framed)? {
        found if found == wanted => Ok(()),
        found => {
            Err(kstreams::Error::bad_record(format!("found schema id {found}, wanted {wanted}")))
        }
    }
}
