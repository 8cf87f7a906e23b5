//! Stores that keep headers with their values (KIP-1271): what lies on their changelogs, and what comes back from there.

use std::time::Duration;

use kstreams::store::{KeyValueStore, SessionStore, ValueAndHeaders, WindowStore};
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Headers, Processor, ProcessorContext, RawRecord, Record, Result, Stores, StreamsBuilder,
    Timestamp, Window,
};

type Values = KeyValueStore<String, ValueAndHeaders<i64>>;
type Windows = WindowStore<String, ValueAndHeaders<i64>>;
type Sessions = SessionStore<String, ValueAndHeaders<i64>>;

/// Puts a record into all three stores, a window and a session of its timestamp; a value of 0 deletes.
struct Keep;

fn session_of(timestamp: Timestamp) -> Window {
    Window::new(timestamp, timestamp + Duration::from_millis(5))
}

impl Processor<String, i64, String, i64> for Keep {
    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        let (values, windows) =
            (context.state_store::<Values>("values")?, context.state_store::<Windows>("windows")?);
        let sessions = context.state_store::<Sessions>("sessions")?;
        let kept = ValueAndHeaders { value, headers };
        if value == 0 {
            context.store(values).delete(&key)?;
            context.store(windows).delete(&key, timestamp)?;
            return context.store(sessions).remove(&key, session_of(timestamp));
        }
        // The value's own time, as an aggregate has it, is not the record's.
        let own = timestamp + Duration::from_millis(1);
        context.store(values).put_with_timestamp(&key, &kept, own)?;
        context.store(windows).put_with_timestamp(&key, &kept, timestamp, own)?;
        context.store(sessions).put(&key, session_of(timestamp), &kept)
    }
}

fn driver() -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    let day = Duration::from_secs(24 * 60 * 60);
    let size = Duration::from_millis(10);
    builder.add_state_store(Stores::key_value_store_with_headers::<String, i64>("values"));
    builder.add_state_store(Stores::window_store_with_headers::<String, i64>("windows", day, size));
    builder.add_state_store(Stores::session_store_with_headers::<String, i64>("sessions", day));
    builder
        .stream::<String, i64>("in")
        .process::<String, i64, _>(|| Keep, &["values", "windows", "sessions"]);
    TopologyTestDriver::new(builder.build().unwrap()).unwrap()
}

fn headers(list: &[(&str, Option<&'static str>)]) -> Headers {
    let mut headers = Headers::default();
    for (key, value) in list {
        headers.add(*key, value.map(str::as_bytes));
    }
    headers
}

fn pipe(driver: &TopologyTestDriver, key: &str, value: i64, millis: i64, headers: &Headers) {
    let (key, value) = (Some(key.as_bytes()), value.to_be_bytes());
    let at = Timestamp::from_millis(millis);
    driver.pipe_raw("in", key, Some(&value), at, headers.clone()).unwrap();
}

fn changelog(driver: &TopologyTestDriver, store: &str) -> Vec<RawRecord> {
    std::iter::from_fn(|| driver.read_raw(&format!("test-{store}-changelog"))).collect()
}

#[test]
fn a_changelog_has_the_headers_beside_the_value_as_javas_has() {
    let driver = driver();
    let some = headers(&[("trace", Some("7")), ("null", None), ("trace", Some("8"))]);
    pipe(&driver, "a", 1, 40, &some);
    pipe(&driver, "b", 2, 50, &Headers::default());
    pipe(&driver, "a", 0, 40, &some);
    for (store, own) in [("values", 1), ("windows", 1), ("sessions", 0)] {
        let records = changelog(&driver, store);
        let values: Vec<_> = records.iter().map(|record| record.value.as_deref()).collect();
        let (one, two) = (1i64.to_be_bytes(), 2i64.to_be_bytes());
        assert_eq!(values, [Some(&one[..]), Some(&two[..]), None], "{store}");
        let times: Vec<_> = records.iter().map(|record| record.timestamp.as_millis()).collect();
        assert_eq!(times, [40 + own, 50 + own, 40], "{store}");
        assert_eq!(records[0].headers, some, "{store}");
        assert!(records[1].headers.is_empty() && records[2].headers.is_empty(), "{store}");
    }
}

#[test]
fn headers_come_back_from_the_changelog() {
    let driver = driver();
    let some = headers(&[("trace", Some("7")), ("null", None)]);
    pipe(&driver, "a", 1, 40, &some);
    pipe(&driver, "b", 2, 50, &Headers::default());
    let look = || {
        let key = "a".to_owned();
        let at = Timestamp::from_millis(40);
        let value = driver.with_store("values", |store: &mut Values| {
            (store.get_with_timestamp(&key).unwrap(), store.get(&"b".to_owned()).unwrap())
        });
        let window = driver.with_store("windows", |store: &mut Windows| {
            store.fetch_with_timestamp(&key, at).unwrap()
        });
        let session = driver.with_store("sessions", |store: &mut Sessions| {
            store.fetch_session(&key, session_of(at)).unwrap()
        });
        (value.unwrap(), window.unwrap(), session.unwrap())
    };
    let kept = ValueAndHeaders { value: 1, headers: some };
    let own = Timestamp::from_millis(41);
    let other = ValueAndHeaders { value: 2, headers: Headers::default() };
    let expected =
        ((Some((kept.clone(), own)), Some(other)), Some((kept.clone(), own)), Some(kept));
    assert_eq!(look(), expected);
    driver.reopen_stores().unwrap();
    assert_eq!(look(), expected, "after the stores were restored");
}
