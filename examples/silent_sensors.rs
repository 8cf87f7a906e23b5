//! The Processor API: a store, and a punctuator on the wall clock that reports sensors which have fallen silent.
//!
//! `cargo run --example silent_sensors`
//!
//! ```text
//! boiler: silent since second 10
//! ```

use std::time::Duration;

use kstreams::store::KeyValueStore;
use kstreams::testing::TopologyTestDriver;
use kstreams::{
    Processor, ProcessorContext, PunctuationType, PunctuatorId, Record, Result, StoreHandle,
    Stores, StreamsBuilder, Timestamp, Topology,
};

const SILENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Watch {
    last_seen: Option<StoreHandle<KeyValueStore<String, i64>>>,
}

impl Processor<String, i64, String, String> for Watch {
    fn init(&mut self, context: &mut ProcessorContext<'_, '_, String, String>) -> Result<()> {
        self.last_seen = Some(context.state_store("last-seen")?);
        context.schedule(SILENCE / 2, PunctuationType::WallClockTime);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let Some(last_seen) = self.last_seen else { return Ok(()) };
        context.store(last_seen).put(&record.key, &record.timestamp.as_millis())
    }

    fn punctuate(
        &mut self,
        _: PunctuatorId,
        now: Timestamp,
        context: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<()> {
        let Some(last_seen) = self.last_seen else { return Ok(()) };
        let sensors: Vec<_> = context.store(last_seen).all()?.collect::<Result<_>>()?;
        for (sensor, seen) in sensors {
            if now.since(Timestamp::from_millis(seen)) >= SILENCE {
                context.store(last_seen).delete(&sensor)?; // reported once
                let text = format!("silent since second {}", seen / 1000);
                context.forward(Record::new(sensor, text, now))?;
            }
        }
        Ok(())
    }
}

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(Stores::key_value_store::<String, i64>("last-seen"));
    builder
        .stream::<String, i64>("readings")
        .process::<String, String, _>(Watch::default, &["last-seen"])
        .to("alarms");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let readings = driver.input_topic::<String, i64>("readings");
    readings.pipe_at("boiler".into(), 71, Timestamp::from_millis(10_000))?;
    readings.pipe_at("cellar".into(), 12, Timestamp::from_millis(50_000))?;
    driver.advance_wall_clock_time(Duration::from_secs(80))?;
    for (sensor, alarm) in driver.output_topic::<String, String>("alarms").read_key_values()? {
        println!("{sensor}: {alarm}");
    }
    Ok(())
}
