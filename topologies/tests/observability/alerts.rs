//! Alerts: the rules by promtool, and five of them fired for real.

use std::time::Instant;

use test_support::Signal;

use crate::prometheus::promtool;
use crate::stack::{Instance, Stack};

#[test]
fn promtool_takes_the_rules_and_their_tests() {
    let (good, text) = promtool(&["check", "rules", "alerts.yml"]);
    assert!(good && text.contains("18 rules found"), "{text}");
    let (good, text) = promtool(&["test", "rules", "alerts_test.yml"]);
    assert!(good, "{text}");
}

/// Another limit is noticed: a copy whose rules are changed fails the tests.
#[test]
fn a_changed_limit_fails_the_tests_of_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let source = crate::lint::root().join("docker/prometheus");
    let tests = folder.path().join("alerts_test.yml");
    std::fs::copy(source.join("alerts_test.yml"), &tests).unwrap();
    let rules = std::fs::read_to_string(source.join("alerts.yml")).unwrap();
    for (right, wrong) in [
        ("[5m]))) > 0.1\n", "[5m]))) > 0.5\n"),
        ("(kstreams_consumer_lag_seconds) > 30\n", "(kstreams_consumer_lag_seconds) > 29\n"),
        ("[1h])) >= 3\n", "[1h])) >= 2\n"),
        (
            "up{job=\"aggregator\"} == 0\n        for: 30s",
            "up{job=\"aggregator\"} == 0\n        for: 20s",
        ),
    ] {
        assert!(rules.contains(right), "{right}");
        std::fs::write(folder.path().join("alerts.yml"), rules.replace(right, wrong)).unwrap();
        let (good, text) = promtool(&["test", "rules", tests.to_str().unwrap()]);
        assert!(!good, "{wrong}: {text}");
    }
}

/// Poison, a broker that is gone, a registry that is gone, a record that waits, an instance that is killed.
pub(crate) fn fire(stack: &mut Stack, second: &mut Instance) {
    #[expect(clippy::disallowed_methods, reason = "tells how long the alerts took")]
    let now = Instant::now;
    let mut table = Vec::new();
    let mut wait = |stack: &Stack, cause: &str, name: &'static str, since: Instant| {
        stack.prometheus.wait_for_alert(name);
        table.push(format!("{name}: {:.1} s after {cause}", (now() - since).as_secs_f64()));
    };
    // The load has poison in it from its start.
    wait(stack, "this was asked", "KStreamsDlqRate", now());
    let since = now();
    stack.kill_broker(3);
    wait(stack, "a broker was killed", "KafkaUnderReplicatedPartitions", since);
    let since = now();
    stack.registry.cut();
    stack.send_with_an_unseen_schema();
    wait(stack, "the registry was cut off", "KStreamsSchemaRegistryDown", since);
    wait(stack, "an old record had to wait", "KStreamsConsumerLagSeconds", since);
    let since = now();
    second.process.signal(Signal::Kill);
    wait(stack, "an instance was killed", "KStreamsInstanceDown", since);
    eprintln!("{}", table.join("\n"));
}
