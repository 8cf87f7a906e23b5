//! An asynchronous map: each order's price is asked for elsewhere, without holding up the others; what has no price is dead-lettered.
//!
//! `cargo run --example price_orders`
//!
//! ```text
//! ada: lamp for 30
//! ada: desk for 120
//! bob: chair for 45
//! dead letter: unicorn
//! ```

use std::time::Duration;

use kstreams::testing::TopologyTestDriver;
use kstreams::{AsyncOptions, Error, Result, StreamsBuilder, Topology};

/// Stands for a request to another service: slow, and at its first try out of reach.
async fn price(item: &str, attempt: u32) -> Result<u32> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    match item {
        "lamp" if attempt == 0 => Err(Error::retriable("connection refused")),
        "lamp" => Ok(30),
        "desk" => Ok(120),
        "chair" => Ok(45),
        other => Err(Error::bad_record(format!("nobody sells \"{other}\""))),
    }
}

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let options = AsyncOptions {
        max_in_flight: 50,
        timeout: Duration::from_secs(2),
        retry_backoff: Duration::from_millis(1),
        ..AsyncOptions::default()
    };
    builder
        .stream::<String, String>("orders")
        .map_values_async(
            move |_, item| {
                let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                async move { Ok(format!("{item} for {}", price(&item, attempt).await?)) }
            },
            options,
        )
        .to("priced");
    builder.build()
}

fn main() -> Result<()> {
    let driver = TopologyTestDriver::new(topology()?)?;
    let orders = driver.input_topic::<String, String>("orders");
    for (customer, item) in [("ada", "lamp"), ("ada", "desk"), ("bob", "unicorn"), ("bob", "chair")]
    {
        orders.pipe(customer.into(), item.into())?;
    }
    for (customer, order) in driver.output_topic::<String, String>("priced").read_key_values()? {
        println!("{customer}: {order}");
    }
    while let Some(letter) = driver.read_raw("test-orders-dlq") {
        println!(
            "dead letter: {}",
            String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default())
        );
    }
    Ok(())
}
