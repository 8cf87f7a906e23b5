//! What operators are given, as files: dashboards that are current and keep the rules, and a page for every alert.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "observability/lint.rs"]
#[allow(dead_code, reason = "shared with the test that runs the queries")]
mod lint;

use std::collections::BTreeSet;
use std::process::Command;

use aggregator::cli::Cli;
use clap::Parser as _;
use lint::{Dashboard, documented, metric_names, root};
use serde_json::{Value, json};

#[test]
fn the_dashboards_are_what_the_table_makes() {
    let script = root().join("docker/grafana/dashboards.py");
    let output = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn eight_dashboards_keep_the_rules() {
    let (all, known) = (Dashboard::all(), documented());
    assert_eq!(all.len(), 8);
    let uids: BTreeSet<&str> = all.iter().map(|one| one.content["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), all.len());
    let problems: Vec<String> = all.iter().flat_map(|one| one.problems(&known)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_planted_fault_is_found() {
    let known = documented();
    let find = |change: &dyn Fn(&mut Value), wanted: &str| {
        let mut one = Dashboard::all().remove(0);
        let panel = one.content["panels"].as_array_mut().unwrap().iter_mut();
        change(panel.filter(|panel| panel["type"] != "row").nth(1).unwrap());
        let problems = one.problems(&known);
        assert!(problems.iter().any(|problem| problem.contains(wanted)), "{wanted}: {problems:?}");
    };
    let expr = |panel: &mut Value, text: &str| panel["targets"][0]["expr"] = json!(text);
    find(&|panel| panel["description"] = json!(""), "no description");
    find(&|panel| panel["fieldConfig"]["defaults"]["unit"] = json!(""), "no unit");
    find(&|panel| panel["targets"] = json!([]), "no query");
    find(&|panel| panel["gridPos"]["x"] = json!(0), "overlaps");
    find(&|panel| panel["gridPos"]["x"] = json!(20), "lies outside");
    find(&|panel| panel["id"] = json!(1), "its id is another's");
    find(&|panel| expr(panel, "svc_evnts_total{job=\"$application\"}"), "svc_evnts_total");
    find(&|panel| expr(panel, "sum(svc_events_total)"), "do not limit");
    let fixed = "rate(svc_events_total{job=\"$application\"}[7m])";
    find(&|panel| expr(panel, fixed), "without $__rate_interval");
}

/// The rules file as blocks, one an alert.
fn alerts() -> Vec<(String, String)> {
    let rules = std::fs::read_to_string(root().join("docker/prometheus/alerts.yml")).unwrap();
    let blocks = rules.split("- alert: ").skip(1);
    let name = |block: &str| block.lines().next().unwrap().trim().to_owned();
    blocks.map(|block| (name(block), block.to_owned())).collect()
}

#[test]
fn every_alert_asks_for_documented_metrics_and_has_its_page() {
    let known = documented();
    let index = std::fs::read_to_string(root().join("docs/runbook/README.md")).unwrap();
    let alerts = alerts();
    assert!(alerts.len() >= 15, "{}", alerts.len());
    for (name, block) in &alerts {
        let page = format!("docs/runbook/{name}.md");
        assert!(block.contains(&format!("runbook_url: {page}")), "{name} names another page");
        let text = std::fs::read_to_string(root().join(&page)).unwrap_or_default();
        for heading in ["## Meaning", "## First look", "## Cure"] {
            assert!(text.contains(heading), "{page} lacks \"{heading}\"");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
        for metric in metric_names(block) {
            let base = metric.strip_suffix("_bucket").unwrap_or(&metric);
            assert!(known.contains(base) || metric == "up", "{name} asks for {metric}");
        }
    }
    let pages = std::fs::read_dir(root().join("docs/runbook")).unwrap().count();
    assert_eq!(pages, alerts.len() + 1, "pages without an alert");
}

#[test]
fn runbooks_name_commands_that_exist() {
    let mut tried = 0;
    for entry in std::fs::read_dir(root().join("docs/runbook")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for command in text.split('`').filter(|text| text.starts_with("aggregator ")) {
            let parsed = Cli::try_parse_from(command.split(' '));
            assert!(parsed.is_ok(), "{}: {command}: {:?}", path.display(), parsed.err());
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
}
