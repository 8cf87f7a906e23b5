//! Precedence, unknown keys, wrong values, and that `config/default.toml` tells the truth.

use super::*;
use crate::settings::LogFormat;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn load(files: &[&str], environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded> {
    let files: Vec<_> = files.iter().map(|text| file(text)).collect();
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path().to_owned()).collect();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    };
    Loaded::load(&paths, owned(environment), &owned(flags))
}

fn refused(files: &[&str], environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(files, environment, flags).unwrap_err().to_string()
}

#[test]
fn flags_go_over_environment_over_later_files_over_earlier_ones() {
    let first =
        "[kafka]\nsession_timeout_ms = 1\nheartbeat_interval_ms = 2\nnum_stream_threads = 3";
    let second = "[kafka]\nheartbeat_interval_ms = 20\nnum_stream_threads = 30\n\
                  session_timeout_ms = 9000";
    let environment = [("KAFKA_NUM_STREAM_THREADS", "300"), ("KAFKA_HEARTBEAT_INTERVAL_MS", "200")];
    let flags = [("kafka.num_stream_threads", "3000")];
    let loaded = load(&[first, second], &environment, &flags).unwrap();
    let kafka = &loaded.settings.kafka;
    let found = (kafka.session_timeout_ms, kafka.heartbeat_interval_ms, kafka.num_stream_threads);
    assert_eq!(found, (9000, 200, 3000));
    let origin = |key: &str| loaded.values[key].1.to_string();
    assert!(origin("kafka.session_timeout_ms").starts_with("file "));
    assert_eq!(origin("kafka.heartbeat_interval_ms"), "environment KAFKA_HEARTBEAT_INTERVAL_MS");
    assert_eq!(origin("kafka.num_stream_threads"), "flag");
    assert_eq!(origin("kafka.state_dir"), "default");
}

#[test]
fn the_environment_knows_every_table() {
    let loaded = load(
        &[],
        &[
            ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2"),
            ("KAFKA_SCHEMA_REGISTRY_URL", "http://r:1"),
            ("KAFKA_CLIENT_ID", "mine"),
            ("KAFKA_CLIENT_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_LOG_FORMAT", "json"),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "anything"),
        ],
        &[],
    );
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.kafka.bootstrap_servers, "a:1,b:2");
    assert_eq!(settings.schema_registry.url, "http://r:1");
    assert_eq!(settings.kafka.client_id, "mine");
    assert_eq!(settings.client["security.protocol"], "SASL_SSL");
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn tables_of_librdkafka_take_any_name_and_any_plain_value() {
    let text = "[client]\nsecurity.protocol = \"SSL\"\n\"ssl.ca.location\" = \"ca.pem\"\n\
                [producer]\n\"linger.ms\" = 7\n[manager_assignment.fallback_regions]\n\
                \"a.b\" = \"c\"\nNorth = \"South\"\n[consumer]";
    let settings = load(&[text], &[], &[("consumer.check.crcs", "true")]).unwrap().settings;
    assert_eq!(settings.client["security.protocol"], "SSL");
    assert_eq!(settings.client["ssl.ca.location"], "ca.pem");
    assert_eq!(settings.producer["linger.ms"], "7");
    assert_eq!(settings.consumer["check.crcs"], "true");
    assert_eq!(settings.manager_assignment.fallback_regions["a.b"], "c");
    assert_eq!(settings.manager_assignment.fallback_regions["North"], "South");
    let config = settings.streams_config("t");
    assert_eq!(config.client["security.protocol"], "SSL");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    for (text, nearest) in [
        ("[kafka]\nbootstrap_server = \"a:1\"", "kafka.bootstrap_servers"),
        ("[kafka]\n\"bootstrap.servers\" = \"a:1\"", "kafka.bootstrap_servers"),
        ("[kafak]\nstate_dir = \"x\"", "kafka.state_dir"),
        ("num_stream_threads = 2", "kafka.num_stream_threads"),
        ("[htpp]", "http.bind"),
        ("[manager_assignment]\nsla_critcal_ms = 2", "manager_assignment.sla_critical_ms"),
    ] {
        let message = refused(&[text], &[], &[]);
        assert!(message.contains(&format!("did you mean {nearest}?")), "{text}: {message}");
    }
    let message = refused(&[], &[("KAFKA_BOOTSTRAP_SERVER", "a:1")], &[]);
    assert!(message.contains("wanted one such as KAFKA_BOOTSTRAP_SERVERS;"), "{message}");
    let message = refused(&[], &[], &[("log.levl", "debug")]);
    assert!(message.contains("did you mean log.level?"), "{message}");
}

#[test]
fn a_wrong_value_names_setting_and_place() {
    let message = refused(&["[kafka]\nnum_stream_threads = \"two\""], &[], &[]);
    assert!(message.contains("setting kafka.num_stream_threads"), "{message}");
    assert!(message.contains("wanted integer"), "{message}");
    let message = refused(&[], &[("KAFKA_COMMIT_INTERVAL_MS", "fast")], &[]);
    assert!(message.contains("KAFKA_COMMIT_INTERVAL_MS"), "{message}");
    let message = refused(&[], &[], &[("kafka.commit_interval_ms", "-5")]);
    assert!(message.contains("setting kafka.commit_interval_ms (flag): found -5"), "{message}");
    let message = refused(&[], &[], &[("log.format", "xml")]);
    assert!(message.contains("setting log.format (flag): found \"xml\""), "{message}");
    let message = refused(&["[kafka]\nstate_dir = "], &[], &[]);
    assert!(message.contains("line 2"), "{message}");
    let message = refused(&[], &[], &[("consumer.isolation.level", "read_uncommitted")]);
    assert!(message.contains("consumer.isolation.level"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Loaded::load(&["nowhere.toml".into()], [], &[]).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the settings of file \"nowhere.toml\"");
}

const DEFAULT: &str = include_str!("../../../config/default.toml");

#[test]
fn default_toml_holds_every_setting_with_the_programs_default_and_a_comment() {
    let table: Table = DEFAULT.parse().unwrap();
    assert_eq!(flatten(&table), Layers::new().defaults);
    // In TOML a comment of its own stands above every setting.
    let mut commented = false;
    for line in DEFAULT.lines() {
        let is_setting = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_setting || commented, "no comment above: {line}");
        commented = line.starts_with('#') && line.len() > 2;
    }
}

#[test]
fn the_other_files_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in ["default.toml", "local.toml", "production.toml"] {
        let loaded = Loaded::load(&[folder.join(name)], [], &[]).unwrap();
        let differs = loaded.values.values().filter(|(_, origin)| *origin != Origin::Default);
        assert!(differs.count() > 0, "{name}");
    }
    for name in ["local.toml", "production.toml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let defaults = Layers::new().defaults;
        for (key, value) in flatten(&text.parse().unwrap()) {
            assert_ne!(defaults.get(&key), Some(&value), "{name}: {key} is the default");
        }
    }
}

#[test]
fn a_fraction_may_be_a_whole_number() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[tracing]\nsample_ratio = 1\n").unwrap();
    let ratio = |environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let loaded = Loaded::load(&[file.path().to_owned()], environment, &[]).unwrap();
        loaded.settings.tracing.sample_ratio
    };
    assert!((ratio(&[]) - 1.0).abs() < f64::EPSILON);
    assert!(ratio(&[("KAFKA_TRACING_SAMPLE_RATIO", "0")]).abs() < f64::EPSILON);
    assert!((ratio(&[("KAFKA_TRACING_SAMPLE_RATIO", "0.25")]) - 0.25).abs() < f64::EPSILON);
}
