//! A real Prometheus, and its HTTP interface.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use test_support::{DEADLINE, Process, prometheus_folder, wait_until};

use crate::FACTOR;
use crate::lint::root;
use crate::stack::free_port;

/// A running server; killed when dropped.
pub(crate) struct Prometheus {
    _process: Process,
    address: String,
}

impl Prometheus {
    /// Scrapes `targets` every second, with the alert rules of the repository, their times divided.
    pub(crate) fn start(folder: &Path, targets: &[String]) -> Self {
        let rules = std::fs::read(root().join("docker/prometheus/alerts.yml")).unwrap();
        std::fs::write(folder.join("alerts.yml"), shortened(&rules)).unwrap();
        let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs:\n  - job_name: aggregator\n    static_configs: [{{ targets: [{}] }}]\n",
            targets.join(", ")
        );
        let config_file = folder.join("prometheus.yml");
        std::fs::write(&config_file, config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(prometheus_folder().join("prometheus"));
        command
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"));
        let mut process = Process::start(command);
        process.wait_for_line("Server is ready", DEADLINE);
        Self { _process: process, address }
    }

    /// Asks `/api/v1/<path>`; the answer's data, or the error that Prometheus tells.
    pub(crate) fn ask(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let mut request = agent.get(&url);
        for (name, value) in form {
            request = request.query(*name, *value);
        }
        let mut answer = request.call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// Waits until an alert fires.
    pub(crate) fn wait_for_alert(&self, name: &str) {
        let query = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        wait_until(&format!("alert {name}"), DEADLINE, || {
            let found = self.ask("query", &[("query", &query)]).unwrap();
            !found["result"].as_array().unwrap().is_empty()
        });
    }
}

fn shortened(rules: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new("python3")
        .arg(root().join("docker/prometheus/scale.py"))
        .arg(FACTOR.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rules).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Runs promtool beside the rules.
pub(crate) fn promtool(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(prometheus_folder().join("promtool"))
        .args(arguments)
        .current_dir(root().join("docker/prometheus"))
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
