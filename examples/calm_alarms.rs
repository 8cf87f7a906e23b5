//! Suppresses updates: a sensor's state is told at most once in ten seconds, and then its latest value.
//!
//! `cargo run --example calm_alarms`
//!
//! ```text
//! boiler 70
//! boiler 20
//! ```

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{BufferConfig, Result, StreamsBuilder, Suppressed, Timestamp, Topology};

fn topology() -> Result<Topology> {
    let calm = Suppressed::until_time_limit(Duration::from_secs(10), BufferConfig::unbounded());
    let builder = StreamsBuilder::new();
    builder
        .table::<String, i64>("temperatures")
        .suppress(calm)
        .to_stream()
        .map_values(|_, degrees| degrees.unwrap_or_default())
        .to("alarms");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let temperatures = driver.input_topic::<String, i64>("temperatures");
    for (second, degrees) in [(0, 80), (2, 90), (5, 95), (12, 70), (13, 60), (30, 20)] {
        temperatures.pipe_at("boiler".into(), degrees, Timestamp::from_millis(second * 1000))?;
    }
    let alarms = driver.output_topic::<String, i64>("alarms");
    for (sensor, degrees) in alarms.read_key_values()? {
        println!("{sensor} {degrees}");
    }
    Ok(())
}
