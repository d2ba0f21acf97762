//! The rules by which a peer's certificate chain proves its SPIFFE ID. Pure; [`crate::tls`] puts them into rustls.

use std::collections::BTreeSet;

use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::ca::{CONTROL_UNIT, ISSUING_UNIT, TOP_LEVEL_UNIT};
use crate::facts::{Facts, Serial, Subject};
use crate::refusal::Refusal;
use crate::spiffe::{Role, RoleKind, SpiffeId, TrustDomain};
use crate::trust::Trust;

/// The most certificates in a chain: ours have two; a spare pair leaves room for a rotation, and none for a flood.
pub const MAX_CHAIN: usize = 4;

/// id-kp-serverAuth and id-kp-clientAuth (RFC 5280 section 4.2.1.12), as DER contents.
const SERVER_AUTH: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 2];

/// The signatures that our authorities make.
static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] =
    &[webpki::ring::ECDSA_P256_SHA256, webpki::ring::ECDSA_P384_SHA384, webpki::ring::ED25519];

/// Which peers are accepted. Everything is refused that is not named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    /// Trust domains. Tunnels have one per configuration; a port for callers may have several.
    pub domains: BTreeSet<TrustDomain>,
    /// Roles.
    pub roles: BTreeSet<RoleKind>,
    /// The one cluster, where only one can be right.
    pub cluster: Option<String>,
    /// The one peer, where only one can be right.
    pub id: Option<SpiffeId>,
    /// Whether a controller or agent may come from the root that takes a pinned one's place, as that one signed it.
    pub successors: bool,
}

impl Accept {
    /// Accept these roles in this trust domain, of any cluster.
    #[must_use]
    pub fn new(domain: TrustDomain, roles: impl IntoIterator<Item = RoleKind>) -> Self {
        Self { domains: [domain].into(), roles: roles.into_iter().collect(), ..Self::default() }
    }

    /// Accept this peer, and nobody else.
    #[must_use]
    pub fn only(id: SpiffeId) -> Self {
        let this = Self::new(id.trust_domain().clone(), [id.role().kind()]);
        Self { id: Some(id), ..this }
    }

    /// Accept peers of these trust domains, too.
    #[must_use]
    pub fn and_domains(mut self, domains: impl IntoIterator<Item = TrustDomain>) -> Self {
        self.domains.extend(domains);
        self
    }

    /// Accept nobody of another cluster.
    #[must_use]
    pub fn only_cluster(self, cluster: &str) -> Self {
        Self { cluster: Some(cluster.to_owned()), ..self }
    }

    /// Accept a controller or agent also by the root that takes a pinned one's place: for whoever enrols with a token that
    /// was made before. Who is enrolled is told of new roots, and takes no path over another.
    #[must_use]
    pub fn or_successors(self) -> Self {
        Self { successors: true, ..self }
    }

    fn check(&self, id: &SpiffeId) -> Result<(), Refusal> {
        if !self.domains.contains(id.trust_domain()) {
            return Err(Refusal::TrustDomain(id.clone()));
        }
        if !self.roles.contains(&id.role().kind()) {
            return Err(Refusal::Role(id.clone(), id.role().kind()));
        }
        if let Some(only) = self.id.as_ref().filter(|only| *only != id) {
            return Err(Refusal::Other(id.clone(), only.clone()));
        }
        match self.cluster.as_deref() {
            Some(cluster) if id.cluster() != Some(cluster) => Err(Refusal::Cluster(id.clone(), cluster.to_owned())),
            _ => Ok(()),
        }
    }
}

/// Which end of the connection the peer is: it must hold the extended key usage for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    /// The peer dialled us.
    Client,
    /// We dialled the peer.
    Server,
}

impl PeerEnd {
    /// *Required*, where webpki's defaults are content with a certificate that has no extended key usage at all.
    /// webpki asks it of issuing CAs too, so those carry both usages.
    fn usage(self) -> KeyUsage {
        KeyUsage::required(match self {
            Self::Client => CLIENT_AUTH,
            Self::Server => SERVER_AUTH,
        })
    }
}

/// Verify a chain, leaf first, as of `now`, and return whom it proves.
///
/// `server_name`, when given, must be among the leaf's subject alternative names.
///
/// # Errors
/// The first reason to refuse the peer.
pub fn verify_peer(
    chain: &[CertificateDer<'_>],
    end: PeerEnd,
    server_name: Option<&ServerName<'_>>,
    accept: &Accept,
    trust: &dyn Trust,
    now: OffsetDateTime,
) -> Result<SpiffeId, Refusal> {
    let (leaf, intermediates) = chain.split_first().ok_or(Refusal::NoCertificate)?;
    if chain.len() > MAX_CHAIN {
        return Err(Refusal::ChainTooLong(chain.len()));
    }
    let facts = Facts::read(leaf)?;
    let id = id_of(&facts)?;
    accept.check(&id)?;
    let path = Path { leaf, intermediates, end, server_name, successors: accept.successors };
    let issuing = verify_path(&path, &id, trust, now)?;
    check_standing(&id, [Some(&facts.serial), issuing.as_ref()].into_iter().flatten(), trust)?;
    Ok(id)
}

/// The SPIFFE ID of a chain that a handshake has already verified.
///
/// # Errors
/// When there is no certificate, or it has not exactly one URI that is a SPIFFE ID.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, Refusal> {
    id_of(&Facts::read(chain.first().ok_or(Refusal::NoCertificate)?)?)
}

pub(crate) fn id_of(facts: &Facts) -> Result<SpiffeId, Refusal> {
    match facts.uris.as_slice() {
        [uri] => uri.parse().map_err(|e| Refusal::NotSpiffe(abbreviate(uri), e)),
        uris => Err(Refusal::UriNames(uris.len())),
    }
}

/// What was presented, and what it is to prove.
struct Path<'p> {
    leaf: &'p CertificateDer<'p>,
    intermediates: &'p [CertificateDer<'p>],
    end: PeerEnd,
    server_name: Option<&'p ServerName<'p>>,
    successors: bool,
}

/// Verify signatures, dates, usages, constraints and the shape of the path; return the issuing CA's serial number.
fn verify_path(
    presented: &Path<'_>,
    id: &SpiffeId,
    trust: &dyn Trust,
    now: OffsetDateTime,
) -> Result<Option<Serial>, Refusal> {
    let bundle = trust.roots(id.trust_domain());
    let anchors = bundle.as_ref().map(|b| b.anchors(now)).unwrap_or_default();
    if anchors.is_empty() {
        return Err(no_roots(id.trust_domain(), bundle.as_ref().and_then(|bundle| bundle.off(now))));
    }
    let refuse = |e| Refusal::Path(id.clone(), e);
    let certificate = EndEntityCert::try_from(presented.leaf).map_err(refuse)?;
    let usage = presented.end.usage();
    let path = certificate
        .verify_for_usage(SIGNATURES, &anchors, presented.intermediates, unix(now), usage, None, None)
        .map_err(refuse)?;
    if let Some(name) = presented.server_name {
        let wrong = |_| Refusal::ServerName(id.clone(), name.to_str().into_owned());
        certificate.verify_is_valid_for_subject_name(name).map_err(wrong)?;
    }
    check_issuer(&path, id, presented.successors)
}

/// `off` is in seconds: to the first that begins, or, in the past, to the last that ended.
fn no_roots(domain: &TrustDomain, off: Option<i64>) -> Refusal {
    match off {
        None => Refusal::NoRoots(domain.clone()),
        Some(off @ 1..) => Refusal::RootsBegin(domain.clone(), off),
        Some(off) => Refusal::RootsEnded(domain.clone(), off.saturating_neg()),
    }
}

/// The data plane's leaves come from a cluster's issuing CA, the control plane's from a pinned root itself.
///
/// The second half matters: the top-level CA, which is pinned, cross-signs GNS CAs. Were a longer path good enough,
/// any agent's issuing CA could name itself the controller.
fn check_issuer(path: &VerifiedPath<'_>, id: &SpiffeId, successors: bool) -> Result<Option<Serial>, Refusal> {
    let mut intermediates = path.intermediate_certificates();
    let (first, second) = (intermediates.next(), intermediates.next());
    match (id.role(), first, second) {
        (Role::Workload { cluster, .. } | Role::Gateway { cluster, .. }, Some(issuing), None) => {
            let facts = Facts::read(&issuing.der())?;
            check_issuing_subject(&facts, id, cluster)?;
            Ok(Some(facts.serial))
        }
        (Role::Workload { .. } | Role::Gateway { .. }, _, _) => {
            Err(Refusal::Issuer(id.clone(), "an issuing CA that its GNS CA signed"))
        }
        (_, None, _) => Ok(None),
        (_, Some(other), None) if successors && is_successor(&Facts::read(&other.der())?.subject, id) => Ok(None),
        _ => Err(Refusal::Issuer(id.clone(), "a pinned root itself")),
    }
}

/// Whether what a pinned root signed is the one that takes its place. It signs no other authority of its own kind: of
/// GNS CAs the kind is another, and what those sign has a path of two.
fn is_successor(subject: &Subject, id: &SpiffeId) -> bool {
    let domain = id.trust_domain().as_str();
    let expected = match id.role() {
        Role::Controller => (Some(TOP_LEVEL_UNIT), Some(domain), None),
        Role::Agent { cluster } => (Some(CONTROL_UNIT), Some(cluster.as_str()), Some(domain)),
        Role::Member { .. } | Role::Gateway { .. } | Role::Workload { .. } => return false,
    };
    expected == (subject.unit.as_deref(), subject.common_name.as_deref(), subject.organization.as_deref())
}

fn check_issuing_subject(facts: &Facts, id: &SpiffeId, cluster: &str) -> Result<(), Refusal> {
    let subject = &facts.subject;
    if subject.unit.as_deref() != Some(ISSUING_UNIT) {
        return Err(Refusal::Issuer(id.clone(), "an issuing CA that its GNS CA signed"));
    }
    let named = (subject.common_name.as_deref(), subject.organization.as_deref());
    if named == (Some(cluster), Some(id.trust_domain().as_str())) {
        return Ok(());
    }
    Err(Refusal::ForeignIssuer {
        id: id.clone(),
        issuer: subject.common_name.clone().unwrap_or_default(),
        domain: subject.organization.clone().unwrap_or_default(),
    })
}

/// What a connection rests on for as long as it lives: who its peer proved to be, and by which certificates.
#[derive(Debug, Clone)]
pub struct Standing {
    id: SpiffeId,
    serials: Vec<Serial>,
    chain: Vec<CertificateDer<'static>>,
    /// A moment at which all of the chain was good: the leaf's beginning.
    good_at: OffsetDateTime,
}

impl Standing {
    /// That of a chain which a handshake has already verified.
    ///
    /// # Errors
    /// When there is no certificate, one cannot be read, or the first has not exactly one URI that is a SPIFFE ID.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, Refusal> {
        let facts: Vec<_> = chain.iter().map(|certificate| Facts::read(certificate)).collect::<Result<_, _>>()?;
        let leaf = facts.first().ok_or(Refusal::NoCertificate)?;
        let (id, good_at) = (id_of(leaf)?, leaf.not_before);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Standing { id, serials: facts.into_iter().map(|facts| facts.serial).collect(), chain, good_at })
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whether one of the roots that are believed now is above it. An old root goes when nobody needs it any more, or when
    /// who still does was waited for long enough.
    #[must_use]
    pub fn is_rooted(&self, trust: &dyn Trust) -> bool {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return false };
        let rooted = |end| {
            let path = Path { leaf, intermediates, end, server_name: None, successors: false };
            verify_path(&path, &self.id, trust, self.good_at).is_ok()
        };
        rooted(PeerEnd::Client) || rooted(PeerEnd::Server)
    }

    /// Whether a handshake with the same certificates would still be believed, as far as that does not depend on the time
    /// or on roots.
    ///
    /// # Errors
    /// When the peer, or one of the certificates, was revoked, or its cluster is no member any more.
    pub fn check(&self, trust: &dyn Trust) -> Result<(), Refusal> {
        check_standing(&self.id, self.serials.iter(), trust)
    }
}

fn check_standing<'s>(
    id: &SpiffeId,
    mut serials: impl Iterator<Item = &'s Serial>,
    trust: &dyn Trust,
) -> Result<(), Refusal> {
    let domain = id.trust_domain();
    if serials.any(|serial| trust.is_revoked(id, serial)) {
        return Err(Refusal::Revoked(id.clone()));
    }
    match id.cluster() {
        Some(cluster) if !trust.is_member(domain, cluster) => Err(Refusal::NotMember(id.clone())),
        _ => Ok(()),
    }
}

/// Times before 1970 are as good as 1970: nothing of ours is valid in either.
fn unix(now: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unix_timestamp().try_into().unwrap_or(0)))
}

/// What the peer wrote goes into a log line: not all of it.
fn abbreviate(uri: &str) -> String {
    uri.chars().take(256).collect()
}
