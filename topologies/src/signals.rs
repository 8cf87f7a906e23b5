//! SIGINT and SIGTERM as a count: the first asks for an ordered end, the second for a quick one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kstreams::{Error, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Listens until it is dropped; afterwards the signals have no effect.
pub struct Signals {
    count: Arc<AtomicUsize>,
    /// Ends with the last owner.
    _runtime: Runtime,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// `Fatal` where the system refuses.
    pub fn listen() -> Result<Self> {
        let refuse = |error| Error::fatal("cannot listen to signals").with_source(error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("signals")
            .enable_io()
            .build()
            .map_err(refuse)?;
        let count = Arc::<AtomicUsize>::default();
        let inside = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).map_err(refuse)?;
            let count = count.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        drop(inside);
        Ok(Self { count, _runtime: runtime })
    }

    /// How many came so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}
