//! Which region has a manager. Keyed by manager_id; cold path.
//!
//! The directory topic is compacted: the newest record of a manager is the whole truth, null means gone. A manager has one
//! home region; this task remembers it, so that a changed region leaves the old one and joins the new one. Messages to one region about
//! one manager keep their order, those to different regions do not: the manager may take requests in both for a moment.

use serde::{Deserialize, Serialize};

use super::rules::{ManagerId, RegionInput, ToRegion};

/// A manager as the directory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Home region.
    pub region: String,
    /// Open requests at a time.
    pub capacity: u32,
    /// Whether the manager takes requests.
    pub active: bool,
}

/// The messages that follow from a manager's old and new entry. A repeated record gives none.
pub fn directory_changes(
    manager_id: ManagerId,
    old: Option<&DirectoryEntry>,
    new: Option<&DirectoryEntry>,
) -> Vec<ToRegion> {
    let mut out = Vec::new();
    if old == new {
        return out;
    }
    let left = old.filter(|old| new.is_none_or(|new| new.region != old.region));
    if let Some(left) = left {
        let input = RegionInput::ManagerLeft(manager_id);
        out.push(ToRegion { region: left.region.clone(), input });
    }
    if let Some(DirectoryEntry { region, capacity, active }) = new {
        let input = RegionInput::Manager { manager_id, capacity: *capacity, active: *active };
        out.push(ToRegion { region: region.clone(), input });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(region: &str, capacity: u32) -> DirectoryEntry {
        DirectoryEntry { region: region.to_owned(), capacity, active: true }
    }

    fn joined(region: &str, capacity: u32) -> ToRegion {
        let input = RegionInput::Manager { manager_id: 7, capacity, active: true };
        ToRegion { region: region.to_owned(), input }
    }

    fn left(region: &str) -> ToRegion {
        ToRegion { region: region.to_owned(), input: RegionInput::ManagerLeft(7) }
    }

    #[test]
    fn managers_join_change_move_and_leave() {
        let (north, more, south) = (entry("north", 2), entry("north", 3), entry("south", 2));
        assert_eq!(directory_changes(7, None, Some(&north)), [joined("north", 2)]);
        assert_eq!(directory_changes(7, Some(&north), Some(&north)), [], "a repeated record");
        assert_eq!(directory_changes(7, Some(&north), Some(&more)), [joined("north", 3)]);
        let moved = directory_changes(7, Some(&north), Some(&south));
        assert_eq!(moved, [left("north"), joined("south", 2)]);
        assert_eq!(directory_changes(7, Some(&north), None), [left("north")]);
        assert_eq!(directory_changes(7, None, None), [], "a deletion of nobody");
    }
}
