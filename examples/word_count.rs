//! Counts words. With the address of a Kafka cluster it runs there (topics `lines` and `counts` must exist); without one it shows the
//! same topology at work in the test driver.
//!
//! `cargo run --example word_count [-- 127.0.0.1:9092]`
//!
//! ```text
//! to 1
//! be 1
//! or 1
//! not 1
//! to 2
//! be 2
//! ```

use kstreams::testing::TopologyTestDriver;
use kstreams::{KafkaStreams, Result, StreamsBuilder, StreamsConfig, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("lines")
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone())
        .count()
        .to_stream()
        .to("counts");
    builder.build()
}

fn main() -> Result<()> {
    if let Some(bootstrap) = std::env::args().nth(1) {
        let mut streams =
            KafkaStreams::new(topology()?, StreamsConfig::new("word-count", &bootstrap))?;
        streams.start()?;
        return streams.wait();
    }
    let driver = TopologyTestDriver::new(topology()?)?;
    driver.input_topic::<String, String>("lines").pipe("1".into(), "to be or not to be".into())?;
    for (word, count) in driver.output_topic::<String, i64>("counts").read_key_values()? {
        println!("{word} {count}");
    }
    Ok(())
}
