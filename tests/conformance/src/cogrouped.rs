//! Operations of cogrouped streams.

use std::rc::Rc;

use kstreams::CogroupedKStream;

use crate::build::{BuildError, CaseBuilder, Node, Operation, aggregator, invalid, unsupported};
use crate::value::Value;

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
        if name != "aggregate" {
            return Err(unsupported(format!("{name} of a cogrouped stream")));
        }
        let init = operation.expression("init")?;
        let (named, materialized) = (operation.named(), self.materialized(operation)?);
        let table = cogrouped.aggregate(move || init.evaluate(&[]), &named, materialized);
        Ok(Node::Table(Rc::new(table)))
    }
}
