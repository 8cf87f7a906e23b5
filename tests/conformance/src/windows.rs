//! Windowed aggregations.

use std::rc::Rc;
use std::time::Duration;

use kstreams::{
    EmitStrategy, KGroupedStream, KTable, Materialized, SessionWindowedKStream, SessionWindows,
    SlidingWindows, TimeWindowedKStream, TimeWindows, Timestamp, UnlimitedWindows, Windowed,
};
use serde_json::Value as Json;

use crate::build::{
    BuildError, CaseBuilder, Node, Operation, StoreContent, aggregator, invalid, unsupported,
};
use crate::key::CaseKey;
use crate::value::Value;

type Result<T> = std::result::Result<T, BuildError>;
type WindowedTable = KTable<Windowed<Value>, Value>;

/// The windows of an operation.
pub(crate) enum CaseWindows {
    Time(TimeWindows),
    Unlimited(UnlimitedWindows),
    Sliding(SlidingWindows),
    Session(SessionWindows),
}

impl CaseWindows {
    pub(crate) fn parse(window: &Json) -> Result<Self> {
        let duration = |field: &str| {
            let wrong =
                || invalid(format!("window {window} has no \"{field}\" that is not negative"));
            window[field].as_u64().map(Duration::from_millis).ok_or_else(wrong)
        };
        let grace = match &window["grace"] {
            Json::Null => Duration::ZERO,
            _ => duration("grace")?,
        };
        Ok(match window["type"].as_str().unwrap_or_default() {
            "tumbling" => Self::Time(TimeWindows::of_size_and_grace(duration("size")?, grace)),
            "hopping" => Self::Time(
                TimeWindows::of_size_and_grace(duration("size")?, grace)
                    .advance_by(duration("advance")?),
            ),
            "sliding" => Self::Sliding(SlidingWindows::of_time_difference_and_grace(
                duration("diff")?,
                grace,
            )),
            "session" => {
                Self::Session(SessionWindows::of_inactivity_gap_and_grace(duration("gap")?, grace))
            }
            "unlimited" => {
                let start = Timestamp::from_millis(window["start"].as_i64().unwrap_or(0));
                Self::Unlimited(UnlimitedWindows::of().start_on(start))
            }
            other => return Err(unsupported(format!("{other} windows"))),
        })
    }
}

/// Reduces two values; null deletes.
fn reducer(operation: Operation<'_>) -> Result<impl Fn(Value, Value) -> Value + use<>> {
    let reducer = operation.expression("reducer")?;
    Ok(move |a: Value, b: Value| reducer.evaluate(&[("$a", &a), ("$b", &b)]))
}

fn sum(one: Value, two: Value) -> Value {
    match (one, two) {
        (Value::Integer(one), Value::Integer(two)) => Value::Integer(one + two),
        _ => Value::Null,
    }
}

fn next(count: Value) -> Value {
    sum(count, Value::Integer(1))
}

impl CaseBuilder {
    pub(crate) fn window_by(
        operation: Operation<'_>,
        grouped: &KGroupedStream<Value, Value>,
    ) -> Result<Node> {
        let strategy = match operation.0["emit"].as_str() {
            None | Some("on_window_update") => EmitStrategy::OnWindowUpdate,
            Some("on_window_close") => EmitStrategy::OnWindowClose,
            Some(other) => return Err(unsupported(format!("emit {other}"))),
        };
        let windowed = match CaseWindows::parse(&operation.0["window"])? {
            CaseWindows::Time(windows) => grouped.windowed_by(windows),
            CaseWindows::Unlimited(windows) => grouped.windowed_by(windows),
            CaseWindows::Sliding(windows) => grouped.windowed_by(windows),
            CaseWindows::Session(windows) => {
                let windowed = grouped.windowed_by(windows).emit_strategy(strategy);
                return Ok(Node::SessionWindowed(Rc::new(windowed)));
            }
        };
        Ok(Node::TimeWindowed(Rc::new(windowed.emit_strategy(strategy))))
    }

    pub(crate) fn of_time_windowed(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        windowed: &TimeWindowedKStream<Value, Value>,
    ) -> Result<Node> {
        let (named, zero) = (operation.named(), || Value::Integer(0));
        let materialized = self.windowed_store(operation, StoreContent::Windows)?;
        let table: WindowedTable = match name {
            "count" if operation.has("store") => {
                windowed.count_by(zero, next, &named, materialized)
            }
            // Without a store the names are those of `count()`, which `aggregate` has too.
            "count" => {
                windowed.aggregate(zero, |_, _, count| Some(next(count)), &named, materialized)
            }
            "reduce" => windowed.reduce(reducer(operation)?, &named, materialized),
            "aggregate" => {
                let init = operation.expression("init")?;
                let adder = aggregator(operation, "adder")?;
                windowed.aggregate(move || init.evaluate(&[]), adder, &named, materialized)
            }
            _ => return Err(unsupported(format!("{name} of a windowed stream"))),
        };
        Ok(Windowed::table_node(table))
    }

    pub(crate) fn of_session_windowed(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        windowed: &SessionWindowedKStream<Value, Value>,
    ) -> Result<Node> {
        let (named, zero) = (operation.named(), || Value::Integer(0));
        let materialized = self.windowed_store(operation, StoreContent::Sessions)?;
        let table: WindowedTable = match name {
            "count" if operation.has("store") => {
                windowed.count_by((zero, next, sum), &named, materialized)
            }
            "count" => windowed.aggregate(
                zero,
                |_, _, count| Some(next(count)),
                |_, one, two| sum(one, two),
                &named,
                materialized,
            ),
            "reduce" => windowed.reduce(reducer(operation)?, &named, materialized),
            "aggregate" => {
                let init = operation.expression("init")?;
                let (adder, merger) = (aggregator(operation, "adder")?, merger(operation)?);
                let init = move || init.evaluate(&[]);
                windowed.aggregate(init, adder, merger, &named, materialized)
            }
            _ => return Err(unsupported(format!("{name} of a session-windowed stream"))),
        };
        Ok(Windowed::table_node(table))
    }

    pub(crate) fn windowed_store(
        &mut self,
        operation: Operation<'_>,
        content: StoreContent,
    ) -> Result<Materialized<Value, Value>> {
        let mut materialized = self.materialized(operation)?;
        let store = Operation(&operation.0["store"]);
        if let Some(name) = store.name() {
            self.stores.insert(name.to_owned(), content);
        }
        if let Some(millis) = store.0["retention_ms"].as_u64() {
            materialized = materialized.with_retention(Duration::from_millis(millis));
        }
        Ok(materialized)
    }
}

/// Joins the aggregates of two sessions.
pub(crate) fn merger(
    operation: Operation<'_>,
) -> Result<impl Fn(&Value, Value, Value) -> Value + use<>> {
    let merger = operation.expression("merger")?;
    Ok(move |key: &Value, a: Value, b: Value| {
        merger.evaluate(&[("$k", key), ("$a", &a), ("$b", &b)])
    })
}
