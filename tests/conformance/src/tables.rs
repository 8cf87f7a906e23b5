//! Operations of tables.

use std::rc::Rc;
use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::{
    BufferConfig, EagerBufferConfig, KGroupedTable, KTable, Materialized, Named,
    StrictBufferConfig, Suppressed, TableJoined,
};

use crate::build::BuildError;
use crate::build::{
    CaseBuilder, Node, Operation, aggregator, grouped, invalid, of_record, unsupported,
};
use crate::key::CaseKey;
use crate::value::Value;

type Result<T> = std::result::Result<T, BuildError>;

impl CaseBuilder {
    pub(crate) fn of_table<K: CaseKey>(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        table: &KTable<K, Value>,
    ) -> Result<Node> {
        let named = operation.named_without_store();
        let table = match name {
            "filter" | "filter_not" => {
                let predicate = of_record(&operation.expression("pred")?);
                let predicate = move |key: &K, value: &Value| predicate(key, value).is_true();
                let materialized = self.optional_store(operation)?;
                if name == "filter" {
                    table.filter_with(predicate, &named, materialized)
                } else {
                    table.filter_not_with(predicate, &named, materialized)
                }
            }
            "map_values" => {
                let value_of = of_record(&operation.expression("value")?);
                let materialized = self.optional_store(operation)?;
                let mapper = move |key: &K, value: Value| value_of(key, &value);
                table.map_values_with(mapper, &named, materialized)
            }
            "to_stream" => {
                // With a key the recorder of cases leaves the name out.
                let named = if operation.has("key") { Named::default() } else { named };
                let stream = table.to_stream_of(
                    |key: K, value| (key.into_value(), value.unwrap_or(Value::Null)),
                    &named,
                );
                if operation.has("key") {
                    let key_of = of_record(&operation.expression("key")?);
                    return Ok(Node::Stream(stream.select_key(key_of)));
                }
                return Ok(Node::Stream(stream));
            }
            "group_by" => {
                let key_of = of_record(&operation.expression("key")?);
                let has_value = operation.has("value");
                let value_of = of_record(&operation.expression("value")?);
                let selector = move |key: &K, value: &Value| {
                    let selected = if has_value { value_of(key, value) } else { value.clone() };
                    (key_of(key, value), selected)
                };
                let grouped = table.group_by(selector, grouped(operation));
                return Ok(Node::GroupedTable(Rc::new(grouped)));
            }
            "join" => self.join_table(operation, table)?,
            "suppress" => self.suppress(operation, table)?,
            "fk_join" => self.join_on_foreign_key(operation, table)?,
            _ => return Err(unsupported(format!("{name} of a table"))),
        };
        Ok(K::table_node(table))
    }

    fn suppress<K: CaseKey>(
        &mut self,
        operation: Operation<'_>,
        table: &KTable<K, Value>,
    ) -> Result<KTable<K, Value>> {
        let limit = Duration::from_millis(operation.0["ms"].as_u64().unwrap_or(0));
        let suppressed = match (operation.text("until")?, operation.0["on_full"].as_str()) {
            ("time_limit", Some("emit")) => Suppressed::until_time_limit(limit, eager(operation)),
            ("time_limit", _) => Suppressed::until_time_limit(limit, strict(operation)),
            ("window_closes", _) => {
                let wrong = || invalid("found no windows to wait for");
                K::until_window_closes(strict(operation)).ok_or_else(wrong)?
            }
            (until, _) => return Err(invalid(format!("found suppress until {until}"))),
        };
        let table = table.with_value_serde(Value::serde());
        Ok(table.suppress(match operation.name() {
            Some(name) => suppressed.with_name(name),
            None => suppressed,
        }))
    }

    fn join_table<K: CaseKey>(
        &mut self,
        operation: Operation<'_>,
        table: &KTable<K, Value>,
    ) -> Result<KTable<K, Value>> {
        let wrong = || unsupported("join of tables of which one has windows");
        let other = K::table(self.node(operation.text("with")?)?).ok_or_else(wrong)?;
        let joiner = operation.expression("joiner")?;
        let join = move |left: Option<&Value>, right: Option<&Value>| {
            let (left, right) = (left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
            joiner.evaluate(&[("$l", left), ("$r", right)])
        };
        let (named, materialized) =
            (operation.named_without_store(), self.optional_store(operation)?);
        Ok(match operation.0["kind"].as_str().unwrap_or("inner") {
            "inner" => {
                let join = move |left: &Value, right: &Value| join(Some(left), Some(right));
                table.join_with(&other, join, &named, materialized)
            }
            "left" => {
                let join = move |left: &Value, right: Option<&Value>| join(Some(left), right);
                table.left_join_with(&other, join, &named, materialized)
            }
            "outer" => table.outer_join_with(&other, join, &named, materialized),
            kind => return Err(invalid(format!("found join kind {kind}"))),
        })
    }

    fn join_on_foreign_key<K: CaseKey>(
        &mut self,
        operation: Operation<'_>,
        table: &KTable<K, Value>,
    ) -> Result<KTable<K, Value>> {
        let Node::Table(other) = self.node(operation.text("with")?)? else {
            return Err(unsupported(format!("fk_join with {}", operation.0["with"])));
        };
        let table = table.with_serdes(K::key_serde(), Value::serde());
        let other = other.with_serdes(Value::serde(), Value::serde());
        let foreign_key = of_record(&operation.expression("fk")?);
        let joiner = operation.expression("joiner")?;
        let join = move |left: &Value, right: Option<&Value>| {
            let right = right.unwrap_or(&Value::Null);
            joiner.evaluate(&[("$l", left), ("$r", right)])
        };
        let mut joined = TableJoined::default();
        if let Some(name) = operation.name() {
            joined = joined.with_name(name);
        }
        // With a store or without: what looks the result up later needs its serdes.
        let materialized = Some(self.materialized(operation)?);
        Ok(match operation.0["kind"].as_str().unwrap_or("inner") {
            "inner" => {
                let join = move |left: &Value, right: &Value| join(left, Some(right));
                table.join_on_foreign_key_with(&other, foreign_key, join, joined, materialized)
            }
            "left" => {
                table.left_join_on_foreign_key_with(&other, foreign_key, join, joined, materialized)
            }
            kind => return Err(invalid(format!("found foreign-key join kind {kind}"))),
        })
    }

    pub(crate) fn of_grouped_table(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        grouped: &KGroupedTable<Value, Value>,
    ) -> Result<Node> {
        let named = operation.named();
        let materialized = self.materialized(operation)?;
        let table = match name {
            // A dynamic value as the count; the nodes are those of `count`.
            "count" => {
                let counted = |by: i64| {
                    move |_: &Value, _: Value, count: Value| match count {
                        Value::Integer(count) => Some(Value::Integer(count + by)),
                        _ => None,
                    }
                };
                let zero = || Value::Integer(0);
                grouped.aggregate(zero, counted(1), counted(-1), &named, materialized)
            }
            "reduce" => {
                let reducer = |field: &str| -> Result<_> {
                    let step = operation.expression(field)?;
                    Ok(move |a: Value, b: Value| step.evaluate(&[("$a", &a), ("$b", &b)]))
                };
                let (add, subtract) = (reducer("reducer")?, reducer("subtractor")?);
                grouped.reduce(add, subtract, &operation.named_with_store(), materialized)
            }
            "aggregate" => {
                let init = operation.expression("init")?;
                let (add, subtract) =
                    (aggregator(operation, "adder")?, aggregator(operation, "subtractor")?);
                grouped.aggregate(move || init.evaluate(&[]), add, subtract, &named, materialized)
            }
            _ => return Err(unsupported(format!("{name} of a grouped table"))),
        };
        Ok(Node::Table(Rc::new(table)))
    }

    /// The store of an operation that has none of its own accord.
    fn optional_store<K: CaseKey>(
        &mut self,
        operation: Operation<'_>,
    ) -> Result<Option<Materialized<K, Value>>> {
        operation.has("store").then(|| self.materialized(operation)).transpose()
    }
}

fn bound(operation: Operation<'_>, field: &str) -> Option<usize> {
    operation.0[field].as_u64().and_then(|bound| usize::try_from(bound).ok())
}

/// The buffer that a suppression asks for, which emits early.
fn eager(operation: Operation<'_>) -> EagerBufferConfig {
    strict(operation).emit_early_when_full()
}

/// The buffer that a suppression asks for, which does not emit early.
fn strict(operation: Operation<'_>) -> StrictBufferConfig {
    let mut buffer = BufferConfig::unbounded();
    if let Some(records) = bound(operation, "max_records") {
        buffer = buffer.with_max_records(records);
    }
    if let Some(bytes) = bound(operation, "max_bytes") {
        buffer = buffer.with_max_bytes(bytes);
    }
    buffer
}
