//! Sessions: a visit lasts as long as no more than five minutes pass between two clicks. A late click can make one visit of two.
//!
//! `cargo run --example visits`
//!
//! ```text
//! [ada@0/0] 1 click
//! [ada@480000/480000] 1 click
//! [ada@0/0] merged
//! [ada@480000/480000] merged
//! [ada@0/480000] 3 clicks
//! ```

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{Result, SessionWindows, StreamsBuilder, Timestamp, Topology};

fn topology() -> Result<Topology> {
    let (gap, grace) = (Duration::from_secs(300), Duration::from_secs(3600));
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("clicks")
        .group_by_key()
        .windowed_by(SessionWindows::of_inactivity_gap_and_grace(gap, grace))
        .count()
        .to_stream()
        .map_values(|_, count| match count {
            None => "merged".to_owned(),
            Some(1) => "1 click".to_owned(),
            Some(count) => format!("{count} clicks"),
        })
        .select_key(|session, _| session.to_string())
        .to("visits");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let clicks = driver.input_topic::<String, String>("clicks");
    for minute in [0, 8, 4] {
        clicks.pipe_at("ada".into(), "click".into(), Timestamp::from_millis(minute * 60_000))?;
    }
    for (visit, text) in driver.output_topic::<String, String>("visits").read_key_values()? {
        println!("{visit} {text}");
    }
    Ok(())
}
