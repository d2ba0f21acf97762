//! rustls configurations: TLS 1.3 only, and no resumption, because a resumed session is not verified again.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, ServerConfig};

use super::enrolment::EnrolmentVerifier;
use super::verifiers::{ClientVerifier, ServerNames, ServerVerifier, Strictness};
use crate::keyed::Identity;
use crate::spiffe::{RoleKind, SpiffeId, TrustDomain};
use crate::trust::Trust;
use crate::verify::Accept;

/// For a gateway's ports, to which peers or workloads come: they must show a certificate that `accept` and `trust` allow.
/// `trust` is asked in each handshake, so the configuration outlives changes of bundles and members; not of the identity.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn gateway_server_config(
    identity: &Identity,
    trust: Arc<dyn Trust>,
    accept: Accept,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    server_config(identity, ClientVerifier::new(accept, trust, Strictness::Mandatory), alpn)
}

/// For the dialler of tunnels to the gateways of `cluster` in `domain`. Dial with the destination's opaque label as
/// the server name: it is what is verified, with the cluster, the role and that domain's roots.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn tunnel_client_config(
    identity: &Identity,
    trust: Arc<dyn Trust>,
    domain: TrustDomain,
    cluster: &str,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let accept = Accept::new(domain, [RoleKind::Gateway]).only_cluster(cluster);
    let verifier = ServerVerifier::new(accept, trust, ServerNames::Verified);
    client_config(Some(identity), Arc::new(verifier), alpn)
}

/// For who dials the instances of one service, which all prove that they are `id`: whatever name is dialled.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn instance_client_config(
    identity: &Identity,
    trust: Arc<dyn Trust>,
    id: SpiffeId,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let verifier = ServerVerifier::new(Accept::only(id), trust, ServerNames::Ignored);
    client_config(Some(identity), Arc::new(verifier), alpn)
}

/// For the controller's and the agents' port. Clients may come without a certificate, with an API token or to enrol;
/// one that they show must be allowed by `accept` and `trust`.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn control_server_config(
    identity: &Identity,
    trust: Arc<dyn Trust>,
    accept: Accept,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    server_config(identity, ClientVerifier::new(accept, trust, Strictness::IfOffered), alpn)
}

/// For who dials a controller or an agent, whom `accept` names. The address that is dialled proves nothing; the
/// SPIFFE ID under a pinned root does. `identity` is `None` for callers that show a token instead.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn control_client_config(
    identity: Option<&Identity>,
    trust: Arc<dyn Trust>,
    accept: Accept,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    client_config(identity, Arc::new(ServerVerifier::new(accept, trust, ServerNames::Ignored)), alpn)
}

/// For who enrols with a controller or an agent (`role`) and knows of the root only the SHA-256 in its token. The server
/// must send the root along, also the one whose place was taken, while there still is such a one.
///
/// # Errors
/// When rustls refuses the parts; ours it takes.
pub fn enrolment_client_config(
    mesh: TrustDomain,
    role: RoleKind,
    fingerprint: &str,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    client_config(None, Arc::new(EnrolmentVerifier::new(mesh, role, fingerprint)), alpn)
}

fn server_config(identity: &Identity, verifier: ClientVerifier, alpn: &[&[u8]]) -> Result<ServerConfig, Error> {
    let certificate = SingleCertAndKey::from(identity.keyed().certified_key());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(certificate));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

fn client_config(
    identity: Option<&Identity>,
    verifier: Arc<dyn ServerCertVerifier>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.keyed().certified_key())))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
