//! Encoding and decoding of one framed event: `serde_avro_fast` (what the engine uses), the same read as a projection, and
//! `apache-avro` for comparison. Run: `cargo bench --bench serdes`.
//!
//! The event is `request.created` of the contracts, 316 bytes, with Cyrillic text.

use std::hint::black_box;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kstreams::serdes::{AvroRecord, AvroSerde, MemoryRegistry, SchemaCache, Serde, wire};
use kstreams::{Headers, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const SCHEMA: &str = include_str!("../avro/request-events/request.created.avsc");
const TOPIC: &str = "request-events";

// Names and symbols are those of the schema, because apache-avro compares them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "RequestCreated")]
struct Created {
    event_id: Uuid,
    event_type: String,
    timestamp: Timestamp,
    source: String,
    version: i32,
    correlation_id: Option<Uuid>,
    causation_id: Option<Uuid>,
    request_id: i64,
    customer_id: i64,
    title: String,
    description: String,
    urgency: Urgency,
    region: String,
    city: String,
    address: String,
    category: Option<String>,
    revision: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Urgency {
    #[serde(rename = "UNKNOWN")]
    Unknown,
    Low,
    Medium,
    High,
    Critical,
}

/// What a join needs of it.
#[derive(Debug, Serialize, Deserialize)]
struct Projection {
    request_id: i64,
    region: String,
    urgency: Urgency,
}

impl AvroRecord for Created {
    const SCHEMA: &'static str = SCHEMA;
}

impl AvroRecord for Projection {
    const SCHEMA: &'static str = SCHEMA;
}

fn event() -> Created {
    Created {
        event_id: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        event_type: "request.created".to_owned(),
        timestamp: Timestamp::from_millis(1_772_366_400_123),
        source: "customer-portal".to_owned(),
        version: 1,
        correlation_id: Some(Uuid::from_u128(7)),
        causation_id: None,
        request_id: 123_456,
        customer_id: 7_890,
        title: "Течёт кран на кухне".to_owned(),
        description: "Капает уже второй день, нужен сантехник с инструментом.".to_owned(),
        urgency: Urgency::High,
        region: "moscow".to_owned(),
        city: "Москва".to_owned(),
        address: "ул. Ленина, 1".to_owned(),
        category: Some("repair".to_owned()),
        revision: 1,
    }
}

fn read<T>(serde: &Serde<T>, headers: &Headers, frame: &Bytes) -> T {
    serde.deserializer().deserialize(TOPIC, headers, Some(frame)).expect("the bench's own bytes")
}

fn benches(c: &mut Criterion) {
    let registry = MemoryRegistry::with_schemas([(TOPIC, SCHEMA)]).expect("a schema");
    let cache = SchemaCache::new(Arc::new(registry), Arc::new(SystemClock::default()));
    let whole = AvroSerde::<Created>::record(&cache, TOPIC).expect("a schema").into_serde();
    let projection =
        AvroSerde::<Projection>::reading(&cache, TOPIC).expect("a schema").into_serde();
    let (headers, event) = (Headers::default(), event());

    let mut out = Vec::new();
    let _ = whole.serializer().serialize(TOPIC, &event, &mut out).expect("a good event");
    let frame = Bytes::from(out.clone());
    assert_eq!(read(&whole, &headers, &frame), event);

    let schema = Schema::parse_str(SCHEMA).expect("a schema");
    let reader =
        GenericDatumReader::builder(&schema).human_readable(true).build().expect("a schema");
    let writer =
        GenericDatumWriter::builder(&schema).human_readable(true).build().expect("a schema");

    let mut decode = c.benchmark_group("decode");
    decode.throughput(Throughput::Bytes(frame.len() as u64));
    decode.bench_function("serde_avro_fast", |b| {
        b.iter(|| read(&whole, &headers, black_box(&frame)));
    });
    decode.bench_function("serde_avro_fast, 3 of 17 fields", |b| {
        b.iter(|| read(&projection, &headers, black_box(&frame)));
    });
    decode.bench_function("apache-avro, no reader schema", |b| {
        b.iter(|| {
            let datum = &mut &black_box(&frame)[wire::HEADER_BYTES..];
            reader.read_deser::<Created>(datum).expect("good")
        });
    });
    decode.bench_function("apache-avro, value tree", |b| {
        b.iter(|| reader.read_value(&mut &black_box(&frame)[wire::HEADER_BYTES..]).expect("good"));
    });
    decode.finish();

    let mut encode = c.benchmark_group("encode");
    encode.throughput(Throughput::Bytes(frame.len() as u64));
    encode.bench_function("serde_avro_fast", |b| {
        b.iter(|| {
            out.clear();
            whole.serializer().serialize(TOPIC, black_box(&event), &mut out).expect("good")
        });
    });
    encode.bench_function("apache-avro", |b| {
        b.iter(|| {
            out.clear();
            writer.write_ser(&mut out, black_box(&event)).expect("good")
        });
    });
    let value = reader.read_value(&mut &frame[wire::HEADER_BYTES..]).expect("good");
    encode.bench_function("apache-avro, from a finished tree", |b| {
        b.iter(|| {
            out.clear();
            writer.write_value_ref(&mut out, black_box(&value)).expect("good")
        });
    });
    encode.finish();
}

criterion_group!(serdes, benches);
criterion_main!(serdes);
