-- One row for each record of the topic audit-events. The engine merges rows of one record into one, should two writers
-- have inserted it in the same moment; read through the views, or with FINAL, to see one always.
-- Runs on servers from 18.16 on: no types and clauses that came later.
CREATE TABLE IF NOT EXISTS {database}.audit_events
(
    kafka_topic String,
    kafka_partition Int32,
    kafka_offset Int64,
    -- Of timestamp_ms, UTC.
    day Date,
    timestamp_ms Int64,
    event_id String,
    -- audit.user_action, audit.system_event, audit.error_occurred, audit.performance_metric; unreadable for a record that is none.
    event_type String,
    source String,
    version Int32,
    -- Empty where there is none.
    correlation_id String,
    causation_id String,
    entity String,
    actor String,
    -- The type of the event that is reported.
    action String,
    -- Where that event stands; -1 for figures of a whole topic.
    topic String,
    partition Int32,
    offset Int64,
    request_id Nullable(Int64),
    contractor_id Nullable(Int64),
    details Nested(key String, value String),
    -- Of performance metrics only.
    metric_name String,
    metric_value Float64,
    metric_unit String,
    window_start_ms Int64,
    window_end_ms Int64
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(day)
ORDER BY (kafka_topic, kafka_partition, kafka_offset);
