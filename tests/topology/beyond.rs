//! What Kafka Streams has not: deduplication, count windows, keyed timers, schedules by a rule.

use std::time::Duration;

use kstreams::store::TimerStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Named, Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result, StoreHandle,
    Stores, StreamsBuilder, Timestamp,
};
use proptest::prelude::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

const WINDOW: i64 = 10;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_record_of_an_id_and_window_passes(
        steps in proptest::collection::vec((0..3u8, 0..60i64), 1..40),
    ) {
        let builder = StreamsBuilder::new();
        let window = Duration::from_millis(WINDOW.unsigned_abs());
        builder
            .stream::<String, String>("in")
            .deduplicate(|_, value| value.clone(), window)
            .peek(|_, value| assert_ne!(value, "2", "refused"))
            .to("out");
        let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let input = driver.input_topic::<String, String>("in");
        let mut passed: Vec<(String, i64)> = Vec::new();
        for (id, time) in steps {
            let id = id.to_string();
            let newest = passed.iter().map(|(_, time)| *time).max().unwrap_or(i64::MIN / 2);
            let is_near = |(seen, other): &(String, i64)| *seen == id && (time - other).abs() < WINDOW;
            // Of a refused record nothing remains, so that its id was not there.
            if time >= newest - WINDOW && !passed.iter().any(is_near) && id != "2" {
                passed.push((id.clone(), time));
            }
            input.pipe_at("k".into(), id, at(time)).unwrap();
        }
        let out = driver.output_topic::<String, String>("out").read_records().unwrap();
        let found: Vec<_> =
            out.into_iter().map(|record| (record.value, record.timestamp.as_millis())).collect();
        prop_assert_eq!(found, passed);
    }
}

#[test]
fn deduplication_of_a_changed_key_is_refused() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .select_key(|_, value| value.clone())
        .deduplicate(|_, value| value.clone(), Duration::from_secs(1))
        .to("out");
    let error = builder.build().err().unwrap();
    assert!(error.message().contains("repartition()"), "{error}");
}

#[test]
fn count_windows_take_so_many_records_of_a_key_and_none_that_failed() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, Option<i64>>("in")
        .group_by_key()
        .windowed_by_count(2)
        .aggregate(
            String::new,
            |_, number, text: String| {
                assert_ne!(number, 13, "refused");
                format!("{text}{number};")
            },
            &Named::new("pairs"),
        )
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, Option<i64>>("in");
    let steps = [("a", Some(1), 9), ("b", Some(2), 1), ("a", Some(13), 2), ("a", None, 3)];
    let more = [("a", Some(3), 4), ("a", Some(4), 5), ("b", Some(5), 6)];
    for (key, number, time) in steps.into_iter().chain(more) {
        input.pipe_at(key.to_owned(), number, at(time)).unwrap();
    }
    let out = driver.output_topic::<String, String>("out").read_records().unwrap();
    let found: Vec<_> =
        out.iter().map(|r| (r.key.as_str(), r.value.as_str(), r.timestamp.as_millis())).collect();
    assert_eq!(found, [("a", "1;3;", 9), ("b", "2;5;", 6)]);
}

/// Reminds of each record after its value in milliseconds.
#[derive(Default)]
struct Reminder {
    timers: Option<StoreHandle<TimerStore<String, i64>>>,
    fails: bool,
}

impl Processor<String, i64, String, i64> for Reminder {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, i64>) -> Result<()> {
        self.timers = Some(context.state_store("timers")?);
        context.schedule(Duration::from_millis(5), PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        let due =
            context.current_system_time() + Duration::from_millis(record.value.unsigned_abs());
        self.fails = record.value == 7;
        context.store(self.timers.unwrap()).schedule(&record.key, due, &record.value)
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        for (timer, payload) in context.store(self.timers.unwrap()).take_due(now, 2)? {
            context.forward(Record::new(timer.key, payload, timer.at))?;
        }
        assert!(!std::mem::take(&mut self.fails), "once");
        Ok(())
    }
}

#[test]
fn timers_come_when_they_are_due_earliest_first_and_again_after_a_failure() {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::timer_store::<String, i64>("timers"));
    builder
        .stream::<String, i64>("in")
        .process::<String, i64, _>(Reminder::default, &["timers"])
        .to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let input = driver.input_topic::<String, i64>("in");
    for (key, wait) in [("c", 9), ("b", 3), ("a", 3), ("z", 1), ("y", 300), ("d", 7)] {
        input.pipe(key.to_owned(), wait).unwrap();
    }
    let out = driver.output_topic::<String, i64>("out");
    let read = || out.read_key_values().unwrap();
    let advance = || driver.advance_wall_clock_time(Duration::from_millis(5)).unwrap();
    advance();
    assert_eq!(read(), [], "the first punctuation fails, and takes nothing");
    advance();
    assert_eq!(read(), [("z".to_owned(), 1), ("a".to_owned(), 3)]);
    advance();
    assert_eq!(read(), [("b".to_owned(), 3), ("d".to_owned(), 7)]);
    advance();
    assert_eq!(read(), [("c".to_owned(), 9)]);
    let left = driver.with_store("timers", |timers: &mut TimerStore<String, i64>| {
        assert_eq!(timers.take_due(at(299), 10).unwrap(), []);
        assert_eq!(timers.cancel(&"y".to_owned(), at(300)).unwrap(), Some(300));
        timers.schedule(&"x".to_owned(), at(-1), &1).unwrap();
        timers.schedule(&"x".to_owned(), at(300), &2).unwrap();
        let due = timers.take_due(at(300), 10).unwrap();
        assert_eq!(due.iter().map(|(_, payload)| *payload).collect::<Vec<_>>(), [1, 2]);
        timers.take_due(at(i64::MAX), 10).unwrap()
    });
    assert_eq!(left.unwrap(), []);
}

const HOUR: i64 = 3_600_000;

/// Rings at six o'clock, on three days.
struct Bell(usize);

impl Processor<String, i64, String, i64> for Bell {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, i64>) -> Result<()> {
        let mut days = self.0;
        let rule = move |after: Timestamp| {
            let today = after.as_millis().div_euclid(24 * HOUR) * 24 * HOUR;
            let six = [today + 6 * HOUR, today + 30 * HOUR];
            days = days.checked_sub(1)?;
            six.into_iter().find(|six| *six > after.as_millis()).map(at)
        };
        context.schedule_by(rule, PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<()> {
        context.forward(Record::new("bell".to_owned(), now.as_millis() / HOUR, now))
    }
}

#[test]
fn a_schedule_follows_its_rule_without_any_record_until_the_rule_ends() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").process::<String, i64, _>(|| Bell(3), &[]).to("out");
    let driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let out = driver.output_topic::<String, i64>("out");
    let mut rung: Vec<Vec<i64>> = Vec::new();
    for hours in [5, 1, 1, 22, 1, 48, 24, 24] {
        driver.advance_wall_clock_time(Duration::from_secs(3_600 * hours)).unwrap();
        rung.push(out.read_key_values().unwrap().into_iter().map(|(_, hour)| hour).collect());
    }
    // At 5, 6, 7, 29, 30, 78 (a day was missed), 102 and 126 o'clock.
    let wanted: [Vec<i64>; 8] =
        [vec![], vec![6], vec![], vec![], vec![30], vec![78], vec![], vec![]];
    assert_eq!(rung, wanted);
}
