//! What admins call: tokens, and the audit log.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use config::resource::{Name, Span};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::App;
use super::body::Body;
use super::error::ApiError;
use super::people::{bad_request, wait};
use crate::access::{Administer, NewToken, Permit, Role, TokenRow};
use crate::audit::Entry;

/// So many entries of the audit log are told unless somebody asks for another number, and at the most.
const ENTRIES: (usize, usize) = (100, 100_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateJoinToken {
    cluster: Name,
}

/// Has no `Debug`: the token belongs in no log.
#[derive(Serialize)]
pub(super) struct CreatedToken {
    token: String,
}

pub(super) async fn create_join_token(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Body(CreateJoinToken { cluster }): Body<CreateJoinToken>,
) -> Result<Json<CreatedToken>, ApiError> {
    let address = app.address.clone();
    let create = move |token| Ok(CreatedToken { token });
    wait(&app, move |core| core.create_token(&permit, &cluster, address).and_then(|token| create(token.to_string())))
        .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateToken {
    name: Name,
    role: Role,
    #[serde(default)]
    global_namespaces: BTreeSet<Name>,
    #[serde(default)]
    expires_in: Option<Span>,
}

pub(super) async fn create_token(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Body(CreateToken { name, role, global_namespaces, expires_in }): Body<CreateToken>,
) -> Result<Json<CreatedToken>, ApiError> {
    let expires = expires_in.map(ends).transpose()?;
    let new = NewToken { name, role, global_namespaces, expires };
    wait(&app, move |core| Ok(CreatedToken { token: core.create_api_token(&permit, &new)?.to_string() })).await
}

fn ends(span: Span) -> Result<OffsetDateTime, ApiError> {
    let end = time::Duration::try_from(span.duration()).ok();
    let end = end.and_then(|span| OffsetDateTime::now_utc().checked_add(span));
    end.ok_or_else(|| bad_request(format!("expiresIn: {span} is beyond all calendars; leave it out")))
}

#[derive(Serialize)]
pub(super) struct Items<T> {
    items: Vec<T>,
}

pub(super) async fn list_tokens(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
) -> Result<Json<Items<TokenRow>>, ApiError> {
    wait(&app, move |core| Ok(Items { items: core.api_tokens(&permit) })).await
}

#[derive(Serialize)]
pub(super) struct Revoked {
    revoked: String,
}

pub(super) async fn revoke_token(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Revoked>, ApiError> {
    wait(&app, move |core| core.revoke_api_token(&permit, &name).map(|()| Revoked { revoked: name })).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newest {
    limit: Option<usize>,
}

pub(super) async fn audit(
    permit: Permit<Administer>,
    State(app): State<Arc<App>>,
    newest: Result<Query<Newest>, QueryRejection>,
) -> Result<Json<Items<Entry>>, ApiError> {
    let Query(Newest { limit }) = newest.map_err(|error| bad_request(error.body_text()))?;
    let limit = limit.unwrap_or(ENTRIES.0).min(ENTRIES.1);
    wait(&app, move |core| Ok(Items { items: core.audited(&permit, limit)? })).await
}
