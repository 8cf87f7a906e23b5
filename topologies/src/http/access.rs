//! Who may ask: the token that must be shown, and TLS.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use kstreams::Result;
use tokio_native_tls::TlsAcceptor;

use super::tls;
use crate::settings::HttpSettings;

/// Open to all: whoever watches over the process (a kubelet, a load balancer) has no token.
const OPEN: &str = "/health/";

/// What a listener demands; nothing by default.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) tls: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
}

impl Access {
    /// What the settings demand.
    ///
    /// # Errors
    /// `Invalid` for a certificate or key that will not do.
    pub(super) fn new(settings: &HttpSettings) -> Result<Self> {
        let tls = match settings.is_tls() {
            false => None,
            true => Some(tls::acceptor(&settings.tls_certificate_file, &settings.tls_key_file)?),
        };
        let token = Some(&settings.bearer_token).filter(|token| !token.is_empty());
        Ok(Self { tls, token: token.map(|token| token.as_str().into()) })
    }

    /// Asks for the token before everything but [`OPEN`].
    pub(super) fn guard(&self, router: Router) -> Router {
        match &self.token {
            Some(token) => router.layer(from_fn_with_state(token.clone(), check)),
            None => router,
        }
    }
}

async fn check(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
    let is_known = shown.is_some_and(|shown| is_same(shown, token.as_bytes()));
    if is_known || request.uri().path().starts_with(OPEN) {
        return next.run(request).await;
    }
    let text = "{\"error\":\"found no valid token, wanted the header Authorization: Bearer with that of http.bearer_token\"}";
    let headers =
        [(header::WWW_AUTHENTICATE, "Bearer"), (header::CONTENT_TYPE, "application/json")];
    (StatusCode::UNAUTHORIZED, headers, text).into_response()
}

/// In a time that does not tell how much of it is right.
fn is_same(shown: &[u8], wanted: &[u8]) -> bool {
    let differing = shown.iter().zip(wanted).fold(0, |bits, (a, b)| bits | (a ^ b));
    shown.len() == wanted.len() && differing == 0
}
