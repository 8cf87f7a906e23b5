//! Sources that read every topic of a pattern: which topics that are, as the cluster has them.
//!
//! A topology is written with patterns; [`Topology::matching`] makes one of it that names topics, from which plans and tasks follow as from any other.
//! Cold: asked at the start, and whenever the cluster's topics are looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use super::builder::Topology;
use super::internal_topics::TopicName;
use super::node::Role;
use super::source_options::SourceOptions;
use crate::error::{Error, Result};
use crate::serdes::Serde;

/// A pattern of topic names. Source: `java.util.regex.Pattern`, as `StreamsBuilder.stream(Pattern)` takes it: a name matches if the whole of it does.
///
/// ```
/// use kstreams::TopicPattern;
///
/// let orders = TopicPattern::new("orders-[a-z]{2}")?;
/// assert!(orders.matches("orders-de") && !orders.matches("old-orders-de"));
/// assert!(TopicPattern::new("orders-(").is_err());
/// # Ok::<(), kstreams::Error>(())
/// ```
#[derive(Clone)]
pub struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
}

impl TopicPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// `Invalid` for one that is not a regular expression of the crate `regex`. Deviation: no look-around and no back-references, which Java has; matching
    /// takes linear time instead.
    pub fn new(pattern: &str) -> Result<Self> {
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
            Error::invalid(format!(
                "found topic pattern \"{pattern}\", wanted a regular expression"
            ))
            .with_source(error)
        })?;
        Ok(Self { text: pattern.into(), regex })
    }

    /// Whether the whole of `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicPattern({})", self.text)
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Topics that Kafka's brokers keep for themselves; no pattern matches them. Source: `Topic.INTERNAL_TOPICS`, `exclude.internal.topics`.
const BROKER_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether a topic is a changelog or a repartition topic of the application.
pub(crate) fn is_internal_topic(topic: &str, application_id: &str) -> bool {
    topic.strip_prefix(application_id).is_some_and(|rest| {
        rest.starts_with('-') && (rest.ends_with("-changelog") || rest.ends_with("-repartition"))
    })
}

impl Topology {
    /// Adds a node that reads every topic whose name matches `pattern`, those made later too. Source: `addSource(name, topicPattern)`.
    ///
    /// # Errors
    /// `Invalid` where the pattern matches a topic that another source names; two patterns that match one topic are refused when there is one.
    pub fn add_source_matching<K, V>(
        &mut self,
        name: &str,
        pattern: TopicPattern,
        key_serde: Serde<K>,
        value_serde: Serde<V>,
        options: SourceOptions<K, V>,
    ) -> Result<()>
    where
        K: Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        for node in &self.nodes {
            let Role::Source { topics: taken, .. } = &node.role else { continue };
            let external = taken.iter().filter_map(TopicName::external);
            if let Some(topic) = external.into_iter().find(|topic| pattern.matches(topic)) {
                return Err(Error::invalid(format!(
                    "pattern \"{}\" of source \"{name}\" matches topic \"{topic}\", which is already read by source \"{}\"",
                    pattern.as_str(),
                    node.name
                )));
            }
        }
        self.add_source_node(name, Vec::new(), Some(pattern), key_serde, value_serde, options)
            .map(|_| ())
    }

    /// The patterns of its sources, by their node.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = (usize, &TopicPattern)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| match &node.role {
            Role::Source { pattern, .. } => Some((index, pattern.as_ref()?)),
            Role::Processor { .. } | Role::Sink { .. } => None,
        })
    }

    /// The source node whose pattern matches a topic, which the application does not make for itself.
    pub(crate) fn pattern_source_of(&self, topic: &str, application_id: &str) -> Option<usize> {
        let mut sources = self.patterns().filter(|(_, pattern)| pattern.matches(topic));
        sources.next().map(|(node, _)| node).filter(|_| !is_internal_topic(topic, application_id))
    }

    /// The same topology with the topics of `cluster` that its patterns match. Not matched are the brokers' own topics, and those that
    /// `is_own` says the application makes for itself: it would read what it writes.
    ///
    /// # Errors
    /// `Invalid` where two patterns match a topic, or a pattern matches one that a global store reads.
    pub(crate) fn matching<'a>(
        &self,
        cluster: impl IntoIterator<Item = &'a str>,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut matched: BTreeMap<usize, Vec<TopicName>> = BTreeMap::new();
        for topic in cluster {
            if BROKER_TOPICS.contains(&topic) || is_own(topic) {
                continue;
            }
            let mut sources = self.patterns().filter(|(_, pattern)| pattern.matches(topic));
            let Some((node, pattern)) = sources.next() else { continue };
            if let Some((_, other)) = sources.next() {
                return Err(Error::invalid(format!(
                    "topic \"{topic}\" is matched by two patterns, \"{}\" and \"{}\"; wanted one at most",
                    pattern.text, other.text
                )));
            }
            matched.entry(node).or_default().push(TopicName::External(topic.into()));
        }
        let mut resolved = self.clone();
        for (index, node) in resolved.nodes.iter_mut().enumerate() {
            if let Role::Source { topics, pattern: Some(_), .. } = &mut node.role {
                *topics = matched.remove(&index).unwrap_or_default();
                topics.sort();
            }
        }
        Ok(resolved)
    }
}
