//! Traces: where a record stands in one, and the spans that say what was done with it.
//!
//! A record's place is W3C's header `traceparent` (<https://www.w3.org/TR/trace-context/>), read and written by [`SpanContext`]. Spans are plain
//! data until the transaction that they belong to is committed, and go to a [`SpanSink`] then. Rejected: the spans of the crate `opentelemetry`,
//! which tell themselves when they are dropped, so that what was aborted would be told twice. Who exports them is not the engine's matter,
//! as with metrics. Hot path: [`SpanContext::of`], once a record where traces are on.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::record::Headers;

/// The header with a record's place in a trace.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what other systems add to it; passed on as it is.
pub const TRACESTATE: &str = "tracestate";
/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

/// A place in a trace.
///
/// | offset | bytes | meaning |
/// |---|---|---|
/// | 0 | 2 | version, `00` |
/// | 3 | 32 | trace, hexadecimal, not all 0 |
/// | 36 | 16 | span, hexadecimal, not all 0 |
/// | 53 | 2 | flags; bit 0: sampled |
///
/// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01` is a sampled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span in it.
    pub span_id: [u8; 8],
    /// W3C's flags.
    pub flags: u8,
}

impl SpanContext {
    /// The place that headers name; `None` where they name none, or one that is malformed, which W3C has us pass over.
    pub fn of(headers: &Headers) -> Option<Self> {
        Self::parse(headers.last(TRACEPARENT)?)
    }

    /// Reads a `traceparent`; one of a later version by its first fields.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let [version] = hex(&head[..2])?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|place| head[*place] == b'-');
        let trace_id: [u8; 16] = hex(&head[3..35])?;
        let span_id: [u8; 8] = hex(&head[36..52])?;
        let [flags] = hex(&head[53..])?;
        let is_valid = fits && dashes && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags })
    }

    /// Whether its spans are told.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The place of another span of the same trace.
    pub fn child(&self, ids: &mut SpanIds) -> Self {
        Self { span_id: ids.draw().to_be_bytes(), ..*self }
    }

    /// Puts it into headers, in the place of any other.
    pub fn put(&self, headers: &mut Headers) {
        headers.remove(TRACEPARENT);
        headers.add(TRACEPARENT, Some(self.to_string()));
    }
}

/// A `traceparent`.
impl std::fmt::Display for SpanContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Lower-case digits only, as W3C wants them.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Random numbers for ids and sampling; of one thread.
#[derive(Debug, Clone, Default)]
pub struct SpanIds {
    random: RandomState,
    count: u64,
}

impl SpanIds {
    /// One that is not 0.
    pub fn draw(&mut self) -> u64 {
        self.count += 1;
        self.random.hash_one(self.count).max(1)
    }

    /// The beginning of a trace, in so many of all cases (0 to 1).
    pub(crate) fn sample(&mut self, ratio: f64) -> Option<SpanContext> {
        #[allow(clippy::cast_precision_loss)] // 53 bits decide finely enough
        let drawn = (self.draw() >> 11) as f64 / (1u64 << 53) as f64;
        (drawn < ratio).then(|| {
            let (high, low) = (self.draw(), self.draw());
            let trace_id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
            SpanContext { trace_id, span_id: self.draw().to_be_bytes(), flags: SAMPLED }
        })
    }
}

/// On which side of a message a span is; OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Takes a record.
    Consumer,
    /// Works.
    Internal,
    /// Writes a record.
    Producer,
    /// Asks somebody outside.
    Client,
}

/// What an attribute of a span says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanValue {
    /// A word.
    Text(Arc<str>),
    /// A number.
    Number(i64),
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Something that was done with a record, from when to when.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What, in a few words.
    pub name: String,
    /// On which side.
    pub kind: SpanKind,
    /// Its place.
    pub context: SpanContext,
    /// The span that it belongs to; `None`: it begins the trace.
    pub parent: Option<[u8; 8]>,
    /// When it began, since 1970.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// What else is to be known, by OpenTelemetry's names.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where spans go. Called by stream threads: it must neither block nor fail.
pub trait SpanSink: Send + Sync {
    /// Takes what a committed transaction has done.
    fn take(&self, spans: Vec<Span>);
}

/// What an engine that traces is given.
#[derive(Clone)]
pub struct Tracing {
    /// Of the records without a `traceparent`, how many begin a trace (0 to 1). Where there is one, its sender has decided.
    pub sample_ratio: f64,
    /// Takes the spans.
    pub sink: Arc<dyn SpanSink>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_is_read_and_written() {
        let context = SpanContext::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((context.trace_id[0], context.span_id[7]), (0x0a, 0x31));
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), EXAMPLE);
        let mut headers = Headers::default();
        headers.add(TRACEPARENT, Some("old"));
        context.put(&mut headers);
        assert_eq!(SpanContext::of(&headers), Some(context));
        assert_eq!(headers.iter().count(), 1);
    }

    #[test]
    fn what_is_malformed_is_passed_over_and_a_later_version_is_read() {
        let change = |from: &str, to: &str| EXAMPLE.replacen(from, to, 1);
        for wrong in [
            "",
            "00-0af7",
            &change("0af7", "0AF7"),
            &change("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &change("b7ad6b7169203331", &"0".repeat(16)),
            &change("-b7", "_b7"),
            &change("00-", "ff-"),
            &format!("{EXAMPLE}-more"),
        ] {
            assert_eq!(SpanContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let later = change("00-", "01-") + "-more";
        assert_eq!(SpanContext::parse(later.as_bytes()), SpanContext::parse(EXAMPLE.as_bytes()));
        assert!(!SpanContext::parse(change("-01", "-00").as_bytes()).unwrap().is_sampled());
    }

    #[test]
    fn about_so_many_are_sampled_as_the_ratio_says() {
        let mut ids = SpanIds::default();
        let count =
            |ids: &mut SpanIds, ratio| (0..100_000).filter(|_| ids.sample(ratio).is_some()).count();
        assert_eq!(count(&mut ids, 0.0), 0);
        assert_eq!(count(&mut ids, 1.0), 100_000);
        let hundredth = count(&mut ids, 0.01);
        assert!((800..1200).contains(&hundredth), "{hundredth}"); // six standard deviations
    }
}
