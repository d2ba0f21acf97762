//! What people and their tools call.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use config::resource::{Kind, Name, Resource, ResourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::App;
use super::body::Body;
use super::error::ApiError;
use crate::access::{Edit, Inspect, Oversee, Permit};
use crate::global::core::Core;
use crate::global::status::{MeshStatus, PeerRow, is_in};
use crate::global::{Applied, Apply, Await, Awaited, Error, blocking};
use crate::store::Owner;

/// Runs what waits for the disk, and answers with what comes of it.
pub(super) async fn wait<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    let done = blocking(&app.core, work).await;
    let gone = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the controller is shutting down");
    Ok(Json(done.ok_or_else(gone)??))
}

pub(super) async fn apply(
    permit: Permit<Edit>,
    State(app): State<Arc<App>>,
    Body(apply): Body<Apply>,
) -> Result<Json<Applied>, ApiError> {
    wait(&app, move |core| core.apply(&permit, apply)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    kind: Option<Kind>,
    global_namespace: Option<Name>,
    /// An earlier revision instead of what is wanted now.
    revision: Option<u64>,
}

pub(super) async fn list(
    permit: Permit<Inspect>,
    State(app): State<Arc<App>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Filter { kind, global_namespace, revision }) = filter.map_err(|error| bad_request(error.body_text()))?;
    wait(&app, move |core| {
        let wanted = |resource: &Resource| {
            kind.is_none_or(|kind| resource.id.kind() == kind)
                && global_namespace.as_ref().is_none_or(|gns| is_in(resource, gns))
        };
        let items = match revision {
            Some(revision) => core.manifests_at(&permit, revision, wanted)?,
            None => core.manifests(&permit, wanted),
        };
        Ok(json!({ "items": items }))
    })
    .await
}

pub(super) async fn ready(
    permit: Permit<Inspect>,
    State(app): State<Arc<App>>,
    Body(asked): Body<Await>,
) -> Result<Json<Awaited>, ApiError> {
    Ok(Json(app.core.await_news(permit, asked).await?))
}

pub(super) async fn get(
    permit: Permit<Inspect>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = resource_id(&id)?;
    let found =
        move |core: &Core| core.manifests(&permit, |resource| resource.id == id).pop().ok_or(Error::NotFound(id));
    wait(&app, found).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Writer {
    managed_by: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Deleted {
    revision: u64,
}

pub(super) async fn delete(
    permit: Permit<Edit>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    writer: Result<Query<Writer>, QueryRejection>,
) -> Result<Json<Deleted>, ApiError> {
    let Query(Writer { managed_by }) = writer.map_err(|error| bad_request(error.body_text()))?;
    let owner = managed_by.as_deref().unwrap_or("api").parse::<Owner>();
    let (id, owner) = (resource_id(&id)?, owner.map_err(|error| bad_request(error.to_string()))?);
    wait(&app, move |core| Ok(Deleted { revision: core.delete(&permit, &id, owner)? })).await
}

pub(super) async fn status(permit: Permit<Oversee>, State(app): State<Arc<App>>) -> Result<Json<MeshStatus>, ApiError> {
    wait(&app, move |core| Ok(core.status(&permit))).await
}

#[derive(Serialize)]
pub(super) struct Peers {
    items: Vec<PeerRow>,
}

pub(super) async fn peers(permit: Permit<Oversee>, State(app): State<Arc<App>>) -> Result<Json<Peers>, ApiError> {
    wait(&app, move |core| Ok(Peers { items: core.peers(&permit) })).await
}

fn resource_id(text: &str) -> Result<ResourceId, ApiError> {
    text.parse().map_err(|error| bad_request(format!("{error}")))
}

pub(super) fn bad_request(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message)
}
