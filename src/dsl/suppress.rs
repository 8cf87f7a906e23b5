//! Suppressed tables: fewer updates, or only final ones.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::table::{KTable, TableSpec};
use crate::error::{Error, Result};
use crate::operators::{
    Bounds, Change, Suppress, SuppressRule, WhenFull, store_getter, suppress_getter,
};
use crate::topology::{SuppressBufferBuilder, Topology};
use crate::windowed::Windowed;

/// How much a suppressed table may hold back, and whether its buffer has a changelog. Source: `Suppressed.BufferConfig`.
#[derive(Debug, Clone)]
struct Buffer {
    bounds: Bounds,
    logging: Option<BTreeMap<String, String>>,
}

/// Entry to the buffer configurations. Source: `Suppressed.BufferConfig`.
#[derive(Debug)]
pub struct BufferConfig;

impl BufferConfig {
    /// Holds back any number of updates.
    pub fn unbounded() -> StrictBufferConfig {
        let bounds = Bounds {
            records_max: usize::MAX,
            bytes_max: usize::MAX,
            when_full: WhenFull::ShutDown,
        };
        StrictBufferConfig(Buffer { bounds, logging: Some(BTreeMap::new()) })
    }

    /// Holds back this many keys at most; then the oldest updates come early.
    pub fn max_records(records_max: usize) -> EagerBufferConfig {
        Self::unbounded().emit_early_when_full().with_max_records(records_max)
    }

    /// Holds back about this many bytes at most, as Java estimates them; then the oldest updates come early.
    pub fn max_bytes(bytes_max: usize) -> EagerBufferConfig {
        Self::unbounded().emit_early_when_full().with_max_bytes(bytes_max)
    }
}

/// A buffer that forwards nothing early. Source: `Suppressed.StrictBufferConfig`.
#[derive(Debug, Clone)]
pub struct StrictBufferConfig(Buffer);

/// A buffer that forwards its oldest updates early when it is full. Source: `Suppressed.EagerBufferConfig`.
#[derive(Debug, Clone)]
pub struct EagerBufferConfig(Buffer);

macro_rules! bounds {
    ($config:ty) => {
        impl $config {
            /// Bounds the number of keys.
            pub fn with_max_records(mut self, records_max: usize) -> Self {
                self.0.bounds.records_max = records_max;
                self
            }

            /// Bounds the bytes, as Java estimates them: of keys, values, headers and the origin of each update.
            pub fn with_max_bytes(mut self, bytes_max: usize) -> Self {
                self.0.bounds.bytes_max = bytes_max;
                self
            }

            /// Removes the bounds.
            pub fn with_no_bound(self) -> StrictBufferConfig {
                let logging = self.0.logging;
                StrictBufferConfig(Buffer { logging, ..BufferConfig::unbounded().0 })
            }

            /// When full, the thread ends with an error.
            pub fn shut_down_when_full(mut self) -> StrictBufferConfig {
                self.0.bounds.when_full = WhenFull::ShutDown;
                StrictBufferConfig(self.0)
            }

            /// When full, the oldest updates are forwarded early.
            pub fn emit_early_when_full(mut self) -> EagerBufferConfig {
                self.0.bounds.when_full = WhenFull::EmitEarly;
                EagerBufferConfig(self.0)
            }

            /// Makes no changelog: what is held back is lost with its task.
            pub fn with_logging_disabled(mut self) -> Self {
                self.0.logging = None;
                self
            }

            /// Adds configuration to the changelog topic.
            pub fn with_logging_enabled(mut self, configs: BTreeMap<String, String>) -> Self {
                self.0.logging = Some(configs);
                self
            }
        }

        impl From<$config> for AnyBufferConfig {
            fn from(config: $config) -> Self {
                Self(config.0)
            }
        }
    };
}

bounds!(StrictBufferConfig);
bounds!(EagerBufferConfig);

/// A buffer of either kind.
#[derive(Debug, Clone)]
pub struct AnyBufferConfig(Buffer);

/// What a table's updates wait for. Source: `Suppressed`.
pub struct Suppressed<K> {
    name: Option<Arc<str>>,
    buffer: Buffer,
    until: Until<K>,
}

enum Until<K> {
    TimeLimit(Duration),
    WindowCloses(fn(&K) -> crate::time::Timestamp),
}

impl<K> Suppressed<K> {
    /// Waits until stream time, as this table's own records show it, is `limit` past a key's first update that was held
    /// back; then the last one is forwarded, with its own timestamp and headers.
    pub fn until_time_limit(limit: Duration, buffer: impl Into<AnyBufferConfig>) -> Self {
        Self { name: None, buffer: buffer.into().0, until: Until::TimeLimit(limit) }
    }

    /// Names the node; its store is called `<name>-store`.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K> Suppressed<Windowed<K>> {
    /// Waits until a window can change no more: until stream time has reached its end and the grace period. One result a window.
    ///
    /// The table must come from a windowed aggregation, whose grace period it is; for session windows the gap counts too.
    pub fn until_window_closes(buffer: StrictBufferConfig) -> Self {
        let until = Until::WindowCloses(|key: &Windowed<K>| key.window.end);
        Self { name: None, buffer: buffer.0, until }
    }
}

impl<K, V> KTable<K, V>
where
    K: Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Holds updates back, and forwards the last one of each key when `suppressed` says. Only records move time on: the last
    /// updates come when later records do.
    ///
    /// Needs the serdes of the table: those of a derived one are given by [`with_serdes`](KTable::with_serdes) or a store.
    /// The buffer is in memory and has a changelog. Source: `KTable.suppress` (KIP-328). Deviation: the highest timestamp seen
    /// goes back with an aborted transaction, and outlives a restart.
    ///
    /// # Errors
    /// At build: `Invalid` for a versioned table, for missing serdes, and where a window's close is waited for without a
    /// windowed aggregation. At run time: `Fatal` when a buffer is full that may not emit early.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kstreams::{BufferConfig, StreamsBuilder, Suppressed, Timestamp, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// let limit = Duration::from_secs(10);
    /// builder
    ///     .table::<String, i64>("prices")
    ///     .suppress(Suppressed::until_time_limit(limit, BufferConfig::max_records(1000)))
    ///     .to_stream()
    ///     .to("calm-prices");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let prices = driver.input_topic::<String, i64>("prices");
    /// for (seconds, price) in [(0, 5), (4, 6), (9, 7), (10, 8)] {
    ///     prices.pipe_at("tulip".into(), price, Timestamp::from_millis(seconds * 1000))?;
    /// }
    /// let calm = driver.output_topic::<String, i64>("calm-prices").read_key_values()?;
    /// assert_eq!(calm, [("tulip".to_owned(), 8)]);
    /// # Ok::<(), kstreams::Error>(())
    /// ```
    pub fn suppress(&self, suppressed: Suppressed<K>) -> Self {
        let spec = &self.spec;
        let Suppressed { name: given, buffer, until } = suppressed;
        let mut plan = spec.plan.borrow_mut();
        let name = plan.name_or(given.as_ref(), "KTABLE-SUPPRESS-");
        let given_store = given.map(|name| Arc::from(format!("{name}-store")));
        let store = plan.name_or(given_store.as_ref(), "KTABLE-SUPPRESS-STATE-STORE-");
        let grace = plan.find_grace(spec.node);
        drop(plan);
        // The buffer knows what a table was before only from its old values.
        (spec.enable_old_values)(true);
        let rule = rule(until, buffer.bounds, grace, &name);
        let serdes = spec.key_serde.clone().zip(spec.value_serde.clone());
        let serdes = serdes.ok_or_else(|| missing_serdes(&name));
        let getter = match &serdes {
            Ok((keys, values)) => {
                suppress_getter(store.clone(), spec.getter.clone(), keys.clone(), values.clone())
            }
            Err(_) => store_getter(store.clone()), // never used: the topology cannot be built
        };
        let versioned = Rc::new(Cell::new(false));
        let write = {
            let (name, store, logging) = (name.clone(), store.clone(), buffer.logging);
            let versioned = versioned.clone();
            move |topology: &mut Topology, parents: &[&str]| {
                if versioned.get() {
                    return Err(Error::invalid(format!(
                        "suppression \"{name}\": found a versioned table, wanted one that is not; its updates may be out of order"
                    )));
                }
                let (rule, (keys, values)) = (rule?, serdes?);
                let used = store.clone();
                let supplier =
                    move || Suppress::new(used.clone(), rule, keys.clone(), values.clone());
                topology.add_processor::<K, Change<V>, K, Change<V>, _>(
                    &name,
                    supplier,
                    parents,
                    &[],
                )?;
                let builder = SuppressBufferBuilder::new(store, logging);
                topology.add_state_store_of(Arc::new(builder), &[&name])
            }
        };
        let mut plan = spec.plan.borrow_mut();
        let node = plan.add(name.clone(), &[spec.node], Box::new(write));
        plan.mark_versioned_semantics(node, vec![versioned]);
        plan.set_output_versioned(node, false);
        drop(plan);
        let stores: Rc<[_]> = [store].iter().chain(spec.stores.iter()).cloned().collect();
        KTable::new(TableSpec {
            plan: spec.plan.clone(),
            node,
            name,
            key_serde: spec.key_serde.clone(),
            value_serde: spec.value_serde.clone(),
            sources: spec.sources.clone(),
            stores,
            materialise: spec.materialise.clone(),
            enable_old_values: spec.enable_old_values.clone(),
            getter,
        })
    }
}

fn rule<K>(
    until: Until<K>,
    bounds: Bounds,
    grace: Option<Duration>,
    name: &str,
) -> Result<SuppressRule<K>> {
    let millis = |wait: Duration| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    match until {
        Until::TimeLimit(limit) => Ok(SuppressRule {
            wait_ms: millis(limit),
            time_of: None,
            bounds,
            drops_tombstones: false,
        }),
        Until::WindowCloses(end) => {
            let grace = grace.ok_or_else(|| {
                Error::invalid(format!(
                    "suppression \"{name}\" waits for windows to close, but not everything above it is a windowed aggregation; suppress the aggregation's own result"
                ))
            })?;
            Ok(SuppressRule {
                wait_ms: millis(grace),
                time_of: Some(end),
                bounds,
                drops_tombstones: true,
            })
        }
    }
}

fn missing_serdes(name: &str) -> Error {
    Error::invalid(format!(
        "suppression \"{name}\" needs the serdes of its table, which that does not know; give them with KTable::with_serdes or Materialized::with_serdes"
    ))
}
