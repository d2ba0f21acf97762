//! Where members enrol, renew and get identities: all that the agent signs.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use config::resource::Name;
use config::wire::{MemberRole, Order};
use identity::ca::{CaError, Chain, IssuingCa};
use identity::csr::CsrError;
use identity::facts::FactsError;
use identity::pem::encode_certificates;
use identity::spiffe::SpiffeError;
use identity::{Facts, Role, SpiffeId, TrustDomain};
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::certificates::{Certificates, RenewalError};
use super::control::ControlView;
use super::roster::Roster;
use super::standing::{NoIssuer, Standing, Standings, standing_in};
use crate::audit::{AuditError, AuditLog, Entry};
use crate::http::failures::{Failures, TooMany};
use crate::http::message::{
    Certified, Certify, ENROL, Enrol, Enrolled, Errors, IDENTITY, MAX_REQUEST, RENEW, Renew, Renewed,
};
use crate::http::{ClientCertificate, Peer, Remote, Stale, csr};
use crate::member::holdings::{Held, Holding};
use crate::secret::equal;
use crate::sync::Refusal;

/// Whoever signs for members, and by what.
pub(super) struct Office {
    pub(super) cluster: Name,
    pub(super) mesh: TrustDomain,
    pub(super) control: watch::Receiver<Arc<ControlView>>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) secret: Zeroizing<String>,
    pub(super) roster: Arc<Roster>,
    pub(super) standings: watch::Receiver<Arc<Standings>>,
    pub(super) issuing: watch::Receiver<Arc<Held<IssuingCa>>>,
    pub(super) failures: Arc<Failures>,
    pub(super) audit: Arc<AuditLog>,
    /// How often members' own certificates were ordered anew.
    pub(super) member_turn: watch::Receiver<u64>,
}

/// Why the agent doesn't sign.
#[derive(Debug, thiserror::Error)]
enum OfficeError {
    #[error("the member token is not this agent's, or no longer: read it anew from the agent's state directory")]
    Secret,
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("an agent is no member: it joins the mesh by the controller")]
    NoMember,
    #[error("a client certificate of a member of this cluster is needed: enrol first")]
    Anonymous,
    #[error("{0} is no gateway of this cluster, or has not said so yet: only gateways have identities in a GNS")]
    NoGateway(Name),
    #[error(transparent)]
    Issuer(#[from] NoIssuer),
    #[error("{0} is revoked: `tombolo certs reinstate` takes that back; until then give the gateway another name")]
    Revoked(Name),
    #[error("the agent is shutting down")]
    Stopping,
    #[error(transparent)]
    Full(#[from] Refusal),
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    #[error(transparent)]
    Name(#[from] SpiffeError),
    #[error(transparent)]
    Request(#[from] CsrError),
    #[error(transparent)]
    Sign(#[from] CaError),
    #[error("a certificate was signed, but is not there")]
    Unsigned,
    #[error("what was signed cannot be read: {0}")]
    Unreadable(#[from] FactsError),
}

impl IntoResponse for OfficeError {
    fn into_response(self) -> Response {
        let status = match self {
            OfficeError::Secret | OfficeError::Anonymous => StatusCode::UNAUTHORIZED,
            OfficeError::NoGateway(_) | OfficeError::Revoked(_) => StatusCode::FORBIDDEN,
            OfficeError::Issuer(NoIssuer::NoStanding(..)) => StatusCode::FORBIDDEN,
            OfficeError::Stale(_) | OfficeError::Renewal(_) => StatusCode::FORBIDDEN,
            OfficeError::Issuer(NoIssuer::NotYet(_)) | OfficeError::Full(_) | OfficeError::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            OfficeError::NoMember | OfficeError::Name(_) | OfficeError::Request(_) => StatusCode::BAD_REQUEST,
            OfficeError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            OfficeError::Audit(_) | OfficeError::Sign(_) | OfficeError::Unsigned | OfficeError::Unreadable(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(Errors::one(self.to_string()))).into_response()
    }
}

/// The paths that the office answers.
pub(super) fn router(office: Arc<Office>) -> Router {
    Router::new()
        .route(ENROL, post(enrol))
        .route(RENEW, post(renew))
        .route(IDENTITY, post(identify))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(office)
}

/// Signing ends with a write to disk: that waits where waiting harms nobody.
async fn sign<T: Send + 'static>(
    office: Arc<Office>,
    work: impl FnOnce(&Office) -> Result<T, OfficeError> + Send + 'static,
) -> Result<Json<T>, OfficeError> {
    let done = tokio::task::spawn_blocking(move || work(&office)).await;
    Ok(Json(done.map_err(|_| OfficeError::Stopping)??))
}

async fn enrol(
    State(office): State<Arc<Office>>,
    Extension(Remote(from)): Extension<Remote>,
    Json(ask): Json<Enrol>,
) -> Result<Json<Enrolled>, OfficeError> {
    office.failures.admit(from.ip())?;
    if !equal(&ask.secret, &office.secret) {
        office.failures.failed(from.ip());
        return Err(OfficeError::Secret);
    }
    if ask.role == MemberRole::Agent {
        return Err(OfficeError::NoMember);
    }
    sign(office, move |office| office.enrol(&ask, from.ip())).await
}

async fn renew(
    State(office): State<Arc<Office>>,
    Extension(peer): Extension<Peer>,
    Extension(Remote(from)): Extension<Remote>,
    Json(ask): Json<Renew>,
) -> Result<Json<Renewed>, OfficeError> {
    sign(office, move |office| office.renew(&peer, &ask.csr, from.ip())).await
}

async fn identify(
    State(office): State<Arc<Office>>,
    Extension(peer): Extension<Peer>,
    Extension(Remote(from)): Extension<Remote>,
    Json(ask): Json<Certify>,
) -> Result<Json<Certified>, OfficeError> {
    sign(office, move |office| office.identify(&peer, &ask, from.ip())).await
}

impl Office {
    fn enrol(&self, ask: &Enrol, from: IpAddr) -> Result<Enrolled, OfficeError> {
        let control = self.control.borrow().clone();
        let chain = self.certify_member(&control, &ask.name, &ask.csr)?;
        self.audit.record(&Entry::issue("member token", &chain).from(Some(from)))?;
        // The certificates first: what a predecessor begins after this is refused, what it began before is ended.
        self.certificates.enrol(&ask.name, &facts(&chain)?, OffsetDateTime::now_utc());
        self.roster.enrol(&ask.name, ask.role)?;
        tracing::info!(member = %ask.name, role = ?ask.role, "a member enrolled");
        Ok(Enrolled {
            certificate: encode_certificates(&chain),
            ca: encode_certificates(&control.roots),
            cluster: self.cluster.clone(),
            mesh: self.mesh.to_string(),
            order: control.order(*self.member_turn.borrow()),
        })
    }

    fn renew(&self, peer: &Peer, request: &str, from: IpAddr) -> Result<Renewed, OfficeError> {
        let (shown, name) = self.member(peer)?;
        let control = self.control.borrow().clone();
        let chain = self.certify_member(&control, &name, request)?;
        self.audit.record(&Entry::issue(&shown.id, &chain).from(Some(from)))?;
        self.certificates.renew(shown, &name, &facts(&chain)?, OffsetDateTime::now_utc())?;
        Ok(Renewed { certificate: encode_certificates(&chain), order: control.order(*self.member_turn.borrow()) })
    }

    fn identify(&self, peer: &Peer, ask: &Certify, from: IpAddr) -> Result<Certified, OfficeError> {
        let (shown, name) = self.member(peer)?;
        if self.roster.role(&name) != Some(MemberRole::Gateway) {
            return Err(OfficeError::NoGateway(name));
        }
        let (chain, order) = self.certify_gateway(&name, ask)?;
        let serial = facts(&chain)?.serial;
        self.audit.record(&Entry::issue(&shown.id, &chain).from(Some(from)))?;
        tracing::info!(member = %name, gns = %ask.global_namespace, %serial, "an identity was issued");
        Ok(Certified { chain: encode_certificates(&chain), order })
    }

    /// The member that calls, if its certificate still counts.
    fn member<'p>(&self, peer: &'p Peer) -> Result<(&'p ClientCertificate, Name), OfficeError> {
        let shown = peer.0.as_ref().ok_or(OfficeError::Anonymous)?;
        let Role::Member { name, .. } = shown.id.role() else { return Err(OfficeError::Anonymous) };
        shown.check(&*self.certificates, OffsetDateTime::now_utc())?;
        Ok((shown, name.parse().map_err(|_| OfficeError::Anonymous)?))
    }

    fn certify_member(&self, control: &ControlView, name: &Name, request: &str) -> Result<Chain, OfficeError> {
        if self.certificates.is_shut_out(name.as_str()) {
            return Err(OfficeError::Revoked(name.clone()));
        }
        let role = Role::Member { cluster: self.cluster.to_string(), name: name.to_string() };
        let request = csr::check(request, &SpiffeId::new(self.mesh.clone(), role)?)?;
        Ok(control.signing.issue_member(&request, OffsetDateTime::now_utc())?)
    }

    fn certify_gateway(&self, name: &Name, ask: &Certify) -> Result<(Chain, Order), OfficeError> {
        let gns = &ask.global_namespace;
        let standings = self.standings.borrow().clone();
        let standing = standing_in(&standings, gns, &self.cluster)?;
        let (issuing, order) = self.issuing_ca(gns, standing, ask.order.as_ref())?;
        let role = Role::Gateway { cluster: self.cluster.to_string(), name: name.to_string() };
        let request = csr::check(&ask.csr, &SpiffeId::new(standing.need.trust_domain.parse()?, role)?)?;
        let now = OffsetDateTime::now_utc();
        let names = standing.gateway_names();
        let names = names.iter().map(String::as_str);
        let chain = issuing.value.issue_gateway(&request, names, &standing.lifetimes, now)?;
        Ok((chain, order))
    }

    /// The issuing CA in a GNS, and the order of what it signs now; only if that is the `wanted` one, if one is.
    fn issuing_ca(
        &self,
        gns: &Name,
        standing: &Standing,
        wanted: Option<&Order>,
    ) -> Result<(Arc<Holding<IssuingCa>>, Order), OfficeError> {
        let held = standing.issuer(gns, &self.issuing.borrow())?;
        let order = Order { leaf: standing.order.leaf, ..held.order.clone() };
        match wanted {
            Some(wanted) if *wanted != order => Err(NoIssuer::NotYet(gns.clone()).into()),
            _ => Ok((held, order)),
        }
    }
}

/// What the first certificate of a chain says.
fn facts(chain: &Chain) -> Result<Facts, OfficeError> {
    Ok(Facts::read(chain.first().ok_or(OfficeError::Unsigned)?)?)
}
