//! Which rewritings of a topology are allowed.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Rewritings of a topology that change neither its results nor the names of its stores, but nodes and topics. Java key:
/// `topology.optimization`.
///
/// A running application must not switch them: its state lies in topics of the old names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopologyOptimization {
    /// `reuse.ktable.source.topics`: the store of a table that is read from a topic has that topic as its changelog.
    pub reuse_ktable_source_topics: bool,
    /// `merge.repartition.topics`: several repartitions below one change of the key share one topic.
    pub merge_repartition_topics: bool,
    /// `single.store.self.join`: a stream joined with itself is kept once.
    pub single_store_self_join: bool,
}

impl TopologyOptimization {
    /// `none`: every operator as it was called.
    pub const NONE: Self = Self {
        reuse_ktable_source_topics: false,
        merge_repartition_topics: false,
        single_store_self_join: false,
    };
    /// `all` of them.
    pub const ALL: Self = Self {
        reuse_ktable_source_topics: true,
        merge_repartition_topics: true,
        single_store_self_join: true,
    };
}

impl FromStr for TopologyOptimization {
    type Err = Error;

    /// Reads `none`, `all`, or a list of rewritings with commas between them. Source: `StreamsConfig.verifyTopologyOptimizationConfigs`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => return Ok(Self::NONE),
            "all" => return Ok(Self::ALL),
            _ => {}
        }
        let mut optimization = Self::NONE;
        for name in text.split(',') {
            match name.trim() {
                "reuse.ktable.source.topics" => optimization.reuse_ktable_source_topics = true,
                "merge.repartition.topics" => optimization.merge_repartition_topics = true,
                "single.store.self.join" => optimization.single_store_self_join = true,
                other => {
                    return Err(Error::invalid(format!(
                        "setting topology.optimization: found \"{other}\", wanted none, all, or some of reuse.ktable.source.topics,merge.repartition.topics,single.store.self.join"
                    )));
                }
            }
        }
        Ok(optimization)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_alone_or_as_a_list() {
        let parse = |text: &str| text.parse::<TopologyOptimization>();
        assert_eq!(parse("none").unwrap(), TopologyOptimization::NONE);
        assert_eq!(parse("all").unwrap(), TopologyOptimization::ALL);
        let both = parse("merge.repartition.topics, single.store.self.join").unwrap();
        assert_eq!(
            both,
            TopologyOptimization { reuse_ktable_source_topics: false, ..TopologyOptimization::ALL }
        );
        for wrong in ["", "some", "all,merge.repartition.topics"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.message().starts_with("setting topology.optimization: found"), "{error}");
        }
    }
}
