//! TLS, logins and rights: the program on a listener that demands them.
//!
//! Brokers know the users of scripts/test.sh, each with the password NAME-secret. The listener of the other tests may do everything, and
//! sets the stage here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_support::{DEADLINE, Outcome, Process, produce, wait_until};

use crate::ledger::Ledger;
use crate::load::Load;
use crate::site::{Site, TASKS};

/// Requests of each of the lives below.
const WAVE: usize = 2_000;
const SEED: u64 = 20_260_401;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by `cluster.sh start … --users`"))
}

fn tls(file: &str) -> String {
    PathBuf::from(variable("KSTREAMS_TEST_TLS")).join(file).display().to_string()
}

/// Settings with which `user` logs in.
fn login(user: &str, mechanism: &str) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("kafka.bootstrap_servers", variable("KSTREAMS_TEST_SECURE_BOOTSTRAP")),
        ("client.security.protocol", "SASL_SSL".to_owned()),
        ("client.ssl.ca.location", tls("ca.pem")),
        ("client.sasl.mechanism", mechanism.to_owned()),
    ];
    settings.extend(match mechanism {
        "OAUTHBEARER" => vec![
            ("client.enable.sasl.oauthbearer.unsecure.jwt", "true".to_owned()),
            ("client.sasl.oauthbearer.config", format!("principal={user}")),
        ],
        _ => vec![
            ("client.sasl.username", user.to_owned()),
            ("client.sasl.password", format!("{user}-secret")),
        ],
    });
    settings
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// What `aggregator acls` prints for a topology and a user.
fn printed(site: &Site, topology: &str, user: &str) -> String {
    let principal = format!("User:{user}");
    let output = site.command(&["acls", topology, "--principal", &principal]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Does what was printed, by Kafka's own tool.
fn grant(commands: &str) {
    let java = std::env::var("JAVA_HOME").map_or("java".to_owned(), |home| home + "/bin/java");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let log = root.join("../tests/cluster/log4j2.properties");
    let mut process = Command::new(java)
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(format!("-Dlog4j2.configurationFile={}", log.display()))
        .args(["-cp", &variable("KSTREAMS_TEST_JAVA_CLASSPATH")])
        .arg(root.join("tests/broker/Acls.java"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Each life of the job logs in another way; each is killed, and the next one goes on.
#[test]
fn the_job_runs_exactly_once_over_tls_with_the_rights_that_are_printed() {
    let user = "manager-assignment";
    let site = Site::new();
    grant(&printed(&site, user, user));
    let mut load = Load::new(SEED);
    produce("managers", &load.managers(), Outcome::Plain);
    let mut ledger: Option<Ledger> = None;
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] {
        let mut settings = login(user, mechanism);
        settings.push(("kafka.group_instance_id", "one".to_owned()));
        settings.push(("kafka.repartition_purge_interval_ms", "500".to_owned()));
        let mut app = site.start("state", &borrowed(&settings));
        app.wait_for_tasks(TASKS);
        let ledger = ledger.get_or_insert_with(|| Ledger::new(&site));
        produce("request-events", &load.requests(WAVE), Outcome::Plain);
        wait_until(&format!("the wave of {mechanism} to be settled"), DEADLINE, || {
            ledger.look();
            ledger.is_settled(&load)
        });
        assert_clean(&app.process);
        app.kill();
    }
    let mut whole = Ledger::new(&site);
    wait_until("the ends of all topics", DEADLINE, || whole.look());
    whole.check(&load);
}

/// No line of the log tells of a missing right, or has a password.
#[track_caller]
fn assert_clean(process: &Process) {
    for line in process.lines() {
        let text = line.to_lowercase();
        assert!(!text.contains("authorization") && !text.contains("-secret"), "{line}");
    }
}
