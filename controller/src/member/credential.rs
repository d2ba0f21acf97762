//! What a process shows to the controller or agent that it dials, and the root by which it knows that one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use identity::ca::renew_at;
use identity::files::{FileError, read_private, write_private};
use identity::keyed::KeyedError;
use identity::pem::{self, PemError};
use identity::tls::{control_client_config, enrolment_client_config};
use identity::{Accept, Identity, KeyedCertificate, Pinned, PrivateKey, RoleKind, SpiffeId, TrustBundle, TrustDomain};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::http::client::{CallError, Client};
use crate::http::message::{RENEW, Renew, Renewed};
use crate::http::token::Token;
use crate::http::{CLIENT_ALPN, csr};

/// After a renewal that failed. There is a third of the certificate's life for further attempts.
const RETRY: Duration = Duration::from_secs(30);
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
    #[error("the root certificate that came is not the one that the token pins: ask for a new token")]
    NotPinned,
    #[error("the certificate that came is for {0}, not for {1}")]
    Another(SpiffeId, SpiffeId),
    #[error("the certificate for GNS {0} that came cannot be used: {1}")]
    Unusable(config::resource::Name, String),
    #[error("{0} is not text")]
    NotText(std::path::PathBuf),
}

/// A certificate with its key, and the pinned root of whom it is shown to.
pub struct Credential {
    identity: Identity,
    root: CertificateDer<'static>,
    /// Leaf, root and key, as on disk.
    text: Zeroizing<String>,
}

impl Credential {
    /// Joins what enrolment brought with the key that was made for it.
    ///
    /// # Errors
    /// When they are no pair, or the certificate names another than `id`.
    pub fn new(id: &SpiffeId, chain: &str, root: &str, key: &PrivateKey) -> Result<Self, CredentialError> {
        let leaf = pem::decode_certificates(chain)?.into_iter().take(1);
        let root = pem::decode_certificates(root)?.into_iter().take(1);
        let certificates: Vec<_> = leaf.chain(root).collect();
        let key = key.to_pem();
        let public = pem::encode_certificates(&certificates);
        let mut text = Zeroizing::new(String::with_capacity(public.len() + key.len()));
        text.push_str(&public);
        text.push_str(&key);
        let credential = Self::read(text)?;
        match credential.id() == id {
            true => Ok(credential),
            false => Err(CredentialError::Another(credential.id().clone(), id.clone())),
        }
    }

    fn read(text: Zeroizing<String>) -> Result<Self, CredentialError> {
        let mut certificates = pem::decode_certificates(&text)?;
        let root = certificates.pop().ok_or(CredentialError::NotPinned)?;
        let keyed = KeyedCertificate::new(certificates, &PrivateKey::from_pem(&text)?)?;
        Ok(Credential { identity: Identity::new(keyed)?, root, text })
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

    /// SHA-256 of the root, in lower-case hexadecimal.
    ///
    /// # Errors
    /// When the root is damaged.
    pub fn root_sha256(&self) -> Result<String, CredentialError> {
        Ok(identity::Facts::read(&self.root).map_err(KeyedError::from)?.fingerprint)
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
        let trust = Arc::new(Pinned::new(domain, TrustBundle::new([self.root.clone()])?));
        Ok(control_client_config(Some(&self.identity), trust, accept, CLIENT_ALPN)?)
    }

    async fn renewed(&self, client: &Client) -> Result<Credential, CredentialError> {
        let key = PrivateKey::generate()?;
        let request = Renew { csr: csr::make(self.id(), &key)? };
        let answer: Renewed = client.post(RENEW, &request).await?;
        let root = pem::encode_certificates([&self.root]);
        Credential::new(self.id(), &answer.certificate, &root, &key)
    }
}

/// Renews a credential at two thirds of its life, each time anew; returns only when it has expired.
///
/// `tls` gets the configuration to dial with after each renewal.
pub async fn keep_fresh(
    mut credential: Credential,
    path: &Path,
    server: RoleKind,
    client: &Client,
    tls: &watch::Sender<Arc<ClientConfig>>,
) {
    while credential.is_alive() {
        let facts = credential.identity.keyed().facts();
        wait_until(renew_at(facts.not_before, facts.not_after, fastrand::f64())).await;
        match renew(&credential, path, server, client, tls).await {
            Ok(renewed) => {
                tracing::info!(id = %renewed.id(), "certificate renewed");
                credential = renewed;
            }
            Err(error) => {
                tracing::warn!(id = %credential.id(), %error, "the certificate could not be renewed yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn renew(
    credential: &Credential,
    path: &Path,
    server: RoleKind,
    client: &Client,
    tls: &watch::Sender<Arc<ClientConfig>>,
) -> Result<Credential, CredentialError> {
    let renewed = credential.renewed(client).await?;
    let config = renewed.client_tls(server)?;
    renewed.store(path)?;
    tls.send_replace(Arc::new(config));
    Ok(renewed)
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

/// Dials who made a token, whose root is known by the token only.
///
/// # Errors
/// When the token's mesh is no name.
pub fn enrolment_client(token: &Token, server: RoleKind) -> Result<Client, CredentialError> {
    let mesh = TrustDomain::mesh(&token.mesh)?;
    let tls = enrolment_client_config(mesh, server, &token.ca_sha256, CLIENT_ALPN)?;
    Ok(Client::fixed(token.address.clone(), tls))
}

/// Whether the root that enrolment brought is the one that the token pins.
///
/// # Errors
/// When it is another.
pub fn check_pin(token: &Token, credential: &Credential) -> Result<(), CredentialError> {
    match credential.root_sha256()?.eq_ignore_ascii_case(&token.ca_sha256) {
        true => Ok(()),
        false => Err(CredentialError::NotPinned),
    }
}
