//! `aggregator doctor` on a real Kafka and registry: all is well, then one fault after the other, each found with its cure.
#![cfg(feature = "broker-tests")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "broker/site.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod site;

use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use aggregator::doctor::{self, Finding, Findings, Status};
use aggregator::schemas::{Contract, embedded};
use aggregator::settings::Loaded;
use kstreams::serdes::{HttpRegistry, RegistryConfig, SchemaRegistry as _};
use kstreams::{Clock, MockClock, SystemClock};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use test_support::{
    DEADLINE, Signal, Topic, bootstrap, consumer, create_topic, delete_topics, producer,
    registry_url, wait_until,
};

use site::Site;

/// Long enough to look at a group whose member was killed.
const SESSION: (&str, &str) = ("kafka.session_timeout_ms", "60000");
/// An address at which nothing answers: ports below 1024 are nobody's here.
const NOBODY: &str = "127.0.0.1:9";

fn look_at(site: &Site, clock: Arc<dyn Clock>, settings: &[(&str, &str)]) -> Findings {
    let command = site.command(&[]);
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let environment = command.get_envs().map(|(name, value)| (text(name), text(value.unwrap())));
    let flags = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let loaded = Loaded::load(&[], environment, &flags.collect::<Vec<_>>()).unwrap();
    doctor::examine(&loaded.settings, &clock).unwrap()
}

fn look(site: &Site, settings: &[(&str, &str)]) -> Findings {
    look_at(site, Arc::new(SystemClock::default()), settings)
}

#[track_caller]
fn assert_well(findings: &Findings) {
    let ill: Vec<&Finding> = findings.0.iter().filter(|one| one.status != Status::Ok).collect();
    assert!(ill.is_empty(), "{ill:#?}");
}

/// Whether a finding of this kind names what was found and the cure.
fn names(
    findings: &Findings,
    (check, status): (&str, Status),
    about: &str,
    found: &str,
    cure: &str,
) -> bool {
    findings.0.iter().any(|one| {
        one.check == check
            && one.status == status
            && one.about.contains(about)
            && one.found.contains(found)
            && one.cure.contains(cure)
    })
}

#[track_caller]
fn assert_names(findings: &Findings, kind: (&str, Status), about: &str, found: &str, cure: &str) {
    assert!(
        names(findings, kind, about, found, cure),
        "no {kind:?} of {about}: {found} -> {cure} in\n{}",
        findings.text()
    );
}

fn run(site: &Site, arguments: &[&str]) {
    let output = site.command(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn alter(topic: &str, name: &str, value: &str) {
    let config = ClientConfig::new().set("bootstrap.servers", bootstrap()).to_owned();
    let admin: AdminClient<_> = config.create().unwrap();
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(admin.alter_configs([&alter], &AdminOptions::new())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Deletes a subject for good, so that the next registration is its first version.
fn delete_subject(subject: &str) {
    for query in ["", "?permanent=true"] {
        // One that is not there is as good.
        let _ = ureq::delete(format!("{}/subjects/{subject}{query}", registry_url())).call();
    }
}

/// Other tests have been here: contracts in versions of their own are theirs, not faults.
fn well_site() -> Site {
    embedded().unwrap().iter().for_each(|contract| delete_subject(&contract.subject));
    Site::new()
}

/// A topology's application id.
fn application(site: &Site, topology: &str) -> String {
    site.topic_of(topology, "").trim_end_matches('-').to_owned()
}

fn contract(event_type: &str) -> Contract {
    embedded().unwrap().into_iter().find(|one| one.event_type == event_type).unwrap()
}

#[test]
fn each_planted_fault_is_found_with_its_cure_and_a_healthy_system_has_none() {
    let site = well_site();
    assert_well(&look(&site, &[]));
    a_running_instance_is_well_and_a_dead_one_is_named(&site);
    what_does_not_answer(&site);
    settings_that_the_brokers_refuse(&site);
    topics_that_are_not_as_specified(&site);
    contracts_that_are_not_ours(&site);
    this_machine(&site);
    records_and_offsets_out_of_place(&site);
}

fn a_running_instance_is_well_and_a_dead_one_is_named(site: &Site) {
    let mut app = site.start("state", &[SESSION]);
    let bind = app.address();
    app.process.wait_for_line("RUNNING", DEADLINE);
    let settings = [SESSION, ("http.bind", &*bind)];
    assert_well(&look(site, &settings));
    app.process.signal(Signal::Kill);
    app.process.wait(DEADLINE);
    let findings = look(site, &settings);
    let kind = ("group", Status::Warn);
    assert_names(
        &findings,
        kind,
        &application(site, "manager-assignment"),
        &bind,
        "start that instance again",
    );
    assert!(findings.is_good(), "{}", findings.text());
}

fn what_does_not_answer(site: &Site) {
    let quick = ("kafka.default_api_timeout_ms", "1500");
    let findings = look(site, &[("kafka.bootstrap_servers", NOBODY), quick]);
    assert_names(
        &findings,
        ("brokers", Status::Fail),
        NOBODY,
        "no broker answered",
        "correct kafka.bootstrap_servers",
    );
    assert_names(&findings, ("registry", Status::Ok), "", "answers", "");
    let nobody = format!("http://{NOBODY}");
    let findings = look(site, &[("schema_registry.url", &*nobody)]);
    assert_names(
        &findings,
        ("registry", Status::Fail),
        &nobody,
        "found no answer",
        "correct schema_registry.url",
    );
    assert_names(&findings, ("topics", Status::Ok), "", "as specified", "");
    let mail = [("delivery.email.host", "127.0.0.1"), ("delivery.email.port", "9")];
    assert_names(
        &look(site, &mail),
        ("provider", Status::Warn),
        "delivery.email",
        NOBODY,
        "start it",
    );

    // What the command says, and its exit code.
    let arguments = ["doctor", "--json", "--schema-registry-url", &nobody];
    let output = site.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = said["findings"].as_array().unwrap().iter().find(|one| one["status"] == "fail");
    assert_eq!((&said["ok"], &failed.unwrap()["check"]), (&false.into(), &"registry".into()));
    let output = site.command(&["doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.ends_with("0 fail\n"), "{text}");
}

fn settings_that_the_brokers_refuse(site: &Site) {
    let short = [("kafka.session_timeout_ms", "3000"), ("kafka.heartbeat_interval_ms", "1000")];
    let kind = ("settings", Status::Fail);
    let findings = look(site, &short);
    assert_names(
        &findings,
        kind,
        "group.min.session.timeout.ms",
        "found 6000",
        "raise kafka.session_timeout_ms",
    );
    let findings = look(site, &[("kafka.transaction_timeout_ms", "900001")]);
    assert_names(
        &findings,
        kind,
        "transaction.max.timeout.ms",
        "found 900000",
        "lower kafka.transaction_timeout_ms",
    );
    let once = [
        ("kafka.transaction_timeout_ms", "900001"),
        ("kafka.processing_guarantee", "at_least_once"),
    ];
    assert!(look(site, &once).is_good(), "no transactions, no fault");
}

fn topics_that_are_not_as_specified(site: &Site) {
    let letters = site.topic_of("notifications", "contacts-dlq");
    let apply = "aggregator topics apply";
    delete_topics(&[&letters]);
    assert_names(&look(site, &[]), ("topics", Status::Fail), &letters, "found none", apply);

    create_topic(Topic { name: &letters, partitions: 2, config: &[] });
    assert_names(
        &look(site, &[]),
        ("topics", Status::Fail),
        &letters,
        "found 2 partitions, wanted 3",
        apply,
    );
    run(site, &["topics", "apply"]);

    for (check, name, value, found) in [
        ("topics", "retention.ms", "1000", "found retention.ms = 1000, wanted 2592000000"),
        ("topics", "cleanup.policy", "compact", "found cleanup.policy = compact, wanted delete"),
        (
            "in-sync",
            "min.insync.replicas",
            "2",
            "found min.insync.replicas = 2, more than the 1 replicas",
        ),
    ] {
        alter(&letters, name, value);
        let kind = (check, Status::Fail);
        wait_until("the fault to be seen", DEADLINE, || {
            names(&look(site, &[]), kind, &letters, found, apply)
        });
        run(site, &["topics", "apply"]);
    }
    assert_well(&look(site, &[SESSION]).without_the_dead());
}

fn contracts_that_are_not_ours(site: &Site) {
    let contract = contract("hr.payment_processed");
    let registry = HttpRegistry::new(RegistryConfig::new(&registry_url())).unwrap();
    delete_subject(&contract.subject);
    let push = "aggregator schemas push";
    assert_names(
        &look(site, &[]),
        ("contracts", Status::Fail),
        &contract.subject,
        "found no such subject",
        push,
    );

    // Another team registers a schema of its own there: nothing holds it back.
    let foreign = r#"{"type":"record","name":"HrPaymentProcessed","namespace":"aggregator.events","doc":"x",
        "fields":[{"name":"amount","type":"boolean","doc":"x"}]}"#;
    registry.register(&contract.subject, foreign).unwrap();
    let findings = look(site, &[]);
    assert_names(
        &findings,
        ("contracts", Status::Fail),
        &format!("{} version 1", contract.subject),
        "",
        "take it out of the registry",
    );
    assert_names(
        &findings,
        ("contracts", Status::Fail),
        &contract.subject,
        "found other versions only",
        push,
    );
    delete_subject(&contract.subject);
    run(site, &["schemas", "push"]);
    registry.set_compatibility(&contract.subject, "NONE").unwrap();
    assert_names(
        &look(site, &[]),
        ("contracts", Status::Warn),
        &contract.subject,
        "level NONE",
        push,
    );
    run(site, &["schemas", "push"]);
    assert_well(&look(site, &[]).without_the_dead());
}

fn this_machine(site: &Site) {
    let all = i64::MAX.to_string();
    let findings = look(site, &[("doctor.disk_free_min_bytes", &*all)]);
    assert_names(&findings, ("disk", Status::Fail), "state", "bytes free, wanted", "make room");

    let file = site.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let folder = file.display().to_string();
    let findings = look(site, &[("kafka.state_dir", &*folder)]);
    assert_names(
        &findings,
        ("state", Status::Fail),
        &folder,
        "not writable",
        "set kafka.state_dir",
    );

    let application = application(site, "hr-documents");
    let own = site.folder().join("state").join(&application);
    std::fs::create_dir_all(&own).unwrap();
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).open(own.join("process")).unwrap();
    lock.lock().unwrap();
    let findings = look(site, &[]);
    assert_names(
        &findings,
        ("state", Status::Warn),
        &application,
        "another process holds it",
        "stop that process",
    );
    drop(lock);

    let hour = Duration::from_secs(3600);
    for (now, found) in [
        (SystemClock::default().now() - hour, "ahead of ours"),
        (SystemClock::default().now() + hour, "behind ours"),
    ] {
        let findings = look_at(site, Arc::new(MockClock::new(now)), &[]);
        assert_names(&findings, ("clock", Status::Fail), &registry_url(), found, "NTP");
    }
    assert_well(&look(site, &[]).without_the_dead());
}

fn records_and_offsets_out_of_place(site: &Site) {
    // As confluent-kafka writes in Python, Go and .NET unless it is told otherwise.
    let foreign = producer(&[("partitioner", "consistent_random")]);
    for key in 0..20 {
        let key = key.to_string();
        foreign.send(BaseRecord::<_, [u8]>::to("hr-events").key(&key)).map_err(|(e, _)| e).unwrap();
    }
    foreign.flush(DEADLINE).unwrap();
    let findings = look(site, &[]);
    assert_names(
        &findings,
        ("partitioner", Status::Fail),
        "hr-events",
        "where CRC32 puts them",
        "partitioner=murmur2_random",
    );

    let values: [&[u8]; 2] = [b"{\"json\": 1}", &[0, 0, 0x7f, 0xff, 0xff, 2]];
    let ours = producer(&[]);
    for value in values {
        ours.send(BaseRecord::to("security-events").key("1").payload(value))
            .map_err(|(e, _)| e)
            .unwrap();
    }
    ours.flush(DEADLINE).unwrap();
    let findings = look(site, &[]);
    assert_names(
        &findings,
        ("frames", Status::Warn),
        "security-events",
        "found 1 of 2 sampled values without",
        "Avro serializer",
    );
    assert_names(
        &findings,
        ("frames", Status::Fail),
        "security-events",
        "the registry does not know",
        "schema_registry.url",
    );

    // Somebody has set a clock an hour ahead.
    let now = SystemClock::default().now() + Duration::from_secs(3600);
    let record = BaseRecord::<_, [u8]>::to("contacts").key("customer:1").timestamp(now.as_millis());
    ours.send(record).map_err(|(e, _)| e).unwrap();
    ours.flush(DEADLINE).unwrap();
    assert_names(
        &look(site, &[]),
        ("clock", Status::Fail),
        "contacts",
        "in the future",
        "of the producer",
    );

    // The topic was deleted and made anew while the group was away.
    let group = application(site, "hr-documents");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("hr-events", 0, Offset::Offset(1_000)).unwrap();
    consumer(&[("group.id", &group)]).commit(&offsets, CommitMode::Sync).unwrap();
    let findings = look(site, &[]);
    assert_names(
        &findings,
        ("offsets", Status::Fail),
        &group,
        "was made anew",
        "reset the group's offsets",
    );
}

/// What is left where the killed instance of the first step is not counted.
trait WithoutTheDead {
    fn without_the_dead(self) -> Self;
}

impl WithoutTheDead for Findings {
    fn without_the_dead(mut self) -> Self {
        self.0.retain(|one| one.check != "group");
        self
    }
}
