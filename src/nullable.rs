//! Null as a type: which keys and values may be Kafka's null.
//!
//! Kafka Streams lets null be anywhere. Here a stream of `String` has none, and a stream of `Option<String>` may: a
//! source of the first kind dead-letters a null, one of the second passes it on, and an operator that treats nulls specially
//! (joins, aggregations, tables) asks through this trait.

use std::sync::Arc;

use bytes::Bytes;

/// A type of keys or values, with its view as "something or null".
///
/// Implemented for the plain types, for `Option` of any type, and by [`non_null!`](crate::non_null) for types of your own.
pub trait Nullable: Clone + Send + 'static {
    /// The type without null.
    type NonNull: Clone + Send + 'static;
    /// The value, unless it is null.
    fn as_non_null(&self) -> Option<&Self::NonNull>;
    /// The value, unless it is null.
    fn into_non_null(self) -> Option<Self::NonNull>;
}

impl<T: Clone + Send + 'static> Nullable for Option<T> {
    type NonNull = T;

    fn as_non_null(&self) -> Option<&T> {
        self.as_ref()
    }

    fn into_non_null(self) -> Option<T> {
        self
    }
}

/// Declares that values of a type are never null: `non_null!(Order, Customer);`
#[macro_export]
macro_rules! non_null {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::Nullable for $type {
            type NonNull = Self;

            fn as_non_null(&self) -> Option<&Self> {
                Some(self)
            }

            fn into_non_null(self) -> Option<Self> {
                Some(self)
            }
        }
    )+};
}

non_null!(String, Arc<str>, Bytes, Vec<u8>, bool, i32, i64, u32, u64, f32, f64, ());
