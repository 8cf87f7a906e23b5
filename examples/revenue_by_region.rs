//! Groups a table by another key: a changed row leaves its old group (subtractor) and joins the new one (adder).
//!
//! `cargo run --example revenue_by_region`
//!
//! ```text
//! north 100
//! north 150
//! north 50
//! south 100
//! ```

use kstreams::serdes::DefaultSerde;
use kstreams::testing::TopologyTestDriver;
use kstreams::{Grouped, Materialized, Named, Result, StreamsBuilder, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .table::<i64, String>("orders") // order id -> "region amount"
        .group_by(
            |_, order| {
                let (region, amount) = order.split_once(' ').unwrap_or(("unknown", "0"));
                (region.to_owned(), amount.parse::<i64>().unwrap_or(0))
            },
            Grouped::with(String::serde(), i64::serde()),
        )
        .aggregate(
            || 0,
            |_, amount, sum| Some(sum + amount),
            |_, amount, sum| Some(sum - amount),
            &Named::default(),
            Materialized::named("revenue"),
        )
        .to_stream()
        .to("revenue-by-region");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let orders = driver.input_topic::<i64, String>("orders");
    orders.pipe(1, "north 100".into())?;
    orders.pipe(2, "north 50".into())?;
    orders.pipe(1, "south 100".into())?; // order 1 moves
    let revenue = driver.output_topic::<String, i64>("revenue-by-region");
    for (region, sum) in revenue.read_key_values()? {
        println!("{region} {sum}");
    }
    Ok(())
}
