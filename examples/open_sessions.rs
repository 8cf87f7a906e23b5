//! A table whose rows live for a time: who is online, by heartbeats; and how many, which goes down again by itself.
//!
//! `cargo run --example open_sessions`
//!
//! ```text
//! ada: online, in Perm
//! bob: online, in Ufa
//! online: 2
//! bob: online, in Ufa
//! ada: gone since second 30
//! online: 1
//! ```

use std::time::Duration;

use kstreams::serdes::DefaultSerde;
use kstreams::testing::TopologyTestDriver;
use kstreams::{Consumed, Grouped, Materialized, Result, StreamsBuilder, Timestamp, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let sessions = Materialized::named("sessions").with_ttl(Duration::from_secs(30));
    let online = builder.table_with::<String, String>("heartbeats", Consumed::default(), sessions);
    online.to_stream().to("presence");
    online
        .group_by(
            |_, city| ("online".to_owned(), city.clone()),
            Grouped::with(String::serde(), String::serde()),
        )
        .count()
        .to_stream()
        .to("numbers");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let heartbeats = driver.input_topic::<String, String>("heartbeats");
    let presence = driver.output_topic::<String, Option<String>>("presence");
    let numbers = driver.output_topic::<String, i64>("numbers");
    let show = || -> Result<()> {
        for record in presence.read_records()? {
            match record.value {
                Some(city) => println!("{}: online, in {city}", record.key),
                None => println!(
                    "{}: gone since second {}",
                    record.key,
                    record.timestamp.as_millis() / 1000
                ),
            }
        }
        if let Some((name, number)) = numbers.read_key_values()?.pop() {
            println!("{name}: {number}");
        }
        Ok(())
    };
    heartbeats.pipe_at("ada".into(), "Perm".into(), Timestamp::from_millis(0))?;
    heartbeats.pipe_at("bob".into(), "Ufa".into(), Timestamp::from_millis(10_000))?;
    show()?;
    // Bob is still there; ada has not been heard of for half a minute.
    heartbeats.pipe_at("bob".into(), "Ufa".into(), Timestamp::from_millis(35_000))?;
    show()
}
