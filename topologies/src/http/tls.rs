//! Connections of the HTTP listener, in the clear or by TLS.
//!
//! Handshakes are made beside each other, and bounded in number and time: a client that says nothing holds up nobody else.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kstreams::{Error, Result};
use native_tls::Identity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_native_tls::{TlsAcceptor, TlsStream};

/// Handshakes at the same time; more connections wait.
const HANDSHAKES_MAX: usize = 64;
/// Until when a handshake must be done.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads certificate and key, which are checked to belong together.
///
/// # Errors
/// `Invalid`, naming the file that will not do.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let read = |setting: &str, file: &Path| {
        std::fs::read(file).map_err(|error| {
            Error::invalid(format!("setting http.{setting}: cannot read \"{}\"", file.display()))
                .with_source(error)
        })
    };
    let refuse = |error: native_tls::Error| {
        Error::invalid(format!(
            "settings http.tls_certificate_file and http.tls_key_file: \"{}\" and \"{}\" do not fit, wanted a certificate and its own \
             key (PKCS#8) as PEM",
            certificate.display(),
            key.display()
        ))
        .with_source(error)
    };
    let (chain, secret) = (read("tls_certificate_file", certificate)?, read("tls_key_file", key)?);
    let identity = Identity::from_pkcs8(&chain, &secret).map_err(refuse)?;
    Ok(native_tls::TlsAcceptor::new(identity).map_err(refuse)?.into())
}

/// A listener that hands over connections that are ready.
pub(super) struct Connections {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl Connections {
    /// Accepts from now on; ends when dropped. Called inside a runtime.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(listener: TcpListener, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(HANDSHAKES_MAX);
        tokio::spawn(accept(listener, tls.map(Arc::new), sender));
        Ok(Self { address, ready })
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<TlsAcceptor>>,
    ready: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while !ready.is_closed() {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            let connection = match tls {
                None => Connection::Plain(stream),
                Some(tls) => {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => Connection::Tls(Box::new(stream)),
                        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
                        Err(_) => return tracing::debug!(%peer, "no TLS in time"),
                    }
                }
            };
            // Nobody listens any more where the server has ended.
            let _ = ready.send((connection, peer)).await;
        });
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as its runtime, and so does the server.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection.
pub(super) enum Connection {
    /// In the clear.
    Plain(TcpStream),
    /// By TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
