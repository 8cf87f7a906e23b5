//! Operations of cogrouped streams.

use std::rc::Rc;

use kstreams::{
    CogroupedKStream, Named, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream,
    Windowed,
};

use crate::build::{
    BuildError, CaseBuilder, Node, Operation, StoreContent, aggregator, invalid, unsupported,
};
use crate::key::CaseKey;
use crate::value::Value;
use crate::windows::{CaseWindows, merger};

type Result<T> = std::result::Result<T, BuildError>;

impl CaseBuilder {
    pub(crate) fn cogroup(
        &mut self,
        operation: Operation<'_>,
    ) -> Result<CogroupedKStream<Value, Value>> {
        let mut cogrouped: Option<CogroupedKStream<Value, Value>> = None;
        for group in operation.0["groups"].as_array().into_iter().flatten() {
            let group = Operation(group);
            let Node::Grouped(grouped) = self.node(group.text("in")?)? else {
                return Err(invalid(format!("cannot cogroup {}", group.0["in"])));
            };
            let adder = aggregator(group, "adder")?;
            cogrouped = Some(match cogrouped {
                None => grouped.cogroup(adder),
                Some(cogrouped) => cogrouped.cogroup(&grouped, adder),
            });
        }
        cogrouped.ok_or_else(|| invalid("found a cogroup without groups"))
    }

    pub(crate) fn of_cogrouped(
        &mut self,
        name: &str,
        operation: Operation<'_>,
        cogrouped: &CogroupedKStream<Value, Value>,
    ) -> Result<Node> {
        if name == "window_by" {
            return window_by(operation, cogrouped);
        }
        if name != "aggregate" {
            return Err(unsupported(format!("{name} of a cogrouped stream")));
        }
        let init = operation.expression("init")?;
        let (named, materialized) = (operation.named(), self.materialized(operation)?);
        let table = cogrouped.aggregate(move || init.evaluate(&[]), &named, materialized);
        Ok(Node::Table(Rc::new(table)))
    }

    pub(crate) fn of_time_cogrouped(
        &mut self,
        operation: Operation<'_>,
        cogrouped: &TimeWindowedCogroupedKStream<Value, Value>,
    ) -> Result<Node> {
        let init = operation.expression("init")?;
        let materialized = self.windowed_store(operation, StoreContent::Windows)?;
        let init = move || init.evaluate(&[]);
        let table = cogrouped.aggregate(init, &Named::default(), materialized);
        Ok(Windowed::table_node(table))
    }

    pub(crate) fn of_session_cogrouped(
        &mut self,
        operation: Operation<'_>,
        cogrouped: &SessionWindowedCogroupedKStream<Value, Value>,
    ) -> Result<Node> {
        let init = operation.expression("init")?;
        let materialized = self.windowed_store(operation, StoreContent::Sessions)?;
        let init = move || init.evaluate(&[]);
        let (named, merger) = (Named::default(), merger(operation)?);
        Ok(Windowed::table_node(cogrouped.aggregate(init, merger, &named, materialized)))
    }
}

fn window_by(operation: Operation<'_>, cogrouped: &CogroupedKStream<Value, Value>) -> Result<Node> {
    let windowed = match CaseWindows::parse(&operation.0["window"])? {
        CaseWindows::Time(windows) => cogrouped.windowed_by(windows),
        CaseWindows::Unlimited(windows) => cogrouped.windowed_by(windows),
        CaseWindows::Sliding(windows) => cogrouped.windowed_by(windows),
        CaseWindows::Session(windows) => {
            return Ok(Node::SessionCogrouped(Rc::new(cogrouped.windowed_by(windows))));
        }
    };
    Ok(Node::TimeCogrouped(Rc::new(windowed)))
}
