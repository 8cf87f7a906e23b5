//! Windowed aggregations: late records, final results, and where Kafka Streams is faulty and this engine is not.
//! What both do alike is held by the packed cases of the conformance runner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kstreams::store::{SessionStore, WindowStore};
use kstreams::testing::{TestSettings, TopologyTestDriver};
use kstreams::{
    EmitStrategy, KTable, Materialized, Named, SessionWindows, SlidingWindows, StreamsBuilder,
    TimeWindows, Timestamp, UnlimitedWindows, Window, Windowed, WindowedBy, Windows,
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs `table` over records of "in" and reads its changes as text.
struct Run {
    driver: TopologyTestDriver,
}

impl Run {
    fn new(table: impl FnOnce(&StreamsBuilder) -> KTable<Windowed<String>, i64>) -> Self {
        let builder = StreamsBuilder::new();
        table(&builder).to_stream().select_key(|key, _| key.to_string()).to("out");
        Self { driver: TopologyTestDriver::new(builder.build().unwrap()).unwrap() }
    }

    /// The changes that one record makes.
    fn pipe(&self, key: &str, millis: i64) -> Vec<String> {
        let input = self.driver.input_topic::<String, String>("in");
        input.pipe_at(key.to_owned(), "v".to_owned(), at(millis)).unwrap();
        self.read()
    }

    /// The changes that nobody has read yet.
    fn read(&self) -> Vec<String> {
        let output = self.driver.output_topic::<String, Option<i64>>("out");
        let records = output.read_records().unwrap();
        let line = |record: &kstreams::Record<String, Option<i64>>| match record.value {
            Some(value) => format!("{}={value} @{}", record.key, record.timestamp),
            None => format!("{} deleted", record.key),
        };
        records.iter().map(line).collect()
    }
}

const NOTHING: [&str; 0] = [];

fn windowed<W>(builder: &StreamsBuilder, windows: W) -> W::Stream<String, String>
where
    W: WindowedBy,
{
    builder.stream::<String, String>("in").group_by_key().windowed_by(windows)
}

#[test]
fn a_late_record_counts_for_those_windows_only_that_are_still_open() {
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(3)).advance_by(ms(5));
    let run = Run::new(|builder| windowed(builder, windows).count());
    assert_eq!(run.pipe("k", 7), ["[k@0/10]=1 @7", "[k@5/15]=1 @7"]);
    assert_eq!(run.pipe("k", 13), ["[k@5/15]=2 @13", "[k@10/20]=1 @13"]);
    // Stream time 13, grace 3: the window that ends at 10 is closed.
    assert_eq!(run.pipe("k", 8), ["[k@5/15]=3 @13"]);
    assert_eq!(run.pipe("k", 1), NOTHING);
}

/// Quirk of Kafka Streams 4.3.1: the window [120, 180) never comes out, for the store counts its retention from the record just put.
#[test]
fn final_results_survive_a_leap_of_stream_time() {
    let windows = TimeWindows::of_size_and_grace(ms(60), ms(10));
    let run = Run::new(|builder| {
        windowed(builder, windows).emit_strategy(EmitStrategy::OnWindowClose).count()
    });
    assert_eq!(run.pipe("k", 0), NOTHING);
    assert_eq!(run.pipe("k", 30), NOTHING);
    assert_eq!(run.pipe("k", 75), ["[k@0/60]=2 @30"]);
    assert_eq!(run.pipe("k", 140), ["[k@60/120]=1 @75"]);
    assert_eq!(run.pipe("k", 300), ["[k@120/180]=1 @140"]);
    assert_eq!(run.pipe("k", 301), NOTHING);
    // Across several segments, and with what they hold long gone.
    assert_eq!(run.pipe("k", 10_000_000), ["[k@300/360]=2 @301"]);
}

/// Quirk of Kafka Streams 4.3.1: the session [0, 0] is not found any more, though it is still open.
#[test]
fn a_session_that_ends_exactly_gap_and_grace_ago_is_merged() {
    let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(5));
    let run = Run::new(|builder| windowed(builder, windows).count());
    assert_eq!(run.pipe("k", 0), ["[k@0/0]=1 @0"]);
    assert_eq!(run.pipe("k", 5), ["[k@0/0] deleted", "[k@0/5]=2 @5"]);
    let run = Run::new(|builder| windowed(builder, windows).count());
    assert_eq!(run.pipe("k", 0), ["[k@0/0]=1 @0"]);
    assert_eq!(run.pipe("other", 5), ["[other@5/5]=1 @5"]);
    assert_eq!(run.pipe("k", 5), ["[k@0/0] deleted", "[k@0/5]=2 @5"]);
}

/// Quirk of Kafka Streams 4.3.1: the task dies at the first record.
#[test]
fn sliding_windows_of_no_difference_hold_the_records_of_one_time() {
    let windows = SlidingWindows::of_time_difference_and_grace(ms(0), ms(10));
    let run = Run::new(|builder| windowed(builder, windows).count());
    assert_eq!(run.pipe("k", 5), ["[k@5/5]=1 @5"]);
    assert_eq!(run.pipe("k", 6), ["[k@6/6]=1 @6"]);
    assert_eq!(run.pipe("k", 5), ["[k@5/5]=2 @5"]);
    assert_eq!(run.pipe("k", 4), ["[k@4/4]=1 @4"]);
}

#[test]
fn final_sessions_come_in_order_of_their_ends() {
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(5));
    let run = Run::new(|builder| {
        windowed(builder, windows).emit_strategy(EmitStrategy::OnWindowClose).count()
    });
    for (key, millis) in [("b", 0), ("a", 3), ("b", 8), ("c", 1)] {
        assert_eq!(run.pipe(key, millis), NOTHING, "{key} {millis}");
    }
    assert_eq!(run.pipe("a", 23), ["[c@1/1]=1 @1", "[a@3/3]=1 @3"]);
    assert_eq!(run.pipe("a", 24), ["[b@0/8]=2 @8"]);
}

#[test]
fn a_failed_record_leaves_neither_stream_time_nor_lost_results() {
    let fails = Arc::new(AtomicBool::new(false));
    let builder = StreamsBuilder::new();
    let switch = fails.clone();
    let windows = TimeWindows::of_size_with_no_grace(ms(10));
    windowed(&builder, windows)
        .emit_strategy(EmitStrategy::OnWindowClose)
        .count_with(&Named::default(), Materialized::named("counts"))
        .to_stream()
        .map_values(move |_, count| {
            assert!(!switch.load(Ordering::Relaxed), "told to fail");
            count
        })
        .select_key(|key, _| key.to_string())
        .to("out");
    let run = Run { driver: TopologyTestDriver::new(builder.build().unwrap()).unwrap() };
    assert_eq!(run.pipe("k", 3), NOTHING);
    fails.store(true, Ordering::Relaxed);
    assert_eq!(run.pipe("poison", 1_000), NOTHING);
    fails.store(false, Ordering::Relaxed);
    // Stream time is 3 still: this one is not late, and the window comes out with its count.
    assert_eq!(run.pipe("k", 4), NOTHING);
    assert_eq!(run.pipe("k", 12), ["[k@0/10]=2 @4"]);
    let rows = |store: &mut WindowStore<String, i64>| {
        let rows = store.all().unwrap().map(|row| row.unwrap());
        rows.map(|(key, count)| format!("{key}={count}")).collect::<Vec<_>>()
    };
    assert_eq!(run.driver.with_store("counts", rows).unwrap(), ["[k@10/20]=1"]);
}

fn on_close(windows: impl Windows, settings: TestSettings) -> Run {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit_strategy(EmitStrategy::OnWindowClose)
        .count()
        .to_stream()
        .select_key(|key, _| key.to_string())
        .to("out");
    let driver = TopologyTestDriver::with_settings(builder.build().unwrap(), settings).unwrap();
    Run { driver }
}

#[test]
fn final_results_come_when_input_goes_silent_if_asked_for() {
    let windows = TimeWindows::of_size_and_grace(ms(100), ms(20));
    let settings = TestSettings { idle_timeout: Some(ms(50)), ..TestSettings::default() };
    let run = on_close(windows, settings);
    assert_eq!(run.pipe("k", 1_000), NOTHING);
    // Not silent for long enough, and then not long enough for the window and its grace period.
    run.driver.advance_wall_clock_time(ms(49)).unwrap();
    assert_eq!(run.read(), NOTHING);
    run.driver.advance_wall_clock_time(ms(65)).unwrap();
    assert_eq!(run.read(), NOTHING);
    run.driver.advance_wall_clock_time(ms(20)).unwrap();
    assert_eq!(run.read(), ["[k@1000/1100]=1 @1000"]);
    run.driver.advance_wall_clock_time(ms(5_000)).unwrap();
    assert_eq!(run.read(), NOTHING);
    // Stream time has gone on: what is older is late, what is newer counts.
    assert_eq!(run.pipe("k", 1_050), NOTHING);
    assert_eq!(run.pipe("k", 6_300), NOTHING);
    assert_eq!(run.pipe("k", 6_420), ["[k@6300/6400]=1 @6300"]);
}

#[test]
fn without_an_idle_timeout_the_wall_clock_closes_nothing() {
    let run = on_close(TimeWindows::of_size_with_no_grace(ms(100)), TestSettings::default());
    assert_eq!(run.pipe("k", 0), NOTHING);
    run.driver.advance_wall_clock_time(ms(100_000)).unwrap();
    assert_eq!(run.read(), NOTHING);
}

#[test]
fn a_record_too_far_in_the_future_closes_nothing_and_is_dead_lettered() {
    let settings = TestSettings {
        future_skew_max: Some(ms(1_000)),
        start: at(10_000),
        ..TestSettings::default()
    };
    let run = on_close(TimeWindows::of_size_with_no_grace(ms(100)), settings);
    assert_eq!(run.pipe("k", 9_950), NOTHING);
    assert_eq!(run.pipe("k", 11_001), NOTHING);
    let letter = run.driver.read_raw("test-in-dlq").unwrap();
    assert_eq!(letter.timestamp, at(11_001));
    assert_eq!(run.pipe("k", 9_951), NOTHING);
    assert_eq!(run.pipe("k", 11_000), ["[k@9900/10000]=2 @9951"]);
}

/// Calendar-like windows: the first of 10 ms, all others of 100.
struct Uneven;

impl Windows for Uneven {
    fn windows_for(&self, timestamp: Timestamp, into: &mut Vec<Window>) {
        let millis = timestamp.as_millis();
        let (start, end) = if millis < 10 {
            (0, 10)
        } else {
            let start = (millis - 10) / 100 * 100 + 10;
            (start, start + 100)
        };
        into.push(Window::new(at(start), at(end)));
    }

    fn size(&self) -> Duration {
        ms(100)
    }

    fn grace_period(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn windows_of_ones_own_may_have_any_bounds() {
    let run = Run::new(|builder| windowed(builder, Uneven).count());
    assert_eq!(run.pipe("k", 9), ["[k@0/10]=1 @9"]);
    assert_eq!(run.pipe("k", 10), ["[k@10/110]=1 @10"]);
    assert_eq!(run.pipe("k", 9), NOTHING);
    assert_eq!(run.pipe("k", 109), ["[k@10/110]=2 @109"]);
}

#[test]
fn the_unlimited_window_never_closes() {
    let windows = UnlimitedWindows::of().start_on(at(5));
    let run = Run::new(|builder| windowed(builder, windows).count());
    assert_eq!(run.pipe("k", 4), NOTHING);
    assert_eq!(run.pipe("k", 1_000_000_000), [format!("[k@5/{}]=1 @1000000000", i64::MAX)]);
    assert_eq!(run.pipe("k", 5), [format!("[k@5/{}]=2 @1000000000", i64::MAX)]);
}

#[test]
fn windows_and_stores_that_do_not_fit_are_refused_when_built() {
    let refused = |table: &dyn Fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        table(&builder);
        builder.build().err().unwrap().to_string()
    };
    let text = refused(&|builder| {
        let _ = windowed(builder, Uneven).emit_strategy(EmitStrategy::OnWindowClose).count();
    });
    assert!(text.contains("without a fixed size"), "{text}");
    let text = refused(&|builder| {
        let short = Materialized::named("s").with_retention(ms(14));
        let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(5));
        let _ = windowed(builder, windows).count_with(&Named::default(), short);
    });
    assert!(text.contains("found retention 14ms, wanted at least 15ms"), "{text}");
    let text = refused(&|builder| {
        let _ = windowed(builder, TimeWindows::of_size_with_no_grace(ms(0))).count();
    });
    assert!(text.contains("KSTREAM-AGGREGATE-0000000002"), "{text}");
}

#[test]
fn a_session_store_can_be_read_by_its_name() {
    let windows = SessionWindows::of_inactivity_gap_with_no_grace(ms(5));
    let run = Run::new(|builder| {
        let materialized = Materialized::named("sessions").in_memory();
        windowed(builder, windows).count_with(&Named::default(), materialized)
    });
    run.pipe("k", 0);
    run.pipe("k", 3);
    let read = |store: &mut SessionStore<String, i64>| {
        store.fetch_session(&"k".to_owned(), Window::new(at(0), at(3))).unwrap()
    };
    assert_eq!(run.driver.with_store("sessions", read).unwrap(), Some(2));
}
