//! Questions about the way of requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use config::explain::Explanation;
use config::resource::Name;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::people::bad_request;
use crate::access::{Inspect, Oversee, Permit};
use crate::global::explain::Explain;

/// The way of a request, step by step.
pub(super) async fn explain(
    permit: Permit<Inspect>,
    State(app): State<Arc<App>>,
    Body(explain): Body<Explain>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(app.core.explain(&permit, &explain).await?))
}

/// Each step from the gateways of one cluster to those of another.
pub(super) async fn peering(
    permit: Permit<Oversee>,
    State(app): State<Arc<App>>,
    Path((from, to)): Path<(String, String)>,
) -> Result<Json<Explanation>, ApiError> {
    let name = |text: String| text.parse::<Name>().map_err(|error| bad_request(format!("{text:?}: {error}")));
    Ok(Json(app.core.peering(&permit, &name(from)?, &name(to)?).await))
}
