//! What agents call, and who wants to become one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::auth::{Agent, From};
use super::body::Body;
use super::error::ApiError;
use super::{App, people::wait};
use crate::http::message::{Certified, Certify, Join, Joined, Renew, Renewed};

pub(super) async fn join(
    State(app): State<Arc<App>>,
    From(from): From,
    Body(join): Body<Join>,
) -> Result<Json<Joined>, ApiError> {
    app.failures.admit(from)?;
    let joined = wait(&app, move |core| core.join(&join, from)).await;
    if joined.as_ref().is_err_and(ApiError::is_refusal) {
        app.failures.failed(from);
    }
    joined
}

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    Agent(agent): Agent,
    From(from): From,
    Body(renew): Body<Renew>,
) -> Result<Json<Renewed>, ApiError> {
    wait(&app, move |core| core.renew(&agent, &renew.csr, from)).await
}

pub(super) async fn issuing(
    State(app): State<Arc<App>>,
    Agent(agent): Agent,
    From(from): From,
    Body(certify): Body<Certify>,
) -> Result<Json<Certified>, ApiError> {
    wait(&app, move |core| core.issuing(&agent, &certify.global_namespace, &certify.csr, from)).await
}

/// The top-level CA's certificate: for `curl --cacert`, and for browsers that shall trust self-signed hosts.
pub(super) async fn ca(State(app): State<Arc<App>>) -> Result<impl IntoResponse, ApiError> {
    let pem = crate::global::blocking(&app.core, |core| core.ca_pem()).await;
    let pem = pem.ok_or_else(|| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the controller is shutting down"))?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem))
}
