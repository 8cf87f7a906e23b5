//! TLS, logins and rights: the program on a listener that demands them.
//!
//! Brokers know the users of scripts/test.sh, each with the password NAME-secret. The listener of the other tests may do everything, and
//! sets the stage here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aggregator::catalog::CATALOG;
use kstreams::{Clock, SystemClock};
use test_support::{DEADLINE, Outcome, Process, Signal, produce, wait_until};

use crate::ledger::Ledger;
use crate::load::Load;
use crate::site::{Instance, Site, TASKS, ask};

/// A user without rights.
const NOBODY: &str = "nobody";
/// Requests of each of the lives below.
const WAVE: usize = 2_000;
const SEED: u64 = 20_260_401;
/// A start that cannot be is over by then.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

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

/// Runs a start that cannot be; gives the one line that it says.
#[track_caller]
fn refused(site: &Site, settings: &[(&'static str, String)]) -> String {
    let mut command = site.command(&["run", "manager-assignment", "--set", "log.level=warn"]);
    for (key, value) in settings {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let clock = SystemClock::default();
    let start = clock.monotonic();
    let mut process = Process::start(command);
    let status = process.wait(DEADLINE);
    let took = clock.monotonic() - start;
    let lines = process.lines();
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:#?}");
    assert!(took < REFUSED_WITHIN, "{took:?}");
    eprintln!("after {took:?}: {}", lines[0]);
    lines[0].strip_prefix("error: ").unwrap().to_owned()
}

#[track_caller]
fn assert_tells(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("-secret"), "{text}");
}

fn with(
    settings: &[(&'static str, String)],
    key: &'static str,
    value: &str,
) -> Vec<(&'static str, String)> {
    let mut changed = settings.to_vec();
    changed.push((key, value.to_owned()));
    changed
}

#[test]
fn a_refused_login_an_unknown_authority_and_a_missing_right_are_one_line_each() {
    let site = Site::new();
    let good = login(NOBODY, "SCRAM-SHA-512");
    let bootstrap = variable("KSTREAMS_TEST_SECURE_BOOTSTRAP");

    let text = refused(&site, &with(&good, "client.sasl.password", "wrong-secret"));
    assert_tells(
        &text,
        &[
            "refuse the login of user \"nobody\" with SCRAM-SHA-512",
            &bootstrap,
            "correct sasl.username",
        ],
    );
    let text = refused(&site, &with(&good, "client.ssl.ca.location", &tls("other-ca.pem")));
    assert_tells(
        &text,
        &["shows a certificate", "other-ca.pem", "correct ssl.ca.location", &bootstrap],
    );
    let text = refused(&site, &with(&good, "client.ssl.ca.location", "/nonexistent.pem"));
    assert_tells(&text, &["/nonexistent.pem", "ssl.ca.location"]);
    let text = refused(&site, &with(&good, "client.sasl.mechanism", "GSSAPI"));
    assert_tells(&text, &["GSSAPI", "sasl.mechanism"]);

    // Right by right: what is missing next is told.
    let commands = printed(&site, "manager-assignment", NOBODY);
    let [sources, sinks, internal, transactions, group, _] =
        commands.lines().skip(1).collect::<Vec<_>>()[..]
    else {
        panic!("{commands}")
    };
    // Topics have the same names in every run: what an earlier one on these brokers has granted is taken away.
    grant(&commands.replace(" --add ", " --remove --force "));
    let application = site.topic("").trim_end_matches('-').to_owned();
    let missing = |wanted: &[&str], cure: &str| {
        let text = refused(&site, &good);
        assert_tells(&text, wanted);
        assert_tells(&text, &["wanted an ACL", "`aggregator acls --principal User:nobody`"]);
        grant(cure);
    };
    let topics = "\"managers\", \"request-events\", \"workflow-events\"";
    missing(&[topics, "TopicAuthorizationFailed"], sources);
    missing(&[&format!("\"{application}\""), "GroupAuthorizationFailed"], group);
    missing(&[&format!("\"{application}-"), "TopicAuthorizationFailed"], internal);

    // What is only missed by a thread that runs: the log tells of it too, and the last line is the same.
    let fails = |app: &mut Instance, wanted: &str| {
        assert_eq!(app.process.wait(DEADLINE).code(), Some(1));
        let last = app.process.lines().pop().unwrap();
        assert_tells(&last, &["error: manager-assignment: ", wanted]);
        assert_tells(&last, &["wanted an ACL", "`aggregator acls --principal User:nobody`"]);
    };
    fails(&mut site.start("state", &borrowed(&good)), "TransactionalIdAuthorizationFailed");
    grant(transactions);
    let mut app = site.start("state", &borrowed(&good));
    app.wait_for_tasks(TASKS);
    let mut load = Load::new(SEED);
    produce("managers", &load.managers(), Outcome::Plain);
    produce("request-events", &load.requests(10), Outcome::Plain);
    fails(&mut app, "TopicAuthorizationFailed");
    grant(sinks);
    let mut app = site.start("state", &borrowed(&good));
    app.wait_for_tasks(TASKS);
    let mut ledger = Ledger::new(&site);
    wait_until("the requests to be assigned", DEADLINE, || {
        ledger.look();
        ledger.is_settled(&load)
    });
    app.stop();
}

/// Every topology as a user of its own, who has the rights that are printed for it and no others.
#[test]
fn every_topology_works_with_the_rights_that_are_printed_for_it() {
    let site = Site::new();
    let commands: Vec<String> =
        CATALOG.iter().map(|spec| printed(&site, spec.name, spec.name)).collect();
    grant(&commands.join("\n"));
    let mut apps: Vec<Instance> = CATALOG
        .iter()
        .map(|spec| {
            let mut settings = login(spec.name, "SCRAM-SHA-512");
            // Nobody has contacts, and no mail server answers: both are told on notification-events, soon.
            for (key, value) in [
                ("kafka.repartition_purge_interval_ms", "500"),
                ("notifications.contact_wait_ms", "200"),
                ("notifications.facts_wait_ms", "200"),
                ("delivery.email.host", "127.0.0.1"),
                ("delivery.email.port", "1"),
                ("delivery.email.encryption", "none"),
                ("delivery.contact_wait_ms", "200"),
                ("delivery.give_up_after_ms", "200"),
            ] {
                settings.push((key, value.to_owned()));
            }
            site.start_these(spec.name, &[spec.name], &borrowed(&settings))
        })
        .collect();
    for app in &mut apps {
        app.process.wait_for_line("\"to\":\"RUNNING\"", 2 * DEADLINE);
    }
    let mut traffic = Process::start(
        site.command(&["simulate", "--rate", "40", "--seed", "7", "--poison", "0.02"]),
    );
    for (app, spec) in apps.iter_mut().zip(CATALOG) {
        for sink in spec.sinks {
            wait_until(&format!("{} to write to {sink}", spec.name), DEADLINE, || {
                assert_eq!(app.process.exit_status(), None, "{}", app.process.tail());
                produced(app, sink) > 0.0
            });
        }
    }
    traffic.signal(Signal::Interrupt);
    assert!(traffic.wait(DEADLINE).success(), "{}", traffic.tail());
    for app in &mut apps {
        assert_clean(&app.process);
        app.stop();
    }
}

/// Records that an instance has written to a topic.
fn produced(app: &mut Instance, topic: &str) -> f64 {
    let metrics = ask(&app.address(), "/metrics").unwrap_or_default();
    let label = format!("topic=\"{topic}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("kstreams_topic_records_produced_total{") && line.contains(&label)
    });
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
