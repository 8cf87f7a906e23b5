//! A `ProcessorWrapper` (KIP-1112): how many records every processor of a topology gets, those that the DSL makes included.
//!
//! `cargo run --example busy_processors`
//!
//! ```text
//! KSTREAM-AGGREGATE-0000000003: 3
//! KSTREAM-FILTER-0000000001: 5
//! KTABLE-TOSTREAM-0000000004: 3
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kstreams::processor::{
    Invocation, ProcessorWrapper, WrappedProcessor, WrappedProcessorSupplier,
};
use kstreams::testing::TopologyTestDriver;
use kstreams::{Result, StreamsBuilder, Topology};

/// Records by processor, over all tasks.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

/// Counts what one processor of one task gets.
struct Counting(Counts);

impl ProcessorWrapper for Counts {
    fn wrap(&self, _: &str) -> Option<Arc<dyn WrappedProcessorSupplier>> {
        let counts = self.clone();
        Some(Arc::new(move || Counting(counts.clone())))
    }
}

impl WrappedProcessor for Counting {
    fn process(&mut self, call: &mut Invocation<'_, '_>) -> Result<()> {
        let Counts(counts) = &self.0;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(call.processor().to_string()).or_default() += 1;
        drop(counts); // the processors below are counted within this call
        call.proceed()
    }
}

fn topology(counts: Counts) -> Result<Topology> {
    let builder = StreamsBuilder::with_processor_wrapper(counts);
    builder
        .stream::<String, i64>("payments")
        .filter(|_, amount| *amount >= 100)
        .group_by_key()
        .count()
        .to_stream()
        .to("large-payments");
    builder.build()
}

fn main() -> Result<()> {
    let counts = Counts::default();
    let driver = TopologyTestDriver::new(topology(counts.clone())?)?;
    let payments = driver.input_topic::<String, i64>("payments");
    for amount in [20, 150, 99, 700, 100] {
        payments.pipe("ada".into(), amount)?;
    }
    for (processor, records) in &*counts.0.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{processor}: {records}");
    }
    Ok(())
}
