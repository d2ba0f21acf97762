//! Gateways and DNS servers, as members of their clusters.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use config::resource::Name;
use serde::Serialize;

use super::App;
use super::error::ApiError;
use super::people::{bad_request, wait};
use crate::access::{Administer, Permit};

#[derive(Serialize)]
pub(super) struct Forgotten {
    cluster: Name,
    member: Name,
}

/// Waits no more for a member that is gone for good.
pub(super) async fn forget(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Path((cluster, member)): Path<(String, String)>,
) -> Result<Json<Forgotten>, ApiError> {
    let name = |text: String| text.parse::<Name>().map_err(|error| bad_request(format!("{text:?}: {error}")));
    let (cluster, member) = (name(cluster)?, name(member)?);
    let of = (cluster.clone(), member.clone());
    let Json(()) = wait(&app, move |core| core.check_forget(&permit, &of.0, &of.1)).await?;
    app.core.forget(&cluster, &member).await?;
    Ok(Json(Forgotten { cluster, member }))
}
