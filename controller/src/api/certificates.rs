//! The mesh's certificates, and their replacement.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::people::wait;
use crate::access::{Administer, Oversee, Permit};
use crate::global::{CertificatesStatus, Revocation, Revoke, Rotate, Rotation};

pub(super) async fn list(
    _: Permit<Oversee>,
    State(app): State<Arc<App>>,
) -> Result<Json<CertificatesStatus>, ApiError> {
    wait(&app, |core| Ok(core.certificates())).await
}

/// What is under way.
#[derive(Serialize)]
pub(super) struct Rotations {
    rotations: Vec<Rotation>,
}

pub(super) async fn rotate(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Body(rotate): Body<Rotate>,
) -> Result<Json<Rotations>, ApiError> {
    wait(&app, move |core| Ok(Rotations { rotations: core.rotate(&permit, &rotate)? })).await
}

/// Who is believed no longer.
#[derive(Serialize)]
pub(super) struct Revocations {
    revoked: Vec<Revocation>,
}

pub(super) async fn revoke(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Body(revoke): Body<Revoke>,
) -> Result<Json<Revocations>, ApiError> {
    wait(&app, move |core| Ok(Revocations { revoked: core.revoke(&permit, &revoke)? })).await
}

pub(super) async fn reinstate(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Body(revoke): Body<Revoke>,
) -> Result<Json<Revocations>, ApiError> {
    wait(&app, move |core| Ok(Revocations { revoked: core.reinstate(&permit, &revoke)? })).await
}
