//! Dashboards as files: what they ask for, and whether they keep the rules. Needs no Prometheus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Metrics that are Prometheus's own.
const PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A dashboard and its file's name.
#[derive(Debug, Clone)]
pub(crate) struct Dashboard {
    pub(crate) file: String,
    pub(crate) content: Value,
}

/// A query of a panel.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) expr: String,
}

impl Dashboard {
    /// Every dashboard, by file name.
    pub(crate) fn all() -> Vec<Self> {
        let folder = root().join("docker/grafana/dashboards");
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: &PathBuf| Self {
            file: path.file_name().unwrap().to_string_lossy().into_owned(),
            content: serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
        };
        paths.iter().map(read).collect()
    }

    pub(crate) fn panels(&self) -> &Vec<Value> {
        self.content["panels"].as_array().unwrap()
    }

    /// The queries of all panels.
    pub(crate) fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{}: {}", self.file, panel["title"].as_str().unwrap_or("?"));
                let expr = target["expr"].as_str().unwrap_or_default().to_owned();
                queries.push(Query { place, expr });
            }
        }
        queries
    }

    /// The variables that are queries: name and `label_values(…)`.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let list = self.content["templating"]["list"].as_array().unwrap();
        let queries = list.iter().filter(|variable| variable["type"] == "query");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        queries.map(|one| (text(&one["name"]), text(&one["query"]["query"]))).collect()
    }

    /// What breaks the rules.
    pub(crate) fn problems(&self, known: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        let names: Vec<String> = self.variables().into_iter().map(|(name, _)| name).collect();
        if names != ["application", "topology", "instance"] {
            found.push(format!("{}: found the variables {names:?}", self.file));
        }
        let mut ids = BTreeSet::new();
        for panel in self.panels() {
            let place = format!("{}: {}", self.file, panel["title"].as_str().unwrap_or("?"));
            let mut say = |what: &str| found.push(format!("{place}: {what}"));
            if !ids.insert(panel["id"].as_i64()) {
                say("its id is another's too");
            }
            if panel["type"] == "row" {
                continue;
            }
            let is_empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
            if is_empty(&panel["title"]) || is_empty(&panel["description"]) {
                say("no title or no description");
            }
            if is_empty(&panel["fieldConfig"]["defaults"]["unit"]) {
                say("no unit");
            }
            if panel["targets"].as_array().is_none_or(Vec::is_empty) {
                say("no query");
            }
        }
        found.extend(
            overlaps(self.panels()).into_iter().map(|both| format!("{}: {both}", self.file)),
        );
        for Query { place, expr } in self.queries() {
            found.extend(
                expr_problems(&expr, known).into_iter().map(|what| format!("{place}: {what}")),
            );
        }
        found
    }
}

fn overlaps(panels: &[Value]) -> Vec<String> {
    let side = |panel: &Value, name: &str| panel["gridPos"][name].as_i64().unwrap_or(-1);
    let apart = |a: &Value, b: &Value, at: &str, size: &str| {
        side(a, at) + side(a, size) <= side(b, at) || side(b, at) + side(b, size) <= side(a, at)
    };
    let mut found = Vec::new();
    for (index, one) in panels.iter().enumerate() {
        if side(one, "x") < 0 || side(one, "x") + side(one, "w") > 24 {
            found.push(format!("{} lies outside", one["title"]));
        }
        for other in &panels[index + 1..] {
            if !apart(one, other, "x", "w") && !apart(one, other, "y", "h") {
                found.push(format!("{} overlaps {}", one["title"], other["title"]));
            }
        }
    }
    found
}

fn expr_problems(expr: &str, known: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for name in metric_names(expr) {
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = known.contains(&name)
            || base.is_some_and(|base| known.contains(base))
            || PROMETHEUS.contains(&name.as_str());
        if !is_known {
            found.push(format!("found metric {name}, which docs/metrics.md does not have"));
        }
    }
    let is_of_the_service = !metric_names(expr).iter().all(|name| name == "ALERTS");
    if is_of_the_service && !expr.contains("job=\"$application\"") {
        found.push("a query that the variables do not limit".to_owned());
    }
    if expr.contains("rate(") && !expr.contains("[$__rate_interval]") && !has_own_window(expr) {
        found.push("a rate without $__rate_interval".to_owned());
    }
    found
}

/// Windows that say their length in the panel's description.
fn has_own_window(expr: &str) -> bool {
    ["[1m]", "[5m]", "[1h]", "[24h]"].iter().any(|window| expr.contains(window))
}

/// The metrics of an expression: names with the prefixes of the service, and Prometheus's own before a brace.
pub(crate) fn metric_names(expr: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names = BTreeSet::new();
    let mut rest = expr;
    while let Some(start) = rest.find(is_part) {
        let word = &rest[start..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let is_service = ["kstreams_", "svc_", "process_"].iter().any(|p| word.starts_with(p));
        if is_service || (after.starts_with('{') && PROMETHEUS.contains(&word)) {
            names.insert(word.to_owned());
        }
        rest = after;
    }
    names
}

/// The metrics that docs/metrics.md has.
pub(crate) fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    page.lines().filter_map(name).collect()
}
