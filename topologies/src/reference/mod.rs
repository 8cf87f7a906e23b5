//! Reference data from files: managers and contacts, compared with what the topic holds and written in one transaction.
//!
//! ```text
//! file ──► rows (line, fields) ──► entries, checked ──┐
//! topic ──► the latest value of every key ────────────┴──► difference ──► shown, then written
//! ```
//!
//! Called by the commands `managers import` and `contacts import`; cold.

mod csv;
mod current;
mod difference;
mod entries;
mod json;
mod write;

use serde_json::Value;

pub use current::{Current, current};
pub use difference::{Change, Difference, Missing, difference};
pub use entries::{Entry, Field, Kind, entries};
pub use write::write;

/// Findings that are told at once; the rest are counted.
const FINDINGS_MAX: usize = 20;

/// A row of a file, not understood yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it begins, from 1.
    pub line: usize,
    /// Names and values in the file's order.
    pub fields: Vec<(String, Given)>,
}

/// A value as a file gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// CSV knows texts only.
    Text(String),
    /// JSON has types.
    Json(Value),
}

/// What is wrong in a file, by line: all of it, or as much as fits a screen.
#[derive(Debug, Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Notes what is wrong on a line.
    pub fn add(&mut self, line: usize, text: impl std::fmt::Display) {
        self.0.push(format!("line {line}: {text}"));
    }

    /// An error that names them all, unless there are none.
    ///
    /// # Errors
    /// `Invalid` where something was found.
    pub fn into_result(self, file: &str) -> kstreams::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let more = self.0.len().saturating_sub(FINDINGS_MAX);
        let mut text = format!("file \"{file}\": {}", self.0[..self.0.len() - more].join("; "));
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        Err(kstreams::Error::invalid(text + "; nothing was written"))
    }
}
