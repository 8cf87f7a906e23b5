//! Answers questions in this process: asks each topology for its part, and joins the parts.

use std::collections::BTreeMap;

use kstreams::{ErrorKind, Handle, Result};
use serde_json::{Map, Value, json};

use super::peers::Peers;
use super::{Queries, Question, Reads};
use crate::catalog;

/// What runs here, and the way to the rest.
pub struct QueryService {
    /// By topology.
    handles: BTreeMap<String, Handle>,
    /// The consumer group of each topology.
    groups: BTreeMap<&'static str, String>,
    peers: Peers,
}

impl QueryService {
    /// A service over the topologies that run here; `group` names the consumer group of any.
    pub fn new(
        handles: impl IntoIterator<Item = (String, Handle)>,
        group: impl Fn(&str) -> String,
        peers: Peers,
    ) -> Self {
        let groups = catalog::CATALOG.iter().map(|spec| (spec.name, group(spec.name)));
        Self { handles: handles.into_iter().collect(), groups: groups.collect(), peers }
    }

    /// The whole answer: the fields of all parts, and under `incomplete` the topologies whose part is missing, with the reason. `None`:
    /// nobody knows anything of it.
    ///
    /// # Errors
    /// The first part's, where no part could be had at all.
    pub fn answer(&self, question: &Question) -> Result<Option<Value>> {
        let (mut answer, mut incomplete) = (Map::new(), Map::new());
        let (mut first_error, mut answered) = (None, false);
        for spec in catalog::CATALOG {
            let takes_part = |queries: &&dyn Queries| queries.takes_part(question);
            if catalog::queries(spec.name).filter(takes_part).is_none() {
                continue;
            }
            match self.part(spec.name, question) {
                Ok(part) => {
                    answered = true;
                    merge(&mut answer, part);
                }
                Err(error) => {
                    incomplete.insert(spec.name.to_owned(), json!(error.to_string()));
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error.filter(|_| !answered) {
            return Err(error);
        }
        if !incomplete.is_empty() {
            answer.insert("incomplete".to_owned(), Value::Object(incomplete));
        }
        Ok((!answer.is_empty()).then_some(Value::Object(answer)))
    }

    /// A topology's part: made here where it runs here, else by an instance that runs it.
    fn part(&self, topology: &'static str, question: &Question) -> Result<Value> {
        if self.handles.contains_key(topology) {
            return self.part_here(topology, question);
        }
        let mut last = kstreams::Error::retriable(format!(
            "found no instance that runs {topology} and advertises an address, wanted one; \
             start one with `aggregator run {topology}`"
        ));
        for address in self.peers.of_group(&self.groups[topology])? {
            match self.peers.get(&address, &format!("/query/part/{topology}/{}", question.path())) {
                Err(error) if error.kind() == ErrorKind::Retriable => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    /// A topology's part, made here.
    ///
    /// # Errors
    /// `Invalid` where it does not run here, else those of its reads.
    pub fn part_here(&self, topology: &str, question: &Question) -> Result<Value> {
        let (handle, queries) = self.here(topology)?;
        let reads = Reads { topology, handle, queries, peers: &self.peers };
        queries.part(question, &reads)
    }

    /// A read of a partition that is here.
    ///
    /// # Errors
    /// `Retriable` where it is not, `Invalid` for a topology or read that there is not.
    pub fn read(
        &self,
        topology: &str,
        read: &str,
        partition: i32,
        argument: &str,
    ) -> Result<Value> {
        let (handle, queries) = self.here(topology)?;
        queries.read(handle, read, partition, argument)
    }

    fn here(&self, topology: &str) -> Result<(&Handle, &'static dyn Queries)> {
        let handle = self.handles.get(topology);
        handle.zip(catalog::queries(topology)).ok_or_else(|| {
            kstreams::Error::retriable(format!("{topology} does not run on this instance"))
        })
    }
}

/// Adds a part's fields: lists are joined; of other fields that two topologies have, the first in the catalog wins.
fn merge(answer: &mut Map<String, Value>, part: Value) {
    let Value::Object(part) = part else { return };
    for (name, value) in part {
        match answer.get_mut(&name) {
            Some(Value::Array(list)) => match value {
                Value::Array(more) => list.extend(more),
                other => list.push(other),
            },
            Some(there) if !there.is_null() => {}
            _ => {
                answer.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_and_the_first_word_stands() {
        let mut answer = Map::new();
        merge(&mut answer, json!({ "status": "assigned", "grants": [1], "region": null }));
        merge(&mut answer, Value::Null);
        merge(&mut answer, json!({ "status": "open", "grants": [2], "region": "north" }));
        let wanted = json!({ "status": "assigned", "grants": [1, 2], "region": "north" });
        assert_eq!(Value::Object(answer), wanted);
    }
}
