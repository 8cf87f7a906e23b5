//! The two types of key that a case's streams and tables have: plain ones, and those in windows.

use std::borrow::Cow;
use std::rc::Rc;

use kstreams::serdes::{DefaultSerde, Deserializer, Encoded, Serde, Serializer};
use kstreams::{
    Error, Headers, KTable, Nullable, Result, StrictBufferConfig, Suppressed, Timestamp, Window,
    Windowed,
};

use bytes::Bytes;

use crate::build::{Node, StoreContent};
use crate::value::Value;

/// A type of key.
pub(crate) trait CaseKey: Nullable<NonNull = Self> + PartialEq + Sync {
    /// What a store of a table with such keys holds.
    const KEPT: StoreContent;
    /// The key as expressions and sinks see it.
    fn as_value(&self) -> Cow<'_, Value>;
    fn into_value(self) -> Value;
    fn key_serde() -> Serde<Self>;
    fn table_node(table: KTable<Self, Value>) -> Node;
    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>>;
    /// What waits for windows to close, where there are any.
    fn until_window_closes(buffer: StrictBufferConfig) -> Option<Suppressed<Self>>;
}

impl CaseKey for Value {
    const KEPT: StoreContent = StoreContent::Timestamped;

    fn as_value(&self) -> Cow<'_, Value> {
        Cow::Borrowed(self)
    }

    fn into_value(self) -> Value {
        self
    }

    fn key_serde() -> Serde<Self> {
        Self::serde()
    }

    fn table_node(table: KTable<Self, Value>) -> Node {
        Node::Table(Rc::new(table))
    }

    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>> {
        if let Node::Table(table) = node { Some(table) } else { None }
    }

    fn until_window_closes(_: StrictBufferConfig) -> Option<Suppressed<Self>> {
        None
    }
}

impl CaseKey for Windowed<Value> {
    const KEPT: StoreContent = StoreContent::TimestampedByWindow;

    fn as_value(&self) -> Cow<'_, Value> {
        Cow::Owned(Value::Windowed(self.to_string()))
    }

    fn into_value(self) -> Value {
        Value::Windowed(self.to_string())
    }

    fn key_serde() -> Serde<Self> {
        Serde::from_both(AsText)
    }

    fn table_node(table: KTable<Self, Value>) -> Node {
        Node::WindowedTable(Rc::new(table))
    }

    fn table(node: Node) -> Option<Rc<KTable<Self, Value>>> {
        if let Node::WindowedTable(table) = node { Some(table) } else { None }
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
