//! Aggregates that are often wanted, ready for `aggregate_by` of grouped and windowed streams. Kafka Streams has none of them: there each is an
//! aggregator of one's own. What can grow has a bound.

use crate::error::{Error, Result};
use crate::nullable::Nullable;
use crate::record::Headers;
use crate::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer};

/// How values become one result, for `aggregate_by`.
///
/// ```
/// use kstreams::aggregates::{Average, average, top_k};
/// use kstreams::{Materialized, StreamsBuilder, testing::TopologyTestDriver};
///
/// let builder = StreamsBuilder::new();
/// let amounts = builder.stream::<String, i64>("amounts").group_by_key();
/// amounts.aggregate_by(top_k(2, |amount| *amount), Materialized::named("largest"));
/// amounts
///     .aggregate_by(average(|amount| *amount as f64), Materialized::named("average"))
///     .map_values(|_, average: Average| average.value())
///     .to_stream()
///     .map_values(|_, average| average.unwrap_or_default())
///     .to("averages");
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let amounts = driver.input_topic::<String, i64>("amounts");
/// for amount in [10, 40, 40, 30] {
///     amounts.pipe("ada".into(), amount)?;
/// }
/// let averages = driver.output_topic::<String, f64>("averages").read_key_values()?;
/// assert_eq!(averages.last(), Some(&("ada".to_owned(), 30.0)));
/// # Ok::<(), kstreams::Error>(())
/// ```
pub trait Aggregate<V>: Send + Sync + 'static {
    /// What the values become.
    type Result: Clone + Send + 'static;
    /// The result of one value.
    fn first(&self, value: V) -> Self::Result;
    /// The result with one more value.
    fn add(&self, result: Self::Result, value: V) -> Self::Result;
    /// The result of two sessions that have become one; `earlier` began first.
    fn merge(&self, earlier: Self::Result, later: Self::Result) -> Self::Result;
}

/// One step of an aggregation.
pub(super) fn step<V, A: Aggregate<V>>(
    aggregate: &A,
    result: Option<A::Result>,
    value: V,
) -> A::Result {
    match result {
        Some(result) => aggregate.add(result, value),
        None => aggregate.first(value),
    }
}

/// As [`step`], with a value that may be null, which changes nothing.
pub(super) fn step_unless_null<V: Nullable, A: Aggregate<V::NonNull>>(
    aggregate: &A,
    result: Option<A::Result>,
    value: V,
) -> Option<A::Result> {
    match value.into_non_null() {
        Some(value) => Some(step(aggregate, result, value)),
        None => result,
    }
}

/// An [`Aggregate`] out of two functions: the result of one value, and what two results make.
struct Combined<F, C> {
    first: F,
    combine: C,
}

impl<V, R, F, C> Aggregate<V> for Combined<F, C>
where
    R: Clone + Send + 'static,
    F: Fn(V) -> R + Send + Sync + 'static,
    C: Fn(R, R) -> R + Send + Sync + 'static,
{
    type Result = R;

    fn first(&self, value: V) -> R {
        (self.first)(value)
    }

    fn add(&self, result: R, value: V) -> R {
        (self.combine)(result, (self.first)(value))
    }

    fn merge(&self, earlier: R, later: R) -> R {
        (self.combine)(earlier, later)
    }
}

/// Numbers that can be summed up.
pub trait Summable: Copy + Send + 'static {
    /// Their sum; `None` where the type cannot hold it.
    fn checked_sum(self, other: Self) -> Option<Self>;
}

impl Summable for i64 {
    fn checked_sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Summable for i32 {
    fn checked_sum(self, other: Self) -> Option<Self> {
        self.checked_add(other)
    }
}

impl Summable for f64 {
    fn checked_sum(self, other: Self) -> Option<Self> {
        Some(self + other)
    }
}

/// The sum of `number` over all values. A sum that its type cannot hold is never wrong: the record is treated as bad, as after any panic of a processor.
pub fn sum<V: 'static, N: Summable>(
    number: impl Fn(&V) -> N + Send + Sync + 'static,
) -> impl Aggregate<V, Result = N> {
    let combine =
        |one: N, two: N| one.checked_sum(two).expect("a sum must fit its type; use a wider one");
    Combined { first: move |value: V| number(&value), combine }
}

/// The value whose `measure` is least; of equal ones the first.
pub fn min_by<V: Clone + Send + 'static, M: PartialOrd>(
    measure: impl Fn(&V) -> M + Send + Sync + 'static,
) -> impl Aggregate<V, Result = V> {
    let combine = move |one: V, two: V| if measure(&two) < measure(&one) { two } else { one };
    Combined { first: |value| value, combine }
}

/// The value whose `measure` is greatest; of equal ones the first.
pub fn max_by<V: Clone + Send + 'static, M: PartialOrd>(
    measure: impl Fn(&V) -> M + Send + Sync + 'static,
) -> impl Aggregate<V, Result = V> {
    let combine = move |one: V, two: V| if measure(&two) > measure(&one) { two } else { one };
    Combined { first: |value| value, combine }
}

/// The mean of `number` over all values, as an [`Average`].
pub fn average<V: 'static>(
    number: impl Fn(&V) -> f64 + Send + Sync + 'static,
) -> impl Aggregate<V, Result = Average> {
    let combine = |one: Average, two: Average| Average {
        sum: one.sum + two.sum,
        count: one.count + two.count,
    };
    Combined { first: move |value: V| Average { sum: number(&value), count: 1 }, combine }
}

/// The `k` values whose `score` is greatest, the greatest first; of equal ones those that came first. With `k` 0 there are none.
pub fn top_k<V: Clone + Send + 'static, S: PartialOrd>(
    k: usize,
    score: impl Fn(&V) -> S + Send + Sync + 'static,
) -> impl Aggregate<V, Result = Vec<V>> {
    let combine = move |mut one: Vec<V>, two: Vec<V>| {
        for value in two {
            let at = one.partition_point(|known| score(known) >= score(&value));
            one.insert(at, value);
            one.truncate(k);
        }
        one
    };
    Combined { first: move |value| if k == 0 { Vec::new() } else { vec![value] }, combine }
}

/// The first `limit` values, in the order in which they came; of two sessions, the earlier one's first.
pub fn collect_list<V: Clone + Send + 'static>(limit: usize) -> impl Aggregate<V, Result = Vec<V>> {
    collected(limit, |_, _| true)
}

/// The first `limit` values that differ, in the order in which they came; of two sessions, the earlier one's first.
pub fn collect_set<V: Clone + PartialEq + Send + 'static>(
    limit: usize,
) -> impl Aggregate<V, Result = Vec<V>> {
    collected(limit, |list, value| !list.contains(value))
}

fn collected<V: Clone + Send + 'static>(
    limit: usize,
    is_new: impl Fn(&Vec<V>, &V) -> bool + Send + Sync + 'static,
) -> impl Aggregate<V, Result = Vec<V>> {
    let combine = move |mut list: Vec<V>, more: Vec<V>| {
        for value in more {
            if list.len() < limit && is_new(&list, &value) {
                list.push(value);
            }
        }
        list
    };
    Combined { first: move |value| if limit == 0 { Vec::new() } else { vec![value] }, combine }
}

/// A mean that can go on: the sum of the numbers, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// Sum of all numbers.
    pub sum: f64,
    /// How many there are; at least 1.
    pub count: u64,
}

impl Average {
    /// The mean.
    #[allow(clippy::cast_precision_loss)] // a mean of more than 2⁵³ numbers is no more exact than this
    pub fn value(&self) -> f64 {
        self.sum / self.count as f64
    }
}

struct AverageSerde;

/// The sum (8 bytes, a big-endian double), then the count (8 bytes, big-endian).
impl DefaultSerde for Average {
    fn serde() -> Serde<Self> {
        Serde::from_both(AverageSerde)
    }
}

impl Serializer<Average> for AverageSerde {
    fn serialize(&self, _: &str, average: &Average, out: &mut Vec<u8>) -> Result<Encoded> {
        out.extend_from_slice(&average.sum.to_be_bytes());
        out.extend_from_slice(&average.count.to_be_bytes());
        Ok(Encoded::Bytes)
    }
}

impl Deserializer<Average> for AverageSerde {
    fn deserialize(&self, _: &str, _: &Headers, data: Option<&bytes::Bytes>) -> Result<Average> {
        let halves = data.and_then(|data| {
            let (sum, count) = data.split_at_checked(8)?;
            Some((sum.try_into().ok()?, count.try_into().ok()?))
        });
        let (sum, count) = halves.ok_or_else(|| {
            Error::bad_record(format!("found {data:?}, wanted the 16 bytes of an average"))
        })?;
        Ok(Average { sum: f64::from_be_bytes(sum), count: u64::from_be_bytes(count) })
    }
}
