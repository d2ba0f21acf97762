//! The controller's HTTPS API: who may call what, and how calls become changes of the mesh.
//!
//! People show a token (`Authorization: Bearer …`) whose role allows what they ask, agents their client certificate. Only
//! joining, which has its own secret, and the CA's certificate, which is public, need neither.

mod access;
mod agents;
mod auth;
mod body;
mod certificates;
mod error;
mod explain;
mod guarded;
mod members;
mod past;
mod people;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use config::resource::Address;

use self::error::ApiError;
use self::guarded::Guarded;
use crate::global::core::Core;
use crate::http::failures::Failures;
use crate::http::message::{ISSUING, JOIN, MAX_REQUEST, RENEW};
use crate::sync::{self, Source};

/// The longest body in bytes of what people send.
const MAX_BODY: usize = 8 << 20;

/// What every call may need.
struct App {
    core: Arc<Core>,
    /// Where others reach the controller, for tokens.
    address: Address,
    /// Who showed wrong tokens.
    failures: Failures,
}

/// Every path of the controller.
pub(crate) fn router(core: Arc<Core>, address: Address, source: Arc<dyn Source>) -> Router {
    let app = Arc::new(App { core, address, failures: Failures::default() });
    let people = Guarded::default()
        .post("/v1alpha1/apply", people::apply)
        .get("/v1alpha1/resources", people::list)
        .get("/v1alpha1/resources/{*id}", people::get)
        .delete("/v1alpha1/resources/{*id}", people::delete)
        .post("/v1alpha1/ready", people::ready)
        .get("/v1alpha1/history", past::history)
        .post("/v1alpha1/rollback", past::rollback)
        .get("/v1alpha1/backup", past::backup)
        .get("/v1alpha1/status", people::status)
        .get("/v1alpha1/peers", people::peers)
        .post("/v1alpha1/explain", explain::explain)
        .get("/v1alpha1/peering/{from}/{to}", explain::peering)
        .delete("/v1alpha1/members/{cluster}/{member}", members::forget)
        .get("/v1alpha1/certificates", certificates::list)
        .post("/v1alpha1/certificates/rotate", certificates::rotate)
        .post("/v1alpha1/certificates/revoke", certificates::revoke)
        .post("/v1alpha1/certificates/reinstate", certificates::reinstate)
        .post("/v1alpha1/tokens", access::create_join_token)
        .post("/v1alpha1/api-tokens", access::create_token)
        .get("/v1alpha1/api-tokens", access::list_tokens)
        .delete("/v1alpha1/api-tokens/{name}", access::revoke_token)
        .get("/v1alpha1/audit", access::audit);
    let agents = Router::new()
        .route(ISSUING, post(agents::issuing))
        .route(RENEW, post(agents::renew))
        .route(JOIN, post(agents::join))
        .route("/v1alpha1/ca", get(agents::ca))
        .layer(DefaultBodyLimit::max(MAX_REQUEST));
    Router::new()
        .merge(people.into_router())
        .merge(agents)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route(sync::PATH, sync::server::handler(source))
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .fallback(async || {
            ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path; the API is at /v1alpha1/")
        })
        .with_state(app)
}
