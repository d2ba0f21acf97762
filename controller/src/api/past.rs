//! What was, and the way back to it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::people::{bad_request, wait};
use crate::access::{Administer, Edit, Oversee, Permit};
use crate::global::{Applied, Rollback};
use crate::store::Row;

/// So many revisions are told unless somebody asks for another number.
const ROWS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newest {
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Rows {
    items: Vec<Row>,
}

pub(super) async fn history(
    permit: Permit<Oversee>,
    State(app): State<Arc<App>>,
    newest: Result<Query<Newest>, QueryRejection>,
) -> Result<Json<Rows>, ApiError> {
    let Query(Newest { limit }) = newest.map_err(|error| bad_request(error.body_text()))?;
    wait(&app, move |core| Ok(Rows { items: core.history(&permit, limit.unwrap_or(ROWS))? })).await
}

pub(super) async fn rollback(
    permit: Permit<Edit>,
    State(app): State<Arc<App>>,
    Body(rollback): Body<Rollback>,
) -> Result<Json<Applied>, ApiError> {
    wait(&app, move |core| core.rollback(&permit, &rollback)).await
}

pub(super) async fn backup(permit: Permit<Administer>, State(app): State<Arc<App>>) -> Result<Bytes, ApiError> {
    let Json(backup) = wait(&app, move |core| core.backup(&permit)).await?;
    Ok(backup.into())
}
