//! Operations of streams that take more than a line.

use std::sync::Arc;
use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::{JoinWindows, Joined, KStream, Stores, StreamJoined};

use crate::build::{
    BuildError, CaseBuilder, Node, Operation, StoreContent, invalid, of_record, unsupported,
};
use crate::expression::{Expression, split};
use crate::processors::{CountAndPunctuate, Dedup};
use crate::value::Value;

type Result<T> = std::result::Result<T, BuildError>;

impl CaseBuilder {
    pub(crate) fn branch(&mut self, operation: Operation<'_>) -> Result<()> {
        let stream = self.stream(operation.text("in")?)?;
        let mut branched = stream.split_named(&operation.named());
        for branch in operation.0["branches"].as_array().into_iter().flatten() {
            let branch = Operation(branch);
            let predicate = of_record(&branch.expression("pred")?);
            let stream = branched.branch(move |key, value| predicate(key, value).is_true());
            self.nodes.insert(branch.text("id")?.to_owned(), Node::Stream(stream));
        }
        if operation.has("default") {
            let stream = branched.default_branch();
            self.nodes.insert(operation.text("default")?.to_owned(), Node::Stream(stream));
        }
        Ok(())
    }

    pub(crate) fn process(
        &mut self,
        operation: Operation<'_>,
        stream: &KStream<Value, Value>,
    ) -> Result<KStream<Value, Value>> {
        let store = Operation(&operation.0["store"]).text("name")?.to_owned();
        self.builder.add_state_store(Stores::key_value_store::<Value, Value>(&store));
        self.stores.insert(store.clone(), StoreContent::Plain);
        let (named, stores) = (operation.named(), [store.as_str()]);
        Ok(match operation.text("proc")? {
            "count_and_punctuate" => {
                let processor = CountAndPunctuate::parse(operation.0, &store)?;
                stream.process_named(move || processor.clone(), &named, &stores)
            }
            "dedup" => {
                let store = store.clone();
                stream.process_named(move || Dedup::new(&store), &named, &stores)
            }
            other => return Err(unsupported(format!("processor {other}"))),
        })
    }

    pub(crate) fn join_stream(
        &mut self,
        operation: Operation<'_>,
        stream: &KStream<Value, Value>,
    ) -> Result<KStream<Value, Value>> {
        let left = operation.text("kind")? == "left";
        let joiner = operation.expression("joiner")?;
        let join = move |key: &Value, left: Value, right: Value| {
            joiner.evaluate(&[("$k", key), ("$l", &left), ("$r", &right)])
        };
        let left_join = {
            let join = join.clone();
            move |key: &Value, left: Value, right: Option<Value>| {
                join(key, left, right.unwrap_or(Value::Null))
            }
        };
        Ok(match self.node(operation.text("with")?)? {
            Node::Table(table) => {
                let mut joined = Joined::with(Value::serde(), Value::serde());
                if let Some(name) = operation.name() {
                    joined = joined.with_name(name);
                }
                if let Some(grace) = operation.0["grace"].as_u64() {
                    joined = joined.with_grace_period(Duration::from_millis(grace));
                }
                if left {
                    stream.left_join(&table, left_join, joined)
                } else {
                    stream.join(&table, join, joined)
                }
            }
            Node::Global(table) => {
                let key_of = of_record(&operation.expression("key")?);
                let named = operation.named();
                if left {
                    stream.left_join_global_named(&table, key_of, left_join, &named)
                } else {
                    stream.join_global_named(&table, key_of, join, &named)
                }
            }
            Node::Stream(other) => return self.join_streams(operation, stream, &other),
            Node::WindowedTable(_) => {
                return Err(unsupported("join of a stream with a table of windows"));
            }
            _ => return Err(invalid(format!("cannot join with {}", operation.0["with"]))),
        })
    }
}

impl CaseBuilder {
    fn join_streams(
        &self,
        operation: Operation<'_>,
        stream: &KStream<Value, Value>,
        other: &KStream<Value, Value>,
    ) -> Result<KStream<Value, Value>> {
        let joiner = operation.expression("joiner")?;
        let join = move |key: &Value, left: Option<&Value>, right: Option<&Value>| {
            let (left, right) = (left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
            joiner.evaluate(&[("$k", key), ("$l", left), ("$r", right)])
        };
        let bound = |field: &str| operation.0["window"][field].as_i64().unwrap_or(0);
        let grace = u64::try_from(bound("grace")).map_err(|_| invalid("found negative grace"))?;
        let grace = Duration::from_millis(grace);
        let windows = JoinWindows::between(bound("before"), bound("after"), grace)?;
        let mut joined = StreamJoined::with(Value::serde(), Value::serde(), Value::serde());
        if let Some(name) = operation.name() {
            joined = joined.with_name(name);
        }
        if operation.has("store_name") {
            joined = joined.with_store_name(operation.text("store_name")?);
        }
        Ok(match operation.0["kind"].as_str().unwrap_or("inner") {
            "inner" => {
                let join = move |key: &Value, l: &Value, r: &Value| join(key, Some(l), Some(r));
                stream.join_stream(other, join, windows, joined)
            }
            "left" => {
                let join = move |key: &Value, l: &Value, r: Option<&Value>| join(key, Some(l), r);
                stream.left_join_stream(other, join, windows, joined)
            }
            "outer" => stream.outer_join_stream(other, join, windows, joined),
            kind => return Err(invalid(format!("found join kind {kind}"))),
        })
    }
}

pub(crate) fn flat_map(
    operation: Operation<'_>,
    stream: &KStream<Value, Value>,
) -> Result<KStream<Value, Value>> {
    let named = operation.named();
    let mut parts = Vec::new();
    for part in operation.0["emit"].as_array().into_iter().flatten() {
        let part = Operation(part);
        let when = part.has("when").then(|| part.expression("when")).transpose()?;
        let when = when.map(|when| of_record(&when));
        let key = of_record(&part.expression("key")?);
        parts.push((when, key, of_record(&part.expression("value")?)));
    }
    Ok(stream.flat_map_named(
        move |key, value| {
            let wanted = |part: &&(Option<_>, _, _)| match &part.0 {
                Some(when) => {
                    let when: &dyn Fn(&Value, &Value) -> Value = when;
                    when(&key, &value).is_true()
                }
                None => true,
            };
            let made = parts.iter().filter(wanted);
            made.map(|(_, k, v)| (k(&key, &value), v(&key, &value))).collect::<Vec<_>>()
        },
        &named,
    ))
}

pub(crate) fn flat_map_values(
    operation: Operation<'_>,
    stream: &KStream<Value, Value>,
) -> Result<KStream<Value, Value>> {
    let named = operation.named();
    if let Some(separator) = operation.0["split"].as_str() {
        let separator = separator.to_owned();
        return Ok(stream.flat_map_values_named(
            move |_, value| {
                if value == Value::Null {
                    return Vec::new();
                }
                split(&value.to_string(), &separator)
            },
            &named,
        ));
    }
    let emit = operation.0["emit"].as_array().into_iter().flatten();
    let parts: Vec<_> = emit
        .map(|part| Ok(of_record(&Arc::new(Expression::parse(part)?))))
        .collect::<Result<_>>()?;
    Ok(stream.flat_map_values_named(
        move |key, value| parts.iter().map(|part| part(key, &value)).collect::<Vec<_>>(),
        &named,
    ))
}
