//! The agent's own server certificate: made here, for this life only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use config::resource::cluster::AddressHost;
use identity::ca::{CaError, renew_at};
use identity::tls::control_server_config;
use identity::{Accept, Identity, KeyedCertificate, PrivateKey, Role, RoleKind, SigningRequest, SpiffeId, Trust};
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::AgentError;
use super::control::ControlView;
use crate::http::SERVER_ALPN;
use crate::http::token::Token;
use crate::member::credential::wait_until;

/// After it couldn't be made.
const RETRY: Duration = Duration::from_secs(30);

/// The configuration to serve members with, and when it wants a successor. Members of this cluster are let in by
/// certificate, as `trust` believes it; who has none can only enrol.
pub(super) fn server_tls(
    control: &ControlView,
    token: &Token,
    trust: Arc<dyn Trust>,
) -> Result<(ServerConfig, OffsetDateTime), AgentError> {
    let role = Role::Agent { cluster: token.cluster.to_string() };
    let id = SpiffeId::new(token.mesh.parse()?, role)?;
    let domain = id.trust_domain().clone();
    let key = PrivateKey::generate().map_err(CaError::from)?;
    let host = match &token.address.host {
        AddressHost::Ip(ip) => ip.to_string(),
        AddressHost::Name(name) => name.to_string(),
    };
    let request = SigningRequest::own(id, &key)?;
    let mut chain = control.signing.issue_agent(&request, [host.as_str()], OffsetDateTime::now_utc())?;
    chain.extend(control.behind.iter().cloned());
    let identity = Identity::new(KeyedCertificate::new(chain, &key)?)?;
    let accept = Accept::new(domain, [RoleKind::Member]).only_cluster(token.cluster.as_str());
    let config = control_server_config(&identity, trust, accept, SERVER_ALPN)?;
    let facts = identity.keyed().facts();
    Ok((config, renew_at(facts.not_before, facts.not_after, fastrand::f64())))
}

/// Makes successors, for ever: in time, and when the control CA is another.
pub(super) async fn keep_fresh(
    mut control: watch::Receiver<Arc<ControlView>>,
    token: &Token,
    trust: &Arc<dyn Trust>,
    mut due: OffsetDateTime,
    tls: &watch::Sender<Arc<ServerConfig>>,
) -> Infallible {
    loop {
        tokio::select! { () = wait_until(due) => {} Ok(()) = control.changed() => {} }
        let view = control.borrow_and_update().clone();
        match server_tls(&view, token, Arc::clone(trust)) {
            Ok((config, next)) => {
                tls.send_replace(Arc::new(config));
                due = next;
            }
            Err(error) => {
                tracing::error!(%error, "the agent's own certificate could not be renewed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
