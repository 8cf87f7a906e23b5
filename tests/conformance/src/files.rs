//! Finds cases: a JSON file each, or many packed as one line each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value as Json;

/// A case and where it was found.
pub struct Case {
    /// File, and line where the file is packed.
    pub place: String,
    /// The case.
    pub json: Json,
}

impl Case {
    /// The case's kind: its group, without the generator's prefix.
    pub fn kind(&self) -> &str {
        let group = self.json["group"].as_str().unwrap_or("?");
        group.strip_prefix("random-").unwrap_or(group)
    }
}

/// Reads every case below `path` (`.json`: one case, `.jsonl`: one a line), in the order of names.
pub fn read(path: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in files(path)? {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {name}"))?;
        let mut add = |place: String, text: &str| -> Result<()> {
            let json = serde_json::from_str(text)
                .with_context(|| format!("{place}: found no JSON, wanted a kstreams-case/1"))?;
            cases.push(Case { place, json });
            Ok(())
        };
        if file.extension().is_some_and(|extension| extension == "jsonl") {
            for (number, line) in text.lines().enumerate() {
                add(format!("{name}:{}", number + 1), line)?;
            }
        } else {
            add(name, &text)?;
        }
    }
    Ok(cases)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let is_case = path.extension().is_some_and(|name| name == "json" || name == "jsonl");
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if is_case {
            found.push(path);
        }
    }
    Ok(found)
}
