//! Looks records up in a global table, which every instance has whole: by any key, without repartitioning.
//!
//! `cargo run --example shipping_labels`
//!
//! ```text
//! order 1: bulbs to the Netherlands
//! order 3: bicycle to Denmark
//! ```

use kstreams::testing::TopologyTestDriver;
use kstreams::{Result, StreamsBuilder, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let countries = builder.global_table::<String, String>("countries");
    builder
        .stream::<i64, String>("orders")
        .join_global(
            &countries,
            |_, order| order.split('/').next().unwrap_or_default().to_owned(),
            |_, order, country| {
                format!("{} to {country}", order.split('/').nth(1).unwrap_or_default())
            },
        )
        .to("labels");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let countries = driver.input_topic::<String, String>("countries");
    countries.pipe("nl".into(), "the Netherlands".into())?;
    countries.pipe("dk".into(), "Denmark".into())?;
    let orders = driver.input_topic::<i64, String>("orders");
    for (id, order) in [(1, "nl/bulbs"), (2, "xx/nothing"), (3, "dk/bicycle")] {
        orders.pipe(id, order.into())?;
    }
    for (id, label) in driver.output_topic::<i64, String>("labels").read_key_values()? {
        println!("order {id}: {label}");
    }
    Ok(())
}
