//! The rules that a record must keep to be processed; one that breaks them is a dead letter. Hot path.
//!
//! They go by field name, so that a rule holds wherever the field appears: `…_id` and `…_ids` are not negative, `region` is
//! not empty.

use std::collections::BTreeMap;
use std::time::Duration;

use kstreams::{Error, Result, Timestamp};
use uuid::Uuid;

use super::symbols::{AccessReason, Channel, DocumentType, Priority, RequestStatus, Urgency};
use super::{CompletionData, Envelope, Money};

/// How far an event's timestamp may lie ahead of our clock.
pub const FUTURE_MAX: Duration = Duration::from_secs(3600);

/// Checks the envelope of an event against the wall clock.
///
/// # Errors
/// `BadRecord` for a timestamp more than [`FUTURE_MAX`] ahead of `now`.
pub(super) fn envelope(event: &str, envelope: &Envelope, now: Timestamp) -> Result<()> {
    if envelope.timestamp > now + FUTURE_MAX {
        return Err(broken(
            event,
            "timestamp",
            format_args!("{} ms since the epoch", envelope.timestamp),
            format_args!("at most one hour after now ({now})"),
        ));
    }
    Ok(())
}

/// A field that knows the rules for its name.
pub(super) trait Checked {
    /// Checks the field `name` of `event`.
    ///
    /// # Errors
    /// `BadRecord` naming event, field, what was found and what was wanted.
    fn check(&self, event: &str, name: &str) -> Result<()>;
}

impl Checked for i64 {
    #[inline]
    fn check(&self, event: &str, name: &str) -> Result<()> {
        if *self < 0 && (name.ends_with("_id") || name.ends_with("_ids")) {
            return Err(broken(event, name, self, "an id that is not negative"));
        }
        Ok(())
    }
}

impl Checked for String {
    #[inline]
    fn check(&self, event: &str, name: &str) -> Result<()> {
        if name == "region" && self.is_empty() {
            return Err(broken(event, name, "an empty text", "the name of a region"));
        }
        Ok(())
    }
}

impl<T: Checked> Checked for Option<T> {
    #[inline]
    fn check(&self, event: &str, name: &str) -> Result<()> {
        self.as_ref().map_or(Ok(()), |value| value.check(event, name))
    }
}

impl<T: Checked> Checked for Vec<T> {
    fn check(&self, event: &str, name: &str) -> Result<()> {
        self.iter().try_for_each(|value| value.check(event, name))
    }
}

macro_rules! no_rules {
    ($($type:ty),+) => {
        $(impl Checked for $type {
            #[inline]
            fn check(&self, _: &str, _: &str) -> Result<()> {
                Ok(())
            }
        })+
    };
}

no_rules!(
    bool, i32, f64, Uuid, Timestamp, Money, CompletionData, BTreeMap<String, String>, AccessReason,
    Channel, DocumentType, Priority, RequestStatus, Urgency
);

pub(super) fn broken(
    event: &str,
    field: &str,
    found: impl std::fmt::Display,
    wanted: impl std::fmt::Display,
) -> Error {
    Error::bad_record(format!("{event}, field \"{field}\": found {found}, wanted {wanted}"))
}
