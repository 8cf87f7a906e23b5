//! Counts in windows of a minute and tells only final results: once a window and ten seconds of grace are over.
//!
//! `cargo run --example clicks_per_minute`
//!
//! ```text
//! [home@0/60000] 3
//! ```

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{EmitStrategy, Result, StreamsBuilder, TimeWindows, Timestamp, Topology};

fn topology() -> Result<Topology> {
    let (minute, grace) = (Duration::from_secs(60), Duration::from_secs(10));
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("clicks")
        .group_by_key()
        .windowed_by(TimeWindows::of_size_and_grace(minute, grace))
        .emit_strategy(EmitStrategy::OnWindowClose)
        .count()
        .to_stream()
        .map_values(|_, count| count.unwrap_or_default())
        .select_key(|window, _| window.to_string())
        .to("clicks-per-minute");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let clicks = driver.input_topic::<String, String>("clicks");
    // The third comes late, but within the grace; the last one closes the first window and is too early to be told itself.
    for second in [5, 61, 59, 20, 75] {
        clicks.pipe_at("home".into(), "click".into(), Timestamp::from_millis(second * 1000))?;
    }
    let counts = driver.output_topic::<String, i64>("clicks-per-minute");
    for (window, count) in counts.read_key_values()? {
        println!("{window} {count}");
    }
    Ok(())
}
