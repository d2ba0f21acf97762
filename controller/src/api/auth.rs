//! Who calls.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use time::OffsetDateTime;

use super::App;
use super::error::ApiError;
use crate::access::{Caller, Level, Permit};
use crate::http::{ClientCertificate, Peer, Remote};

impl<L: Level> FromRequestParts<Arc<App>> for Permit<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = authenticate(parts, app)?;
        caller
            .permit()
            .inspect_err(|error| tracing::warn!(%error, path = parts.uri.path(), "forbidden"))
            .map_err(Into::into)
    }
}

/// Who shows an API token. A source that showed too many wrong ones isn't listened to for a while.
fn authenticate(parts: &Parts, app: &App) -> Result<Caller, ApiError> {
    let Remote(from) = from(parts)?;
    app.failures.admit(from.ip())?;
    let token = bearer(&parts.headers)
        .ok_or_else(|| unauthenticated("an API token is needed: send `Authorization: Bearer TOKEN`"))?;
    app.core.api_tokens.holder(token, from.ip(), OffsetDateTime::now_utc()).ok_or_else(|| {
        app.failures.failed(from.ip());
        tracing::warn!(%from, "somebody showed an API token that isn't good");
        unauthenticated("this API token is not one of this controller's, or was revoked, or has ended")
    })
}

fn unauthenticated(message: &str) -> ApiError {
    let remedy = "the controller's first start wrote one into the admin context, and its admin makes others";
    ApiError::new(StatusCode::UNAUTHORIZED, format!("{message}; {remedy}"))
}

/// RFC 6750 section 2.1; the scheme's case doesn't matter (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn from(parts: &Parts) -> Result<Remote, ApiError> {
    let unknown = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the server doesn't know who is calling");
    parts.extensions.get().copied().ok_or_else(unknown)
}

/// The address that a request came from.
pub(super) struct From(pub(super) std::net::IpAddr);

impl FromRequestParts<Arc<App>> for From {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        from(parts).map(|Remote(from)| From(from.ip()))
    }
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
