//! Joins a stream with a table: every order gets its customer's name as it is at that moment.
//!
//! `cargo run --example enrich_orders`
//!
//! ```text
//! 7: sink repair for nobody we know
//! 7: window cleaning for Ada
//! 7: tap repair for Ada Lovelace
//! ```

use kstreams::testing::TopologyTestDriver;
use kstreams::{Joined, Result, StreamsBuilder, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let customers = builder.table::<i64, String>("customers");
    builder
        .stream::<i64, String>("orders")
        .left_join(
            &customers,
            |_, order, name| format!("{order} for {}", name.as_deref().unwrap_or("nobody we know")),
            Joined::default(),
        )
        .to("orders-with-names");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let customers = driver.input_topic::<i64, String>("customers");
    let orders = driver.input_topic::<i64, String>("orders");
    orders.pipe(7, "sink repair".into())?;
    customers.pipe(7, "Ada".into())?;
    orders.pipe(7, "window cleaning".into())?;
    customers.pipe(7, "Ada Lovelace".into())?;
    orders.pipe(7, "tap repair".into())?;
    for (id, order) in driver.output_topic::<i64, String>("orders-with-names").read_key_values()? {
        println!("{id}: {order}");
    }
    Ok(())
}
