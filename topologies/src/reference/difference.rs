//! What a file would change.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::current::Current;
use super::entries::Entry;

/// What happens to a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<T> {
    /// The topic does not have it.
    Add(T),
    /// The topic has it otherwise; `None`: as something that cannot be read.
    Change(Option<T>, T),
    /// The file does not have it.
    Remove,
}

/// All changes by key, and what stays.
#[derive(Debug)]
pub struct Difference<T> {
    /// What to write.
    pub changes: BTreeMap<String, Change<T>>,
    /// Keys that are equal on both sides.
    pub unchanged: usize,
    /// Keys of the topic that the file does not have, and that stay.
    pub kept: usize,
}

/// What of a topic's entries the file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Stays.
    Keep,
    /// Is deleted.
    Prune,
}

/// Compares a file with what the topic holds.
pub fn difference<T: Entry>(
    wanted: BTreeMap<String, T>,
    current: &Current<T>,
    missing: Missing,
) -> Difference<T> {
    let (mut changes, mut unchanged, mut kept) = (BTreeMap::new(), 0, 0);
    for key in current.keys().filter(|key| !wanted.contains_key(*key)) {
        match missing {
            Missing::Keep => kept += 1,
            Missing::Prune => {
                changes.insert(key.clone(), Change::Remove);
            }
        }
    }
    for (key, entry) in wanted {
        let change = match current.get(&key) {
            None => Change::Add(entry),
            Some(Some(there)) if *there == entry => {
                unchanged += 1;
                continue;
            }
            Some(there) => Change::Change(there.clone(), entry),
        };
        changes.insert(key, change);
    }
    Difference { changes, unchanged, kept }
}

impl<T: Entry> Difference<T> {
    /// As lines: `+` added, `~` changed field by field, `-` removed; then the counts.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let (mut added, mut changed, mut removed) = (0, 0, 0);
        for (key, change) in &self.changes {
            let _ = match change {
                Change::Add(entry) => {
                    added += 1;
                    writeln!(text, "+ {key}  {}", fields(&object(entry)))
                }
                Change::Change(from, to) => {
                    changed += 1;
                    writeln!(text, "~ {key}  {}", changes(from.as_ref(), to))
                }
                Change::Remove => {
                    removed += 1;
                    writeln!(text, "- {key}")
                }
            };
        }
        let (unchanged, kept) = (self.unchanged, self.kept);
        let _ = writeln!(
            text,
            "{added} added, {changed} changed, {removed} removed, {unchanged} unchanged, \
             {kept} only on the topic and kept{}",
            if kept > 0 { " (--prune removes them)" } else { "" }
        );
        text
    }
}

fn object<T: Entry>(entry: &T) -> Map<String, Value> {
    match serde_json::to_value(entry) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn fields(entry: &Map<String, Value>) -> String {
    let shown = entry.iter().filter(|(_, value)| !value.is_null());
    shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn changes<T: Entry>(from: Option<&T>, to: &T) -> String {
    let to = object(to);
    let Some(from) = from.map(object) else {
        return format!("(unreadable now) → {}", fields(&to));
    };
    let changed = to.iter().filter(|(name, value)| from.get(*name) != Some(value));
    let show = |(name, value): (&String, &Value)| format!("{name} {} → {value}", from[name]);
    changed.map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Manager;

    fn manager(manager_id: i64, capacity: i32) -> (String, Manager) {
        let manager = Manager {
            manager_id,
            name: "Anna".into(),
            email: "a@x".into(),
            region: "north".into(),
            capacity,
            active: true,
        };
        (manager_id.to_string(), manager)
    }

    #[test]
    fn additions_changes_and_removals_are_shown() {
        let current: Current<Manager> = [
            (manager(1, 5).0, Some(manager(1, 5).1)),
            (manager(2, 5).0, Some(manager(2, 5).1)),
            ("4".to_owned(), None),
            ("5".to_owned(), None),
        ]
        .into();
        let wanted =
            || BTreeMap::from([manager(1, 5), manager(2, 7), manager(3, 1), manager(4, 1)]);
        let kept = difference(wanted(), &current, Missing::Keep);
        let text = kept.show();
        assert!(text.contains("~ 2  capacity 5 → 7\n"), "{text}");
        assert!(text.contains("+ 3  active=true capacity=1"), "{text}");
        assert!(text.contains("~ 4  (unreadable now) → "), "{text}");
        assert!(
            text.ends_with("1 added, 2 changed, 0 removed, 1 unchanged, 1 only on the topic and kept (--prune removes them)\n"),
            "{text}"
        );
        let pruned = difference(wanted(), &current, Missing::Prune);
        assert_eq!(pruned.changes["5"], Change::Remove);
        let text = pruned.show();
        assert!(
            text.contains("- 5\n") && text.contains("1 removed, 1 unchanged, 0 only"),
            "{text}"
        );
    }
}
