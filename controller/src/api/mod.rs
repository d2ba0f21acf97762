//! The controller's HTTPS API: who may call what, and how calls become changes of the mesh.
//!
//! People show a token (`Authorization: Bearer …`), agents their client certificate. Only joining, which has its own
//! secret, and the CA's certificate, which is public, need neither.

mod agents;
mod auth;
mod body;
mod certificates;
mod error;
mod people;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Router, middleware};
use config::resource::Address;

use self::error::ApiError;
use crate::global::ApiTokens;
use crate::global::core::Core;
use crate::http::message::{ISSUING, JOIN, MAX_REQUEST, RENEW};
use crate::sync::{self, Source};

/// The longest body in bytes of what people send.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What every call may need.
struct App {
    core: Arc<Core>,
    /// Where others reach the controller, for tokens.
    address: Address,
    tokens: ApiTokens,
}

/// Every path of the controller.
pub(crate) fn router(core: Arc<Core>, address: Address, tokens: ApiTokens, source: Arc<dyn Source>) -> Router {
    let app = Arc::new(App { core, address, tokens });
    let people = Router::new()
        .route("/v1alpha1/apply", post(people::apply))
        .route("/v1alpha1/resources", get(people::list))
        .route("/v1alpha1/resources/{*id}", get(people::get).delete(people::delete))
        .route("/v1alpha1/status", get(people::status))
        .route("/v1alpha1/peers", get(people::peers))
        .route("/v1alpha1/tokens", post(people::create_token))
        .route("/v1alpha1/certificates", get(certificates::list))
        .route("/v1alpha1/certificates/rotate", post(certificates::rotate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), auth::require_token));
    let agents = Router::new()
        .route(ISSUING, post(agents::issuing))
        .route(RENEW, post(agents::renew))
        .route(JOIN, post(agents::join))
        .route("/v1alpha1/ca", get(agents::ca))
        .layer(DefaultBodyLimit::max(MAX_REQUEST));
    Router::new()
        .merge(people)
        .merge(agents)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route(sync::PATH, sync::server::handler(source))
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .fallback(async || {
            ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path; the API is at /v1alpha1/")
        })
        .with_state(app)
}
