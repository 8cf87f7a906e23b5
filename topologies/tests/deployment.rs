//! The files in docker/ and the cluster of `make cluster`: no container engine is needed, for what containers run is run here.
#![cfg(feature = "broker-tests")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use test_support::{DEADLINE, prometheus_folder, python, run_python, wait_until};

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aggregator"))
}

/// A program of the Python environment of the tests.
fn tool(name: &str, arguments: &[&str]) -> Output {
    let program = python().with_file_name(name);
    Command::new(program).args(arguments).current_dir(root()).output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn files(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> =
        names.filter(|name| name.ends_with(end)).map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}/*{end}");
    files
}

#[test]
fn files_fit_their_published_schemas_and_scripts_their_lints() {
    let compose = ["--builtin-schema", "vendor.compose-spec", "docker/compose.yaml"];
    succeeds(&tool("check-jsonschema", &compose));
    for file in files("docker/kubernetes", ".yaml") {
        // The list of the others is kustomize's own.
        if !file.ends_with("kustomization.yaml") {
            succeeds(&tool("kubernetes-validate", &["--strict", &file]));
        }
    }
    succeeds(&tool("hadolint", &["docker/Dockerfile"]));
    let mut scripts = files("scripts", ".sh");
    scripts.extend(files("docker", ".sh"));
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    succeeds(&tool("shellcheck", &scripts));
    // They do find something.
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yaml");
    let text = fs::read_to_string(root().join("docker/kubernetes/stateful-set.yaml")).unwrap();
    fs::write(&broken, text.replace("serviceName:", "serviceNam:")).unwrap();
    let output = tool("kubernetes-validate", &["--strict", broken.to_str().unwrap()]);
    assert!(!output.status.success(), "{output:?}");
}

/// Without advisories: their list is fetched from elsewhere, by `make check`.
#[test]
fn dependencies_are_those_that_are_allowed() {
    let output = tool("cargo-deny", &["check", "licenses", "bans", "sources"]);
    succeeds(&output);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("warning["), "{text}");
}

/// What a container is started with, by the file's parts.
#[derive(Debug, serde::Deserialize)]
struct Container {
    place: String,
    environment: BTreeMap<String, String>,
    read_only: bool,
    user: Option<i64>,
}

#[test]
fn every_setting_in_them_is_one_and_roots_file_system_is_read_only() {
    let script = root().join("topologies/tests/containers.py");
    let found = run_python(&script, &[root().join("docker")]);
    let containers: Vec<Container> = serde_json::from_str(&found).unwrap();
    let places: Vec<&str> = containers.iter().map(|one| one.place.as_str()).collect();
    let wanted = [
        "compose prepare",
        "compose app-1",
        "compose app-2",
        "Job aggregator-prepare",
        "StatefulSet aggregator",
    ];
    assert_eq!(places, wanted);
    for container in &containers {
        let output = Command::new(program())
            .arg("config")
            .env_clear()
            .envs(&container.environment)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {output:?}", container.place);
        let text = String::from_utf8(output.stdout).unwrap();
        for name in container.environment.keys().filter(|name| name.starts_with("KAFKA_")) {
            assert!(
                text.contains(&format!("# environment {name}\n")),
                "{name} in {}: {text}",
                container.place
            );
        }
        assert!(container.read_only, "{}", container.place);
        assert!(container.user.is_none_or(|user| user == 10_001), "{}", container.place);
    }
    let member = |place: &str| {
        let container = containers.iter().find(|one| one.place == place).unwrap();
        container.environment["KAFKA_GROUP_INSTANCE_ID"].clone()
    };
    assert_eq!(
        (member("compose app-1"), member("compose app-2")),
        ("app-1".into(), "app-2".into())
    );
    assert_eq!(member("StatefulSet aggregator"), "aggregator-0");
}

/// The cluster of `make cluster`, in a folder of the test.
struct Cluster(PathBuf);

impl Cluster {
    fn script(&self, name: &str, arguments: &[&str]) -> Output {
        Command::new(root().join(name))
            .args(arguments)
            .arg(&self.0)
            .env("AGGREGATOR", program())
            .env("KSTREAMS_TEST_PROMETHEUS", prometheus_folder())
            .env("KAFKA_HEAP", "-Xms128m -Xmx256m")
            .output()
            .unwrap()
    }

    /// Processes whose command lines name the folder.
    fn processes(&self) -> Vec<String> {
        let folder = self.0.to_str().unwrap();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(folder)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.0.exists() {
            self.script("scripts/stack.sh", &["stop"]);
        }
    }
}

#[test]
fn the_cluster_without_containers_starts_is_checked_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster(folder.path().join("cluster"));
    let started = cluster.script("scripts/stack.sh", &["start"]);
    succeeds(&started);
    let text = String::from_utf8(started.stdout).unwrap();
    for part in [
        "\nbrokers     127.0.0.1:",
        "\nregistry    http://",
        "\nPrometheus  http://",
        "make cluster-stop",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(text.matches("\ninstance    http://").count(), 2, "{text}");
    assert_eq!(text.matches("ok    ").count(), 3 + 2 + 2 + 1, "{text}");
    // Three brokers, registry, Prometheus, two instances.
    let processes = cluster.processes();
    assert_eq!(processes.len(), 7, "{processes:#?}");
    let again = cluster.script("scripts/stack.sh", &["start"]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("`make cluster-stop` ends it"),
        "{again:?}"
    );

    let environment = fs::read_to_string(cluster.0.join("env")).unwrap();
    let value = |name: &str| {
        let line =
            environment.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap().replace('\\', "")
    };
    let instances = value("STACK_INSTANCES");
    let first = instances.split(' ').next().unwrap();
    // What containers run, on this cluster.
    let run = |script: &str, argument: &str| {
        let path = format!("{}:/usr/bin:/bin", program().parent().unwrap().display());
        Command::new(root().join(script))
            .arg(argument)
            .env_clear()
            .env("PATH", path)
            .env("KAFKA_BOOTSTRAP_SERVERS", value("KAFKA_BOOTSTRAP_SERVERS"))
            .env("KAFKA_SCHEMA_REGISTRY_URL", value("KAFKA_SCHEMA_REGISTRY_URL"))
            .output()
            .unwrap()
    };
    let prepared = run("docker/prepare.sh", "");
    succeeds(&prepared);
    assert!(
        String::from_utf8_lossy(&prepared.stdout).contains(" 0 changes, 0 left"),
        "{prepared:?}"
    );
    let port = first.rsplit_once(':').unwrap().1;
    succeeds(&run("docker/ready.sh", port));
    targets_are_up(&value("STACK_PROMETHEUS"));

    // One that is gone is named.
    let id = fs::read_to_string(cluster.0.join("one.pid")).unwrap();
    assert!(Command::new("kill").args(["-KILL", id.trim()]).status().unwrap().success());
    wait_until("the instance to be gone", DEADLINE, || {
        !run("docker/ready.sh", port).status.success()
    });
    let checked = cluster.script("scripts/health_check.sh", &[]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains(&format!("FAIL  instance {first} is ready")), "{text}");
    assert_eq!(text.matches("FAIL").count(), 1, "{text}");

    succeeds(&cluster.script("scripts/stack.sh", &["stop"]));
    assert_eq!(cluster.processes(), [""; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Prometheus reads both instances, and knows the alerts.
fn targets_are_up(prometheus: &str) {
    let ask = |path: &str| -> Value {
        let mut answer = ureq::get(format!("http://{prometheus}/api/v1/{path}")).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    };
    wait_until("both instances to be read", DEADLINE, || {
        let targets = ask("targets");
        let targets = targets["data"]["activeTargets"].as_array().unwrap().clone();
        targets.len() == 2 && targets.iter().all(|target| target["health"] == "up")
    });
    let rules = ask("rules").to_string();
    assert!(rules.contains("KStreamsInstanceDown"), "{rules}");
}
