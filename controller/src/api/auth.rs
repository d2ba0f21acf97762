//! Who calls.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;
use crate::http::{ClientCertificate, Peer};

/// Lets only those pass who show an API token.
pub(super) async fn require_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match bearer(request.headers()) {
        Some(token) if app.tokens.accepts(token) => next.run(request).await,
        Some(_) => unauthenticated("this API token is not one of this controller's"),
        None => unauthenticated("an API token is needed: send `Authorization: Bearer TOKEN`"),
    }
}

fn unauthenticated(message: &str) -> Response {
    let remedy = "the controller's first start wrote one into the admin context";
    ApiError::new(StatusCode::UNAUTHORIZED, format!("{message}; {remedy}")).into_response()
}

/// RFC 6750 section 2.1; the scheme's case doesn't matter (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The certificate of the agent that calls.
pub(super) struct Agent(pub(super) ClientCertificate);

impl FromRequestParts<Arc<App>> for Agent {
    type Rejection = ApiError;

    /// The certificate was good when the connection was made; the agent may have been replaced since, or its cluster
    /// may have left the mesh.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let shown = parts.extensions.get::<Peer>().and_then(|Peer(shown)| shown.clone());
        let stranger =
            || ApiError::new(StatusCode::UNAUTHORIZED, "the client certificate of an agent of this mesh is needed");
        let shown = shown.ok_or_else(stranger)?;
        app.core.agent_of(&shown)?;
        Ok(Agent(shown))
    }
}
