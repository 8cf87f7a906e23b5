//! Builds a topology out of a case's list of operations, through the DSL only.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::{
    CogroupedKStream, GlobalKTable, Grouped, KGroupedStream, KGroupedTable, KStream, KTable,
    Materialized, Named, Produced, Repartitioned, SessionWindowedCogroupedKStream,
    SessionWindowedKStream, StreamsBuilder, TimeWindowedCogroupedKStream, TimeWindowedKStream,
    Topology, TopologyOptimization, Windowed,
};
use serde_json::Value as Json;

use crate::expression::Expression;
use crate::key::CaseKey;
use crate::streams::{flat_map, flat_map_values};
use crate::value::Value;

/// Why a case cannot be built.
#[derive(Debug, Clone, PartialEq)]
pub enum BuildError {
    /// The engine has no such operation yet.
    Unsupported(String),
    /// The case or the topology is wrong.
    Invalid(String),
}

impl From<kstreams::Error> for BuildError {
    fn from(error: kstreams::Error) -> Self {
        Self::Invalid(error.to_string())
    }
}

type Result<T> = std::result::Result<T, BuildError>;

/// What is in a store that the case names, for reading it at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreContent {
    /// Values with timestamps.
    Timestamped,
    /// Values with timestamps, under keys with windows.
    TimestampedByWindow,
    /// Values alone.
    Plain,
    /// Values with timestamps, in windows.
    Windows,
    /// Values in sessions.
    Sessions,
}

/// A built case.
pub struct Built {
    /// The topology.
    pub topology: Topology,
    /// Topics that sinks of the case write to.
    pub sinks: Vec<String>,
    /// Stores that the case names.
    pub stores: BTreeMap<String, StoreContent>,
    /// `statestore.cache.max.bytes`; 0 where the case does not say.
    pub record_cache_bytes_max: usize,
}

/// What an operation results in.
#[derive(Clone)]
pub(crate) enum Node {
    Stream(KStream<Value, Value>),
    Table(Rc<KTable<Value, Value>>),
    Global(Rc<GlobalKTable<Value, Value>>),
    Grouped(Rc<KGroupedStream<Value, Value>>),
    Cogrouped(Rc<CogroupedKStream<Value, Value>>),
    TimeCogrouped(Rc<TimeWindowedCogroupedKStream<Value, Value>>),
    SessionCogrouped(Rc<SessionWindowedCogroupedKStream<Value, Value>>),
    GroupedTable(Rc<KGroupedTable<Value, Value>>),
    TimeWindowed(Rc<TimeWindowedKStream<Value, Value>>),
    SessionWindowed(Rc<SessionWindowedKStream<Value, Value>>),
    WindowedTable(Rc<KTable<Windowed<Value>, Value>>),
}

/// Builds the topology of `case`.
pub fn build(case: &Json) -> Result<Built> {
    let mut optimization = TopologyOptimization::NONE;
    let mut record_cache_bytes_max = 0;
    for (key, value) in case["config"].as_object().into_iter().flatten() {
        match key.as_str() {
            "topology.optimization" => {
                optimization = value.as_str().unwrap_or_default().parse()?;
            }
            "statestore.cache.max.bytes" => {
                let bytes = value.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                record_cache_bytes_max =
                    bytes.ok_or_else(|| invalid(format!("found config {key}={value}")))?;
            }
            _ => {}
        }
    }
    let mut cases = CaseBuilder {
        builder: StreamsBuilder::new(),
        nodes: BTreeMap::new(),
        sinks: Vec::new(),
        stores: BTreeMap::new(),
    };
    let operations = case["ops"].as_array().ok_or_else(|| invalid("the case has no \"ops\""))?;
    for operation in operations {
        let operation = Operation(operation);
        if let Some(node) = cases.operation(operation)? {
            cases.nodes.insert(operation.text("id")?.to_owned(), node);
        }
    }
    let CaseBuilder { builder, sinks, stores, .. } = cases;
    let topology = builder.build_with(optimization)?;
    Ok(Built { topology, sinks, stores, record_cache_bytes_max })
}

pub(crate) fn unsupported(what: impl Into<String>) -> BuildError {
    BuildError::Unsupported(what.into())
}

pub(crate) fn invalid(what: impl Into<String>) -> BuildError {
    BuildError::Invalid(what.into())
}

/// One operation of a case.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a>(pub(crate) &'a Json);

impl<'a> Operation<'a> {
    pub(crate) fn text(self, field: &str) -> Result<&'a str> {
        let wrong = || invalid(format!("operation {} has no text \"{field}\"", self.0));
        self.0[field].as_str().ok_or_else(wrong)
    }

    pub(crate) fn name(self) -> Option<&'a str> {
        self.0["name"].as_str()
    }

    pub(crate) fn named(self) -> Named {
        self.name().map(Named::new).unwrap_or_default()
    }

    /// The name, where Java has an overload with a name and a store; without a store, its overloads of this operation take no name.
    pub(crate) fn named_with_store(self) -> Named {
        if self.has("store") { self.named() } else { Named::default() }
    }

    /// The name, where Java has no overload with a name and a store.
    pub(crate) fn named_without_store(self) -> Named {
        if self.has("store") { Named::default() } else { self.named() }
    }

    pub(crate) fn expression(self, field: &str) -> Result<Arc<Expression>> {
        Expression::parse(&self.0[field]).map(Arc::new)
    }

    pub(crate) fn has(self, field: &str) -> bool {
        !self.0[field].is_null()
    }
}

pub(crate) struct CaseBuilder {
    pub(crate) builder: StreamsBuilder,
    pub(crate) nodes: BTreeMap<String, Node>,
    sinks: Vec<String>,
    pub(crate) stores: BTreeMap<String, StoreContent>,
}

/// A function of key and value.
pub(crate) fn of_record<K: CaseKey>(
    expression: &Arc<Expression>,
) -> impl Fn(&K, &Value) -> Value + use<K> {
    let expression = expression.clone();
    move |key, value| expression.evaluate(&[("$k", &key.as_value()), ("$v", value)])
}

impl CaseBuilder {
    pub(crate) fn node(&self, id: &str) -> Result<Node> {
        let found = self.nodes.get(id).cloned();
        found.ok_or_else(|| invalid(format!("there is no operation with the id \"{id}\"")))
    }

    pub(crate) fn stream(&self, id: &str) -> Result<KStream<Value, Value>> {
        match self.node(id)? {
            Node::Stream(stream) => Ok(stream),
            _ => Err(invalid(format!("\"{id}\" is not a stream"))),
        }
    }

    fn operation(&mut self, operation: Operation<'_>) -> Result<Option<Node>> {
        let name = operation.text("op")?;
        let node = match name {
            "stream" => {
                let topics: Vec<&str> = match operation.0["topics"].as_array() {
                    Some(topics) => topics.iter().filter_map(Json::as_str).collect(),
                    None => vec![operation.text("topic")?],
                };
                Node::Stream(self.builder.stream_with(&topics, consumed(operation)))
            }
            "table" => {
                let materialized = self.materialized(operation)?;
                let (topic, consumed) = (operation.text("topic")?, consumed(operation));
                Node::Table(Rc::new(self.builder.table_with(topic, consumed, materialized)))
            }
            "global_table" => {
                let store = Operation(&operation.0["store"]);
                if operation.has("store") && store.name().is_none() {
                    // The engine takes it.
                    return Err(invalid("Kafka Streams wants the store of a global table named"));
                }
                let materialized = self.materialized(operation)?;
                let (topic, consumed) = (operation.text("topic")?, consumed(operation));
                Node::Global(Rc::new(self.builder.global_table_with(topic, consumed, materialized)))
            }
            "to" => {
                self.sinks.push(operation.text("topic")?.to_owned());
                write(operation, &self.stream(operation.text("in")?)?)?;
                return Ok(None);
            }
            "branch" => {
                self.branch(operation)?;
                return Ok(None);
            }
            "cogroup" => Node::Cogrouped(Rc::new(self.cogroup(operation)?)),
            _ => match self.node(operation.text("in")?)? {
                Node::Stream(stream) => self.of_stream(name, operation, &stream)?,
                Node::Grouped(grouped) => self.of_grouped(name, operation, &grouped)?,
                Node::Cogrouped(grouped) => self.of_cogrouped(name, operation, &grouped)?,
                Node::TimeCogrouped(grouped) => self.of_time_cogrouped(operation, &grouped)?,
                Node::SessionCogrouped(grouped) => {
                    self.of_session_cogrouped(operation, &grouped)?
                }
                Node::Table(table) => self.of_table(name, operation, &table)?,
                Node::GroupedTable(grouped) => self.of_grouped_table(name, operation, &grouped)?,
                Node::TimeWindowed(windowed) => {
                    self.of_time_windowed(name, operation, &windowed)?
                }
                Node::SessionWindowed(windowed) => {
                    self.of_session_windowed(name, operation, &windowed)?
                }
                Node::WindowedTable(table) => self.of_table(name, operation, &table)?,
                Node::Global(_) => return Err(invalid(format!("{name} of a global table"))),
            },
        };
        Ok(Some(node))
    }

    fn of_stream(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        stream: &KStream<Value, Value>,
    ) -> Result<Node> {
        let named = operation.named();
        let stream = match name {
            "filter" | "filter_not" => {
                let predicate = of_record(&operation.expression("pred")?);
                let predicate = move |key: &Value, value: &Value| predicate(key, value).is_true();
                if name == "filter" {
                    stream.filter_named(predicate, &named)
                } else {
                    stream.filter_not_named(predicate, &named)
                }
            }
            "map" => {
                let key_of = of_record(&operation.expression("key")?);
                let value_of = of_record(&operation.expression("value")?);
                let mapper = move |key, value| (key_of(&key, &value), value_of(&key, &value));
                stream.map_named(mapper, &named)
            }
            "map_values" => {
                let value_of = of_record(&operation.expression("value")?);
                stream.map_values_named(move |key, value| value_of(key, &value), &named)
            }
            "select_key" => {
                let key_of = of_record(&operation.expression("key")?);
                stream.select_key_named(key_of, &named)
            }
            "flat_map" => flat_map(operation, stream)?,
            "flat_map_values" => flat_map_values(operation, stream)?,
            "peek" => stream.peek_named(|_, _| (), &named),
            "merge" => stream.merge_named(&self.stream(operation.text("with")?)?, &named),
            "repartition" => {
                let mut repartitioned = Repartitioned::default();
                if let Some(name) = operation.name() {
                    repartitioned = repartitioned.with_name(name);
                }
                if let Some(partitions) = operation.0["partitions"].as_i64() {
                    let partitions = i32::try_from(partitions)
                        .map_err(|_| invalid(format!("{partitions} partitions")))?;
                    repartitioned = repartitioned.with_number_of_partitions(partitions);
                }
                stream.repartition(repartitioned)
            }
            "process" => self.process(operation, stream)?,
            "join" => self.join_stream(operation, stream)?,
            "to_table" => {
                let materialized = self.materialized(operation)?;
                return Ok(Node::Table(Rc::new(stream.to_table_with(&named, materialized))));
            }
            "group_by_key" => {
                let grouped = stream.group_by_key_with(grouped(operation));
                return Ok(Node::Grouped(Rc::new(grouped)));
            }
            "group_by" => {
                let key_of = of_record(&operation.expression("key")?);
                let grouped = stream.group_by_with(key_of, grouped(operation));
                return Ok(Node::Grouped(Rc::new(grouped)));
            }
            _ => return Err(unsupported(format!("{name} of a stream"))),
        };
        Ok(Node::Stream(stream))
    }

    fn of_grouped(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        grouped: &KGroupedStream<Value, Value>,
    ) -> Result<Node> {
        if name == "window_by" {
            return Self::window_by(operation, grouped);
        }
        let named = operation.named();
        let table = match name {
            // A dynamic value as the count. Without a store the names are those of `count()`, which `aggregate` has too.
            "count" if operation.has("store") => {
                let next = |count: Value| one_more(Some(&count));
                let materialized = self.materialized(operation)?;
                grouped.count_by(|| Value::Integer(0), next, &named, materialized)
            }
            "count" => grouped.aggregate_named(
                || Value::Integer(0),
                |_, _, count| Some(one_more(Some(&count))),
                &named,
                self.materialized(operation)?,
            ),
            "reduce" => {
                let reducer = operation.expression("reducer")?;
                grouped.reduce_named(
                    move |a, b| reducer.evaluate(&[("$a", &a), ("$b", &b)]),
                    &operation.named_with_store(),
                    self.materialized(operation)?,
                )
            }
            "aggregate" => {
                let init = operation.expression("init")?;
                grouped.aggregate_named(
                    move || init.evaluate(&[]),
                    aggregator(operation, "adder")?,
                    &operation.named_with_store(),
                    self.materialized(operation)?,
                )
            }
            _ => return Err(unsupported(format!("{name} of a grouped stream"))),
        };
        Ok(Node::Table(Rc::new(table)))
    }

    /// The store that the operation asks for; a named one is read at the end.
    pub(crate) fn materialized<K: CaseKey>(
        &mut self,
        operation: Operation<'_>,
    ) -> Result<Materialized<K, Value>> {
        let store = Operation(&operation.0["store"]);
        let mut materialized = match store.name() {
            Some(name) if store.0["kind"] == "versioned" => {
                let history = store.0["history_ms"].as_u64();
                let history = history.ok_or_else(|| invalid("a versioned store has history_ms"))?;
                Materialized::versioned(name, Duration::from_millis(history))
                    .with_serdes(K::key_serde(), Value::serde())
            }
            Some(name) => {
                self.stores.insert(name.to_owned(), K::KEPT);
                Materialized::named(name).with_serdes(K::key_serde(), Value::serde())
            }
            None => Materialized::with(K::key_serde(), Value::serde()),
        };
        match store.0["kind"].as_str() {
            None | Some("kv" | "versioned") => {}
            Some("memory") => materialized = materialized.in_memory(),
            Some(other) => return Err(unsupported(format!("{other} store"))),
        }
        if store.0["logging"].as_bool() == Some(false) {
            materialized = materialized.with_logging_disabled();
        }
        materialized = match store.0["caching"].as_bool() {
            Some(true) => materialized.with_caching_enabled(),
            Some(false) => materialized.with_caching_disabled(),
            None => materialized,
        };
        Ok(materialized)
    }
}

/// Writes a stream to the operation's topic.
fn write(operation: Operation<'_>, stream: &KStream<Value, Value>) -> Result<()> {
    let mut produced = Produced::default();
    if let Some(name) = operation.name() {
        produced = produced.with_name(name);
    }
    stream.to_with(operation.text("topic")?, produced);
    Ok(())
}

fn consumed(operation: Operation<'_>) -> kstreams::Consumed<Value, Value> {
    let consumed = kstreams::Consumed::default();
    match operation.name() {
        Some(name) => consumed.with_name(name),
        None => consumed,
    }
}

pub(crate) fn grouped(operation: Operation<'_>) -> Grouped<Value, Value> {
    let grouped = Grouped::default();
    match operation.name() {
        Some(name) => grouped.with_name(name),
        None => grouped,
    }
}

fn one_more(count: Option<&Value>) -> Value {
    match count {
        Some(Value::Integer(count)) => Value::Integer(count + 1),
        _ => Value::Integer(1),
    }
}

/// An adder or subtractor; null deletes.
pub(crate) fn aggregator(
    operation: Operation<'_>,
    field: &str,
) -> Result<impl Fn(&Value, Value, Value) -> Option<Value> + use<>> {
    let step = operation.expression(field)?;
    Ok(move |key: &Value, value: Value, aggregate: Value| {
        kstreams::Nullable::into_non_null(step.evaluate(&[
            ("$k", key),
            ("$v", &value),
            ("$agg", &aggregate),
        ]))
    })
}
