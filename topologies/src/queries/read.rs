//! What the topologies' reads have in common.

use kstreams::store::ReadOnlyKeyValueStore;
use kstreams::{Error, Handle, QueryableStoreTypes, Result, StoreQueryParameters};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A store of a partition that is here.
///
/// # Errors
/// `Retriable` where it is not.
pub fn open<K: 'static, V: 'static>(
    handle: &Handle,
    store: &str,
    partition: i32,
) -> Result<ReadOnlyKeyValueStore<K, V>> {
    let store_type = QueryableStoreTypes::key_value_store::<K, V>();
    handle.store(
        &StoreQueryParameters::from_name_and_type(store, store_type).with_partition(partition),
    )
}

/// The entry of a key.
///
/// # Errors
/// `Retriable` where the partition is not here.
pub fn get<K: 'static, V: 'static>(
    handle: &Handle,
    store: &str,
    partition: i32,
    key: &K,
) -> Result<Option<V>> {
    open(handle, store, partition)?.get(key)
}

/// A read's argument as a number.
///
/// # Errors
/// `Invalid` for another text.
pub fn number(argument: &str) -> Result<i64> {
    argument.parse().map_err(|_| {
        Error::invalid(format!("found argument \"{argument}\", wanted a whole number"))
    })
}

/// An entry for another instance.
///
/// # Errors
/// `Fatal` for what JSON cannot hold.
pub fn to_json(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::fatal("cannot show an entry").with_source(e))
}

/// What another instance read.
///
/// # Errors
/// `Invalid` for another form: the instances are of different versions.
pub fn from_json<T: DeserializeOwned>(value: Option<Value>) -> Result<T> {
    let wrong = "found an entry of another form; the instances run different versions";
    let value = value.ok_or_else(|| Error::invalid(wrong))?;
    serde_json::from_value(value).map_err(|e| Error::invalid(wrong).with_source(e))
}
