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
use crate::store::{Page, Row};

/// So many revisions are told unless somebody asks for another number.
const ROWS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newest {
    limit: Option<usize>,
    /// Only revisions before this one.
    before: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Rows {
    items: Vec<Row>,
    /// There are older ones that were asked for, too: ask for those before the first of these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

pub(super) async fn history(
    permit: Permit<Oversee>,
    State(app): State<Arc<App>>,
    newest: Result<Query<Newest>, QueryRejection>,
) -> Result<Json<Rows>, ApiError> {
    let Query(Newest { limit, before }) = newest.map_err(|error| bad_request(error.body_text()))?;
    let limit = limit.unwrap_or(ROWS);
    wait(&app, move |core| {
        let Page { rows, more } = core.history(&permit, before, limit)?;
        let more = more && rows.len() < limit;
        Ok(Rows { items: rows, more })
    })
    .await
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
