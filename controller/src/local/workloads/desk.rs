//! Certificates for whoever shows the member token: that is who may enrol as a gateway of this cluster anyway.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use identity::Facts;
use identity::ca::Chain;
use identity::facts::FactsError;
use identity::files::FileError;
use identity::pem::encode_certificates;
use zeroize::Zeroizing;

use super::outstanding::Ledger;
use super::signer::{Entitlement, Signer, WorkloadError};
use crate::audit::{AuditError, AuditLog, Entry};
use crate::http::Remote;
use crate::http::failures::{Failures, TooMany};
use crate::http::message::{Errors, IssueWorkload, IssuedWorkload, MAX_REQUEST, WORKLOAD};
use crate::local::standing::NoIssuer;
use crate::secret::equal;
use crate::workload::ServiceName;

/// What the path needs.
pub(in crate::local) struct Desk {
    pub(in crate::local) signer: Signer,
    pub(in crate::local) secret: Zeroizing<String>,
    pub(in crate::local) failures: Arc<Failures>,
    pub(in crate::local) audit: Arc<AuditLog>,
    pub(in crate::local) ledger: Arc<Ledger>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum DeskError {
    #[error("the member token is not this agent's, or no longer: read it anew from the agent's state directory")]
    Secret,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error("what was signed cannot be read: {0}")]
    Facts(#[from] FactsError),
    #[error("it could not be written down, and so not handed out: {0}")]
    Ledger(#[from] FileError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the agent is shutting down")]
    Stopping,
}

impl IntoResponse for DeskError {
    fn into_response(self) -> Response {
        let status = match &self {
            DeskError::Secret => StatusCode::UNAUTHORIZED,
            DeskError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            DeskError::Workload(WorkloadError::Request(_) | WorkloadError::Name(_)) => StatusCode::BAD_REQUEST,
            DeskError::Workload(error) if error.is_denial() => StatusCode::FORBIDDEN,
            DeskError::Workload(_) | DeskError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            DeskError::Facts(_) | DeskError::Ledger(_) | DeskError::Audit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Errors::one(self.to_string()))).into_response()
    }
}

/// The path.
pub(in crate::local) fn router(desk: Arc<Desk>) -> Router {
    Router::new().route(WORKLOAD, post(issue)).layer(DefaultBodyLimit::max(MAX_REQUEST)).with_state(desk)
}

async fn issue(
    State(desk): State<Arc<Desk>>,
    Extension(Remote(from)): Extension<Remote>,
    Json(ask): Json<IssueWorkload>,
) -> Result<Json<IssuedWorkload>, DeskError> {
    desk.failures.admit(from.ip())?;
    if !equal(&ask.secret, &desk.secret) {
        desk.failures.failed(from.ip());
        return Err(DeskError::Secret);
    }
    let issued = tokio::task::spawn_blocking(move || desk.issue(&ask, from)).await;
    Ok(Json(issued.map_err(|_| DeskError::Stopping)??))
}

impl Desk {
    fn issue(&self, ask: &IssueWorkload, from: SocketAddr) -> Result<IssuedWorkload, DeskError> {
        let service = ServiceName { namespace: ask.namespace.clone(), name: ask.service.clone() };
        let entitlement = self.signer.entitle_in(&ask.global_namespace, &service)?;
        let chain = entitlement.certify(&ask.csr)?;
        self.write_down(&entitlement, &chain)?;
        // Whatever the agent reports from now on, it reports this certificate with it; but what it reported before may
        // have let go of the root below which this one is.
        if !self.signer.entitle_in(&ask.global_namespace, &service)?.is_like(&entitlement) {
            return Err(WorkloadError::from(NoIssuer::NotYet(entitlement.gns)).into());
        }
        self.audit.record(&Entry::issue("member token", &chain).from(Some(from.ip())))?;
        tracing::info!(%service, id = %entitlement.id, %from, "a workload's certificate was issued");
        let federated = entitlement.federated.values().map(|roots| (roots.domain.clone(), roots.certificates.concat()));
        let (bundle, federated) = (entitlement.roots.concat(), federated.collect());
        Ok(IssuedWorkload { chain: encode_certificates(&chain), bundle, federated })
    }

    fn write_down(&self, entitlement: &Entitlement, chain: &Chain) -> Result<(), DeskError> {
        let Some(leaf) = chain.first() else { return Ok(()) }; // nothing was signed, so nothing is needed
        let end = Facts::read(leaf)?.not_after;
        Ok(self.ledger.issued(entitlement.needs(end))?)
    }
}
