//! Splits a stream by predicates; the first that holds takes the record. Two of the branches come together again.
//!
//! `cargo run --example route_requests`
//!
//! ```text
//! hotline: gas leak, flooded cellar
//! desk: CLEAN WINDOWS
//! ```

use kstreams::testing::TopologyTestDriver;
use kstreams::{Result, StreamsBuilder, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let mut requests = builder.stream::<String, String>("requests").split();
    let critical = requests.branch(|urgency, _| urgency == "critical");
    let high = requests.branch(|urgency, _| urgency == "high");
    let rest = requests.default_branch();
    critical.merge(&high).to("hotline");
    rest.map_values(|_, text| text.to_uppercase()).to("desk");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let requests = driver.input_topic::<String, String>("requests");
    for (urgency, text) in
        [("critical", "gas leak"), ("low", "clean windows"), ("high", "flooded cellar")]
    {
        requests.pipe(urgency.into(), text.into())?;
    }
    for topic in ["hotline", "desk"] {
        let records = driver.output_topic::<String, String>(topic).read_key_values()?;
        let texts: Vec<_> = records.into_iter().map(|(_, text)| text).collect();
        println!("{topic}: {}", texts.join(", "));
    }
    Ok(())
}
