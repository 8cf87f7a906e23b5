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

#[cfg(test)]
mod tests {
    use kstreams::ErrorKind;
    use kstreams::serdes::{FULL_TRANSITIVE, HttpRegistry, RegistryConfig, SchemaRegistry};

    use super::*;
    use crate::events;
    use crate::schemas;

    const SUBJECT: &str = "managers-aggregator.events.Manager";

    fn started() -> (RegistryServer, HttpRegistry) {
        let server = RegistryServer::start(Arc::new(events::memory_registry().unwrap())).unwrap();
        let client = HttpRegistry::new(RegistryConfig::new(&server.url())).unwrap();
        (server, client)
    }

    #[test]
    fn a_client_finds_every_contract_by_subject_and_by_id() {
        let (_server, client) = started();
        let contracts = schemas::embedded().unwrap();
        assert_eq!(client.subjects().unwrap().len(), contracts.len());
        for contract in &contracts {
            let id = client.id_of(&contract.subject, &contract.json).unwrap().unwrap();
            assert_eq!(*client.schema_by_id(id).unwrap().unwrap(), *contract.json);
            let versions = client.versions(&contract.subject).unwrap();
            assert_eq!(versions.iter().map(|known| known.id).collect::<Vec<_>>(), [id]);
        }
        assert_eq!(client.compatibility(SUBJECT).unwrap().as_deref(), Some(FULL_TRANSITIVE));
    }

    #[test]
    fn pushing_what_is_there_changes_nothing_and_is_no_error() {
        let (_server, client) = started();
        let pushed = schemas::push(&schemas::embedded().unwrap(), &client).unwrap();
        assert!(pushed.iter().all(|pushed| !pushed.new));
    }

    #[test]
    fn what_is_unknown_is_not_found_and_what_is_new_is_refused() {
        let (_server, client) = started();
        assert_eq!(client.schema_by_id(9_999).unwrap(), None);
        assert_eq!(client.id_of(SUBJECT, "\"int\"").unwrap(), None);
        assert_eq!(client.id_of("nobody", "\"int\"").unwrap(), None);
        assert!(client.versions("nobody").unwrap().is_empty());
        assert!(!client.check_compatibility(SUBJECT, "\"int\"").unwrap().is_empty());
        for refused in [
            client.register(SUBJECT, "\"int\"").map(drop),
            client.register("nobody", "\"int\"").map(drop),
            client.set_compatibility(SUBJECT, "NONE"),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
            assert!(error.to_string().contains("read-only"), "{error}");
        }
    }
}
