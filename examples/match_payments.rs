//! Joins two streams in a window of an hour; an order that nobody pays in time is told so, once the hour is over.
//!
//! `cargo run --example match_payments`
//!
//! ```text
//! order 1: tulips paid with 20
//! order 2: bicycle not paid in time
//! ```

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{JoinWindows, Result, StreamJoined, StreamsBuilder, Timestamp, Topology};

fn topology() -> Result<Topology> {
    let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3600));
    let builder = StreamsBuilder::new();
    let orders = builder.stream::<i64, String>("orders");
    let payments = builder.stream::<i64, i64>("payments");
    let joiner = |_: &i64, order: &String, amount: Option<&i64>| match amount {
        Some(amount) => format!("{order} paid with {amount}"),
        None => format!("{order} not paid in time"),
    };
    orders.left_join_stream(&payments, joiner, hour, StreamJoined::default()).to("outcomes");
    builder.build()
}

fn main() -> Result<()> {
    let minute = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
    let driver = TopologyTestDriver::new(topology()?)?;
    let orders = driver.input_topic::<i64, String>("orders");
    let payments = driver.input_topic::<i64, i64>("payments");
    orders.pipe_at(1, "tulips".into(), minute(0))?;
    orders.pipe_at(2, "bicycle".into(), minute(5))?;
    payments.pipe_at(1, 20, minute(30))?;
    payments.pipe_at(2, 300, minute(66))?; // a minute late
    for (order, outcome) in driver.output_topic::<i64, String>("outcomes").read_key_values()? {
        println!("order {order}: {outcome}");
    }
    Ok(())
}
