//! The thread of the embedded registry's HTTP server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use kstreams::serdes::MemoryRegistry;
use kstreams::{Error, Result};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::registry;

/// The registry's server; stops when dropped.
pub(super) struct RegistryServer {
    address: SocketAddr,
    /// Ends with its owner.
    _runtime: Runtime,
}

impl RegistryServer {
    /// Serves `registry` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// `Fatal` where the system gives no thread or port.
    pub(super) fn start(registry: Arc<MemoryRegistry>) -> Result<Self> {
        let refuse = |error| Error::fatal("cannot start the embedded registry").with_source(error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_io()
            .build()
            .map_err(refuse)?;
        let bind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(bind).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, registry::router(registry)).await {
                tracing::error!(%error, "the embedded registry ended");
            }
        });
        Ok(Self { address, _runtime: runtime })
    }

    /// `http://127.0.0.1:port`
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
