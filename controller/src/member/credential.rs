//! What a process shows to the controller or agent that it dials, and the roots by which it knows that one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::resource::Address;
use config::wire::{CertificateReport, Order, TrustReport};
use config::world::{Fact, MeshTrust, World};
use identity::ca::renew_at;
use identity::files::{FileError, read_private, write_private};
use identity::keyed::KeyedError;
use identity::pem::{self, PemError};
use identity::tls::{control_client_config, enrolment_client_config};
use identity::{
    Accept, Facts, Identity, KeyedCertificate, Pinned, PrivateKey, RoleKind, SpiffeId, TrustBundle, TrustDomain,
    fingerprint,
};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::order;
use crate::http::client::{CallError, Client};
use crate::http::message::{RENEW, Renew, Renewed};
use crate::http::token::Token;
use crate::http::{CLIENT_ALPN, csr};

/// After a first renewal that failed, doubling with each, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Waiting is by the wall clock, which may be set: so often it is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum CredentialError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Keyed(#[from] KeyedError),
    #[error("the root certificate cannot be used: {0}")]
    Root(#[from] identity::bundle::BundleError),
    #[error(transparent)]
    Key(#[from] identity::key::KeyError),
    #[error(transparent)]
    Request(#[from] identity::csr::CsrError),
    #[error("not a name: {0}")]
    Name(#[from] identity::spiffe::SpiffeError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("it has no root certificate")]
    Rootless,
    #[error(
        "the certificate that came {0}: set both clocks right; the certificate that is held goes on until its end, if there \
         is one"
    )]
    Clock(Skew),
    #[error("the certificate that came is for {0}, not for {1}")]
    Another(SpiffeId, SpiffeId),
    #[error("the certificate for GNS {0} that came cannot be used: {1}")]
    Unusable(config::resource::Name, String),
    #[error("the certificate for GNS {0} is of another order than is known here: its successor is asked for")]
    OtherOrder(config::resource::Name),
    #[error("{0} is not text")]
    NotText(std::path::PathBuf),
}

/// A certificate with its key, and the pinned roots of whom it is shown to.
#[derive(Clone)]
pub struct Credential {
    identity: Identity,
    /// At least one; two while an authority is being replaced.
    roots: Vec<CertificateDer<'static>>,
    order: Order,
    renew_at: OffsetDateTime,
    /// Order, leaf, roots and key, as on disk.
    text: Arc<Zeroizing<String>>,
}

/// What a credential ought to be, as far as its holder has been told.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Whom to believe.
    pub roots: Vec<CertificateDer<'static>>,
    /// What to hold.
    pub order: Order,
}

impl Wanted {
    /// Whether whoever is believed now is among those to believe: nobody else may say whom.
    fn follows(&self, credential: &Credential) -> bool {
        self.roots.iter().any(|root| credential.roots.contains(root))
    }

    /// What a world says; nothing when it says nothing, or nothing that can be read.
    pub fn of(world: &World) -> Option<Arc<Self>> {
        let Some(Fact::Mesh(trust)) = world.facts.get(MeshTrust::KEY) else { return None };
        let roots = pem::decode_certificates(&trust.roots.concat());
        let roots = roots.inspect_err(|error| tracing::error!(%error, "the control plane's roots cannot be read"));
        Some(Arc::new(Wanted { roots: roots.ok()?, order: trust.order.clone() }))
    }
}

impl Credential {
    /// Joins what enrolment brought with the key that was made for it.
    ///
    /// # Errors
    /// When they are no pair, or the certificate names another than `id`.
    pub fn new(
        id: &SpiffeId,
        chain: &str,
        roots: &str,
        order: &Order,
        key: &PrivateKey,
    ) -> Result<Self, CredentialError> {
        let leaf = pem::decode_certificates(chain)?.into_iter().take(1);
        let certificates: Vec<_> = leaf.chain(pem::decode_certificates(roots)?).collect();
        let credential = Self::read(joined(order, &certificates, &key.to_pem()))?;
        check_clocks(&credential.certificate(), OffsetDateTime::now_utc().unix_timestamp())?;
        match credential.id() == id {
            true => Ok(credential),
            false => Err(CredentialError::Another(credential.id().clone(), id.clone())),
        }
    }

    fn read(text: Zeroizing<String>) -> Result<Self, CredentialError> {
        let mut certificates = pem::decode_certificates(&text)?;
        let roots = certificates.split_off(certificates.len().min(1));
        if roots.is_empty() {
            return Err(CredentialError::Rootless);
        }
        let keyed = KeyedCertificate::new(certificates, &PrivateKey::from_pem(&text)?)?;
        let Facts { not_before, not_after, .. } = *keyed.facts();
        Ok(Credential {
            identity: Identity::new(keyed)?,
            roots,
            order: order::read(&text),
            renew_at: renew_at(not_before, not_after, fastrand::f64()),
            text: Arc::new(text),
        })
    }

    /// Reads what [`Self::store`] wrote.
    ///
    /// # Errors
    /// When it is not there, readable by others, or damaged.
    pub fn load(path: &Path) -> Result<Self, CredentialError> {
        let bytes = read_private(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CredentialError::NotText(path.into()))?;
        Self::read(Zeroizing::new(text.to_owned()))
    }

    /// Writes it, 0600.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then untouched.
    pub fn store(&self, path: &Path) -> Result<(), FileError> {
        write_private(path, self.text.as_bytes())
    }

    /// Whom it proves.
    pub fn id(&self) -> &SpiffeId {
        self.identity.id()
    }

    /// Whether the root that the token pins issued it. Only then it is beyond doubt that who wrote the token believes it.
    pub fn is_below(&self, token: &Token) -> bool {
        self.order.root.eq_ignore_ascii_case(&token.ca_sha256)
    }

    /// Whether a root of this SHA-256 is believed.
    pub fn believes(&self, sha256: &str) -> bool {
        self.roots_sha256().iter().any(|root| root.eq_ignore_ascii_case(sha256))
    }

    /// SHA-256 of the roots, in lower-case hexadecimal.
    pub fn roots_sha256(&self) -> Vec<String> {
        self.roots.iter().map(|root| fingerprint(root)).collect()
    }

    /// The same in the eyes of its holder, but for whom that believes.
    fn believing(&self, roots: &[CertificateDer<'static>]) -> Result<Self, CredentialError> {
        let certificates: Vec<_> = self.identity.keyed().chain().iter().chain(roots).cloned().collect();
        let key = PrivateKey::from_pem(&self.text)?;
        Self::read(joined(&self.order, &certificates, &key.to_pem()))
    }

    fn certificate(&self) -> CertificateReport {
        describe(self.identity.keyed().facts(), self.order.clone(), self.renew_at)
    }

    /// What is told of it.
    pub fn report(&self) -> TrustReport {
        TrustReport {
            global_namespace: None,
            roots: self.roots_sha256(),
            certificate: Some(self.certificate()),
            workloads: vec![],
            visitors: vec![],
        }
    }

    /// Whether it is in its life now.
    pub fn is_alive(&self) -> bool {
        self.identity.keyed().facts().valid_at(OffsetDateTime::now_utc())
    }

    /// To dial a controller or an agent with it.
    ///
    /// # Errors
    /// When the root cannot be used.
    pub fn client_tls(&self, server: RoleKind) -> Result<ClientConfig, CredentialError> {
        let domain = self.id().trust_domain().clone();
        let accept = Accept::new(domain.clone(), [server]);
        let accept = match (server, self.id().cluster()) {
            (RoleKind::Agent, Some(cluster)) => accept.only_cluster(cluster),
            _ => accept,
        };
        let trust = Arc::new(Pinned::new(domain, TrustBundle::new(self.roots.clone())?));
        Ok(control_client_config(Some(&self.identity), trust, accept, CLIENT_ALPN)?)
    }

    /// Its successor, from the agent at this address.
    pub(super) async fn renewed_at(&self, agent: &Address) -> Result<Credential, CredentialError> {
        self.renewed(&Client::fixed(agent.clone(), self.client_tls(RoleKind::Agent)?)).await
    }

    async fn renewed(&self, client: &Client) -> Result<Credential, CredentialError> {
        let key = PrivateKey::generate()?;
        let request = Renew { csr: csr::make(self.id(), &key)? };
        let answer: Renewed = client.post(RENEW, &request).await?;
        let roots = pem::encode_certificates(&self.roots);
        Credential::new(self.id(), &answer.certificate, &roots, &answer.order, &key)
    }
}

/// By how much the clocks of who asks for a certificate and who issues it differ at least, as the asker sees it: in
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// It is not good yet.
    Begins(i64),
    /// It has ended.
    Ended(i64),
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skew::Begins(off) => {
                write!(f, "begins {off} s from now: this machine's clock is behind, or that of who issued it ahead")
            }
            Skew::Ended(off) => {
                write!(f, "ended {off} s ago: this machine's clock is ahead, or that of who issued it behind")
            }
        }
    }
}

/// Whether what was issued just now is in its life, by this machine's clock: its beginning is backdated by so much that
/// clocks may differ by a minute, of short lives by less. `now` is in seconds since 1970.
pub(super) fn check_clocks(issued: &CertificateReport, now: i64) -> Result<(), CredentialError> {
    match (issued.not_before - now, now - issued.not_after) {
        (off @ 1.., _) => Err(CredentialError::Clock(Skew::Begins(off))),
        (_, off @ 1..) => Err(CredentialError::Clock(Skew::Ended(off))),
        _ => Ok(()),
    }
}

fn joined(order: &Order, certificates: &[CertificateDer<'_>], key: &str) -> Zeroizing<String> {
    let (first, public) = (order::line(order), pem::encode_certificates(certificates));
    let mut text = Zeroizing::new(String::with_capacity(first.len() + public.len() + key.len()));
    for part in [&first, &public, key] {
        text.push_str(part);
    }
    text
}

/// What is told of a certificate. Who issued it is not in it.
pub(crate) fn describe(facts: &Facts, order: Order, renews: OffsetDateTime) -> CertificateReport {
    CertificateReport {
        serial: facts.serial.to_string(),
        subject: facts.name(),
        issuer: None,
        order,
        not_before: facts.not_before.unix_timestamp(),
        not_after: facts.not_after.unix_timestamp(),
        renews: renews.unix_timestamp(),
    }
}

/// Keeps a credential as it ought to be.
pub struct Keeper<'a> {
    /// Where it is on disk.
    pub path: &'a Path,
    /// To whom it is shown.
    pub server: RoleKind,
    /// Dials that one.
    pub client: &'a Client,
    /// Gets the configuration to dial with after each change.
    pub tls: &'a watch::Sender<Arc<ClientConfig>>,
    /// Gets what is told of it, now and after each change.
    pub told: &'a watch::Sender<Option<TrustReport>>,
}

impl Keeper<'_> {
    /// Renews the credential at two thirds of its life and when another is `wanted`, and believes whom it shall believe;
    /// returns only when it has expired. What is wanted must have been said in this life: what the disk remembers may be
    /// older than the credential, and would shut it out.
    pub async fn keep_fresh(&self, mut credential: Credential, mut wanted: watch::Receiver<Option<Arc<Wanted>>>) {
        let mut retry = RETRY.0;
        while credential.is_alive() {
            self.told.send_replace(Some(credential.report()));
            let now = wanted.borrow_and_update().clone();
            let attempt = match now.as_deref() {
                Some(now) if now.roots != credential.roots && now.follows(&credential) => {
                    self.believe(&credential, &now.roots)
                }
                Some(now) if now.order != credential.order => self.renew(&credential).await,
                _ if credential.renew_at <= OffsetDateTime::now_utc() => self.renew(&credential).await,
                _ => {
                    tokio::select! { () = wait_until(credential.renew_at) => {} () = changed(&mut wanted) => {} }
                    continue;
                }
            };
            match attempt {
                Ok(newest) => {
                    let ahead = now.is_some_and(|now| now.order != newest.order);
                    (credential, retry) = (newest, RETRY.0);
                    if !ahead {
                        continue; // else the world that says so is still on its way
                    }
                }
                Err(error) => {
                    tracing::warn!(id = %credential.id(), %error, "the certificate could not be renewed yet");
                }
            }
            tokio::select! { () = tokio::time::sleep(retry) => {} () = changed(&mut wanted) => {} }
            retry = (retry * 2).min(RETRY.1);
        }
    }

    async fn renew(&self, credential: &Credential) -> Result<Credential, CredentialError> {
        let renewed = credential.renewed(self.client).await?;
        self.take_up(&renewed)?;
        tracing::info!(id = %renewed.id(), "certificate renewed");
        Ok(renewed)
    }

    fn believe(
        &self,
        credential: &Credential,
        roots: &[CertificateDer<'static>],
    ) -> Result<Credential, CredentialError> {
        let believing = credential.believing(roots)?;
        self.take_up(&believing)?;
        tracing::info!(id = %believing.id(), roots = ?believing.roots_sha256(), "other roots are believed");
        Ok(believing)
    }

    fn take_up(&self, credential: &Credential) -> Result<(), CredentialError> {
        let config = credential.client_tls(self.server)?;
        credential.store(self.path)?;
        self.tls.send_replace(Arc::new(config));
        Ok(())
    }
}

/// Waits for another value; for ever if there never will be one.
async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits for a moment of the wall clock, also when that is set meanwhile.
pub async fn wait_until(moment: OffsetDateTime) {
    while let Ok(left) = Duration::try_from(moment - OffsetDateTime::now_utc()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Dials who made a token, whose root is known by the token only: whoever answers has proven that the root which the
/// token pins vouches for it, so what it says of roots is believed.
///
/// # Errors
/// When the token's mesh is no name.
pub fn enrolment_client(token: &Token, server: RoleKind) -> Result<Client, CredentialError> {
    let mesh = TrustDomain::mesh(&token.mesh)?;
    let tls = enrolment_client_config(mesh, server, &token.ca_sha256, CLIENT_ALPN)?;
    Ok(Client::fixed(token.address.clone(), tls))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use identity::SigningRequest;
    use identity::ca::TopLevelCa;

    use super::*;

    fn joined(top: &TopLevelCa, order: &Order) -> Credential {
        let (id, key): (SpiffeId, _) =
            ("spiffe://m.example/cluster/a/agent".parse().unwrap(), PrivateKey::generate().unwrap());
        let request = SigningRequest::own(id.clone(), &key).unwrap();
        let chain = top.issue_agent(&request, OffsetDateTime::now_utc()).unwrap();
        let root = pem::encode_certificates([top.certificate()]);
        Credential::new(&id, &pem::encode_certificates(&chain), &root, order, &key).unwrap()
    }

    fn top() -> TopLevelCa {
        TopLevelCa::create("m.example", OffsetDateTime::now_utc()).unwrap()
    }

    #[test]
    fn roots_and_order_come_back_from_disk() {
        let (folder, old, new) = (tempfile::tempdir().unwrap(), top(), top());
        let path = folder.path().join("agent.pem");
        let order = Order { root: old.facts().fingerprint.clone(), issuing: 0, leaf: 3 };
        let credential = joined(&old, &order);
        let both = [old.certificate().clone(), new.certificate().clone()];
        credential.believing(&both).unwrap().store(&path).unwrap();
        let kept = Credential::load(&path).unwrap();
        assert_eq!((kept.roots.as_slice(), &kept.order, kept.id()), (both.as_slice(), &order, credential.id()));
        assert_eq!(kept.report().roots.len(), 2);
    }

    #[test]
    fn clocks_may_differ_by_a_minute_and_beyond_that_the_error_says_by_how_much() {
        let (at, key) = (OffsetDateTime::now_utc(), PrivateKey::generate().unwrap());
        let id: SpiffeId = "spiffe://m.example/cluster/a/agent".parse().unwrap();
        let chain = top().issue_agent(&SigningRequest::own(id, &key).unwrap(), at).unwrap();
        let facts = Facts::read(chain.first().unwrap()).unwrap();
        let (issued, at) = (describe(&facts, Order::default(), facts.not_after), at.unix_timestamp());
        let said = |seconds| check_clocks(&issued, at + seconds).map_err(|e| e.to_string());
        assert!(said(-59).is_ok() && said(60).is_ok());
        assert!(said(-90).unwrap_err().contains("begins 30 s from now: this machine's clock is behind"));
        assert!(said(30 * 86_400).unwrap_err().contains("ended 60 s ago: this machine's clock is ahead"));
    }

    #[test]
    fn only_who_is_believed_says_whom_to_believe() {
        let (old, new) = (top(), top());
        let credential = joined(&old, &Order::default());
        let wanted = |roots: &[&TopLevelCa]| Wanted {
            roots: roots.iter().map(|root| root.certificate().clone()).collect(),
            order: Order::default(),
        };
        assert!(wanted(&[&old, &new]).follows(&credential));
        assert!(!wanted(&[&new]).follows(&credential) && !wanted(&[]).follows(&credential));
    }
}
