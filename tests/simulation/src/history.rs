//! What happened in a run: a hash always, so that two runs of a seed can be compared, and the text where somebody wants to read it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct History {
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
}

impl History {
    pub(crate) fn recorded() -> Self {
        Self { lines: Some(Vec::new()), ..Self::default() }
    }

    pub(crate) fn turn(&mut self, now: Duration, fiber: usize) {
        (now, fiber).hash(&mut self.hash);
    }

    pub(crate) fn note(&mut self, now: Duration, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.4} {}", now.as_secs_f64(), text()));
        }
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
