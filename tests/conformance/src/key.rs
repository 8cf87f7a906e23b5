//! The two types of key that a case's streams and tables have: plain ones, and those in windows.

use std::borrow::Cow;
use std::rc::Rc;

use kstreams::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer};
use kstreams::{
    Error, Headers, KStream, KTable, Nullable, Result, StrictBufferConfig, Suppressed, Timestamp,
    Window, Windowed,
};

use bytes::Bytes;

use crate::build::Node;
use crate::value::Value;

/// A type of key.
pub(crate) trait CaseKey: Nullable<NonNull = Self> + PartialEq + Sync {
    /// The key as expressions and sinks see it.
    fn as_value(&self) -> Cow<'_, Value>;
    fn key_serde() -> Serde<Self>;
    fn stream_node(stream: KStream<Self, Value>) -> Node;
    fn table_node(table: KTable<Self, Value>) -> Node;
    fn stream(node: Node) -> Option<KStream<Self, Value>>;
    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>>;
    /// The same stream where its keys are plain.
    fn plain_stream(stream: &KStream<Self, Value>) -> Option<KStream<Value, Value>>;
    /// The same table where its keys are plain.
    fn plain_table(table: &KTable<Self, Value>) -> Option<KTable<Value, Value>>;
    /// What waits for windows to close, where there are any.
    fn until_window_closes(buffer: StrictBufferConfig) -> Option<Suppressed<Self>>;
}

impl CaseKey for Value {
    fn as_value(&self) -> Cow<'_, Value> {
        Cow::Borrowed(self)
    }

    fn key_serde() -> Serde<Self> {
        Self::serde()
    }

    fn stream_node(stream: KStream<Self, Value>) -> Node {
        Node::Stream(stream)
    }

    fn table_node(table: KTable<Self, Value>) -> Node {
        Node::Table(Rc::new(table))
    }

    fn stream(node: Node) -> Option<KStream<Self, Value>> {
        if let Node::Stream(stream) = node { Some(stream) } else { None }
    }

    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>> {
        if let Node::Table(table) = node { Some(table) } else { None }
    }

    fn plain_stream(stream: &KStream<Self, Value>) -> Option<KStream<Value, Value>> {
        Some(stream.clone())
    }

    fn plain_table(table: &KTable<Self, Value>) -> Option<KTable<Value, Value>> {
        Some(table.clone())
    }

    fn until_window_closes(_: StrictBufferConfig) -> Option<Suppressed<Self>> {
        None
    }
}

impl CaseKey for Windowed<Value> {
    fn as_value(&self) -> Cow<'_, Value> {
        Cow::Owned(Value::Text(self.to_string()))
    }

    fn key_serde() -> Serde<Self> {
        Serde::from_both(AsText)
    }

    fn stream_node(stream: KStream<Self, Value>) -> Node {
        Node::WindowedStream(stream)
    }

    fn table_node(table: KTable<Self, Value>) -> Node {
        Node::WindowedTable(Rc::new(table))
    }

    fn stream(node: Node) -> Option<KStream<Self, Value>> {
        if let Node::WindowedStream(stream) = node { Some(stream) } else { None }
    }

    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>> {
        if let Node::WindowedTable(table) = node { Some(table) } else { None }
    }

    fn plain_stream(_: &KStream<Self, Value>) -> Option<KStream<Value, Value>> {
        None
    }

    fn plain_table(_: &KTable<Self, Value>) -> Option<KTable<Value, Value>> {
        None
    }

    fn until_window_closes(buffer: StrictBufferConfig) -> Option<Suppressed<Self>> {
        Some(Suppressed::until_window_closes(buffer))
    }
}

/// Windowed keys as the oracle writes them: `[k@s/e]`, as text.
struct AsText;

impl Serializer<Windowed<Value>> for AsText {
    fn serialize(&self, topic: &str, key: &Windowed<Value>, out: &mut Vec<u8>) -> Result<Encoded> {
        Value::serde().serializer().serialize(topic, &key.as_value(), out)
    }
}

impl Deserializer<Windowed<Value>> for AsText {
    fn deserialize(
        &self,
        topic: &str,
        headers: &Headers,
        data: Option<&Bytes>,
    ) -> Result<Windowed<Value>> {
        let text = Value::serde().deserializer().deserialize(topic, headers, data)?.to_string();
        let parsed = || {
            let (key, window) = text.strip_prefix('[')?.strip_suffix(']')?.rsplit_once('@')?;
            let (start, end) = window.split_once('/')?;
            let time = |text: &str| text.parse().ok().map(Timestamp::from_millis);
            let window = Window::new(time(start)?, time(end)?);
            Some(Windowed::new(Value::Text(key.to_owned()), window))
        };
        parsed().ok_or_else(|| Error::bad_record(format!("found {text}, wanted [key@start/end]")))
    }
}
