//! Joins tables by a foreign key: a changed customer reaches every order of theirs, a changed order its new customer.
//!
//! `cargo run --example orders_of_customers`
//!
//! ```text
//! 1: tulips for Ada
//! 2: bulbs for Ada
//! 1: tulips for Ada Lovelace
//! 2: bulbs for Ada Lovelace
//! 2: bulbs for Grace
//! ```

use kstreams::testing::TopologyTestDriver;
use kstreams::{Result, StreamsBuilder, Topology};

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let orders = builder.table::<i64, String>("orders"); // order id -> "customer:goods"
    let customers = builder.table::<String, String>("customers");
    orders
        .join_on_foreign_key(
            &customers,
            |_, order| order.split(':').next().map(str::to_owned),
            |order, customer| {
                format!("{} for {customer}", order.split(':').nth(1).unwrap_or_default())
            },
        )
        .to_stream()
        .to("labels");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let orders = driver.input_topic::<i64, String>("orders");
    let customers = driver.input_topic::<String, String>("customers");
    customers.pipe("c7".into(), "Ada".into())?;
    customers.pipe("c8".into(), "Grace".into())?;
    orders.pipe(1, "c7:tulips".into())?;
    orders.pipe(2, "c7:bulbs".into())?;
    customers.pipe("c7".into(), "Ada Lovelace".into())?;
    orders.pipe(2, "c8:bulbs".into())?;
    for (order, label) in driver.output_topic::<i64, String>("labels").read_key_values()? {
        println!("{order}: {label}");
    }
    Ok(())
}
