//! Every query of every panel and variable, as Grafana would send it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::wait_until;

use crate::lint::{Dashboard, Query, metric_names};
use crate::may_be_absent;
use crate::prometheus::Prometheus;
use crate::stack::{PATIENCE, Stack};

/// What Grafana would make of `$__rate_interval` at these scrapes.
const RATE_INTERVAL: &str = "10s";

type Variables = BTreeMap<String, String>;

/// Resolves a dashboard's variables in turn; each may use those before it.
fn resolve(dashboard: &Dashboard, prometheus: &Prometheus) -> Result<Variables, String> {
    let mut variables = Variables::new();
    for (name, query) in dashboard.variables() {
        let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
        let (series, label) = inner.and_then(|q| q.rsplit_once(", ")).ok_or("no label_values")?;
        let series = filled(series, &variables);
        let path = format!("label/{label}/values");
        let values = prometheus.ask(&path, &[("match[]", &series)])?;
        let values: Vec<&str> =
            values.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if values.is_empty() {
            return Err(format!("variable {name}: {query} has no value"));
        }
        // As Grafana joins several values.
        variables.insert(name, values.join("|"));
    }
    Ok(variables)
}

fn filled(query: &str, variables: &Variables) -> String {
    let mut text = query.replace("$__rate_interval", RATE_INTERVAL);
    for (name, value) in variables {
        text = text.replace(&format!("${name}"), value);
    }
    text
}

/// Runs a query over the whole time of the stack; what is wrong with its answer, if anything.
fn trouble(query: &Query, variables: &Variables, stack: &Stack) -> Option<String> {
    let expr = filled(&query.expr, variables);
    let (start, end) = stack.times();
    let (start, end) = (format!("{start:.3}"), format!("{end:.3}"));
    let form = [("query", &*expr), ("start", &start), ("end", &end), ("step", "1")];
    let answer = match stack.prometheus.ask("query_range", &form) {
        Ok(answer) => answer,
        Err(error) => return Some(format!("{}: {error}", query.place)),
    };
    let series = answer["result"].as_array().unwrap();
    let samples = series.iter().flat_map(|one| one["values"].as_array().unwrap());
    let has_number = samples.filter_map(|sample| sample[1].as_str()).any(|value| value != "NaN");
    (!has_number).then(|| format!("{}: no data: {expr}", query.place))
}

fn troubles(stack: &Stack, dashboards: &[Dashboard]) -> Vec<String> {
    let mut found = Vec::new();
    for dashboard in dashboards {
        let variables = match resolve(dashboard, &stack.prometheus) {
            Ok(variables) => variables,
            Err(error) => {
                found.push(format!("{}: {error}", dashboard.file));
                continue;
            }
        };
        let asked = dashboard.queries().into_iter().filter(|query| !is_excused(query));
        found.extend(asked.filter_map(|query| trouble(&query, &variables, stack)));
    }
    found
}

/// Whether a query needs a metric that this run does not make. One that shows zero instead has data all the same.
fn is_excused(query: &Query) -> bool {
    let names = metric_names(&query.expr);
    !query.expr.contains("or vector(") && names.iter().any(|name| may_be_absent(name))
}

/// All dashboards; what cannot be there in this run has its reason in `may_be_absent`.
pub(crate) fn every_panel_has_data(stack: &Stack) {
    let dashboards = Dashboard::all();
    let mut left = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("data in every panel", PATIENCE, || {
            left = troubles(stack, &dashboards);
            left.is_empty()
        });
    }));
    assert!(outcome.is_ok(), "{left:#?}");
    for dashboard in &dashboards {
        let queries = dashboard.queries();
        let excused = queries.iter().filter(|query| is_excused(query)).count();
        eprintln!("{}: {} queries, {excused} not in this run", dashboard.file, queries.len());
    }
}

/// The check can fail: a wrong name has no data, a missing parenthesis is Prometheus's error.
pub(crate) fn a_planted_typo_is_found(stack: &Stack) {
    for (right, wrong, wanted) in [
        ("kstreams_record_e2e_latency_seconds", "kstreams_record_e2e_latncy_seconds", "no data"),
        ("sum by (topic) (rate(", "sum by (topic) (rate((", "parse error"),
    ] {
        let mut one = Dashboard::all().into_iter().find(|one| one.file == "overview.json").unwrap();
        one.content = serde_json::from_str(&one.content.to_string().replace(right, wrong)).unwrap();
        let found = troubles(stack, &[one]);
        assert!(found.iter().any(|trouble| trouble.contains(wanted)), "{wanted}: {found:?}");
    }
    let mut one = Dashboard::all().remove(0);
    one.content["templating"]["list"][1]["query"]["query"] =
        json!("label_values(kstreams_bild_info, job)");
    assert!(troubles(stack, &[one])[0].contains("has no value"));
}
