//! One current identity for each declared workload: made when it may have one, renewed by timer and by change. Only
//! the agent's own issuing CA is needed for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::wire::Order;
use identity::ca::renew_at;
use identity::pem::{self, encode_certificates};
use identity::{Facts, PrivateKey, SigningRequest, SpiffeId};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::outstanding::Ledger;
use super::signer::{Entitlement, Needed, Signer, WorkloadError};
use super::territory::Roots;
use crate::audit::{AuditError, AuditLog, Entry};
use crate::workload::directory::{self, DirectoryError, Files};
use crate::workload::{Declaration, ServiceName};

/// After a failure, and after a certificate whose life is so short that it would be renewed at once.
const RETRY: Duration = Duration::from_secs(2);
/// The wall clock may be set: so often it is looked at, whatever is due.
const LOOK: Duration = Duration::from_secs(30);

/// A workload's certificate with its key, and whom it should believe.
pub(super) struct Svid {
    pub(super) id: SpiffeId,
    /// Leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Arc<PrivateKey>,
    pub(super) believed: Believed,
}

/// Whom a workload should believe.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Believed {
    /// The roots of its own trust domain.
    pub(super) bundle: Vec<CertificateDer<'static>>,
    /// Those of others in which it may call something.
    pub(super) federated: BTreeMap<String, Vec<CertificateDer<'static>>>,
}

/// Why a declared workload has no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lack {
    /// It may not have one, as things are.
    pub(super) denied: bool,
    pub(super) reason: String,
}

/// A declared workload, as it stands.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) uid: u32,
    pub(super) service: ServiceName,
    pub(super) svid: Result<Arc<Svid>, Lack>,
}

/// All declared workloads.
pub(super) type Standings = Vec<Standing>;

/// Why one could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Request(#[from] identity::csr::CsrError),
    #[error(transparent)]
    Key(#[from] identity::key::KeyError),
    #[error("a certificate was signed, but is not there")]
    Unsigned,
    #[error("what was signed cannot be read: {0}")]
    Facts(#[from] identity::facts::FactsError),
    #[error("the roots cannot be read: {0}")]
    Roots(#[from] pem::PemError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// What is kept of one workload.
struct Kept {
    declaration: Declaration,
    current: Option<Current>,
    /// What was said last of its lack: it is said once.
    lack: Option<Lack>,
    /// What that needs which was handed out last.
    needs: Vec<Needed>,
}

struct Current {
    svid: Arc<Svid>,
    order: Order,
    renew_at: OffsetDateTime,
    expires: OffsetDateTime,
    /// Whether its directory has it.
    written: bool,
}

/// Keeps them.
pub(super) struct Keeper {
    signer: Signer,
    audit: Arc<AuditLog>,
    ledger: Arc<Ledger>,
    kept: Vec<Kept>,
    standings: watch::Sender<Arc<Standings>>,
}

impl Keeper {
    pub(super) fn new(
        declarations: Vec<Declaration>,
        signer: Signer,
        audit: Arc<AuditLog>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let kept: Vec<Kept> = declarations.into_iter().map(Kept::new).collect();
        let now = OffsetDateTime::now_utc();
        let standings = kept.iter().map(|kept| kept.standing(now)).collect();
        Keeper { signer, audit, ledger, kept, standings: watch::Sender::new(Arc::new(standings)) }
    }

    /// How the workloads stand, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Standings>> {
        self.standings.subscribe()
    }

    /// Keeps all of them up to date, until the agent ends.
    pub(super) async fn keep(mut self) {
        let mut signer = self.signer.clone();
        loop {
            // It writes to disk: that waits where waiting harms nobody.
            let refreshed = tokio::task::spawn_blocking(move || {
                let pause = self.refresh();
                (self, pause)
            });
            let Ok((keeper, pause)) = refreshed.await else { return };
            self = keeper;
            if let Ok(false) = tokio::time::timeout(pause, signer.changed()).await {
                return;
            }
        }
    }

    /// Brings all up to date; says how long there is nothing to do.
    fn refresh(&mut self) -> Duration {
        let now = OffsetDateTime::now_utc();
        let due = self.kept.iter_mut().filter_map(|kept| refresh(kept, &self.signer, &self.audit, now)).min();
        let standings: Standings = self.kept.iter().map(|kept| kept.standing(now)).collect();
        self.standings.send_if_modified(|last| {
            let same = last.len() == standings.len() && last.iter().zip(&standings).all(|(a, b)| a.is(b));
            if !same {
                *last = Arc::new(standings);
            }
            !same
        });
        // Only now: until the workloads have got the new ones, it is the old ones that count.
        self.ledger.kept(self.kept.iter().flat_map(|kept| kept.needs.clone()));
        let due = due.map(|due| Duration::try_from(due - OffsetDateTime::now_utc()).unwrap_or_default());
        due.unwrap_or(LOOK).min(LOOK)
    }
}

/// When it is to be looked at again, if by time alone.
fn refresh(kept: &mut Kept, signer: &Signer, audit: &AuditLog, now: OffsetDateTime) -> Option<OffsetDateTime> {
    match kept.update(signer, audit, now) {
        Ok(due) => {
            kept.lack = None;
            Some(due)
        }
        Err(error) => {
            let denied = matches!(&error, KeepError::Workload(error) if error.is_denial());
            kept.tell(Lack { denied, reason: error.to_string() });
            if denied {
                kept.current = None; // what it holds lives on for a leaf's life at the most
            }
            (!denied).then(|| now + RETRY)
        }
    }
}

impl Kept {
    fn new(declaration: Declaration) -> Self {
        Kept { declaration, current: None, lack: None, needs: vec![] }
    }

    fn update(&mut self, signer: &Signer, audit: &AuditLog, now: OffsetDateTime) -> Result<OffsetDateTime, KeepError> {
        let entitlement = signer.entitle(&self.declaration.service)?;
        let believed = believed(&entitlement)?;
        match &mut self.current {
            Some(current) if current.is_good(&entitlement, now) => current.believe(believed),
            _ => self.current = Some(issue(&entitlement, believed, &self.declaration.service, audit)?),
        }
        let Some(current) = &mut self.current else { return Ok(now) };
        if let (Some(directory), false) = (&self.declaration.directory, current.written) {
            write(directory, self.declaration.uid, &current.svid)?;
            current.written = true;
        }
        self.needs = entitlement.needs(current.expires);
        Ok(current.renew_at)
    }

    fn tell(&mut self, lack: Lack) {
        let service = &self.declaration.service;
        if self.lack.as_ref() != Some(&lack) {
            tracing::warn!(%service, reason = lack.reason, "a workload's identity is not up to date");
        }
        self.lack = Some(lack);
    }

    /// An identity that could not be renewed is shown as long as it is good.
    fn standing(&self, now: OffsetDateTime) -> Standing {
        let Declaration { uid, service, .. } = self.declaration.clone();
        let current = self.current.as_ref().filter(|current| now < current.expires);
        let lack =
            || self.lack.clone().unwrap_or_else(|| Lack { denied: false, reason: "it is being made".to_owned() });
        Standing { uid, service, svid: current.map(|current| current.svid.clone()).ok_or_else(lack) }
    }
}

impl Standing {
    fn is(&self, other: &Standing) -> bool {
        match (&self.svid, &other.svid) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (Err(one), Err(other)) => one == other,
            _ => false,
        }
    }
}

impl Current {
    fn is_good(&self, entitlement: &Entitlement, now: OffsetDateTime) -> bool {
        now < self.renew_at && self.order == entitlement.order() && self.svid.id == entitlement.id
    }

    /// Takes other roots with the same certificate.
    fn believe(&mut self, believed: Believed) {
        if self.svid.believed != believed {
            let Svid { id, chain, key, .. } = &*self.svid;
            let (id, chain, key) = (id.clone(), chain.clone(), key.clone());
            self.svid = Arc::new(Svid { id, chain, key, believed });
            self.written = false;
        }
    }
}

fn issue(
    entitlement: &Entitlement,
    believed: Believed,
    service: &ServiceName,
    audit: &AuditLog,
) -> Result<Current, KeepError> {
    let key = PrivateKey::generate()?;
    let chain = entitlement.sign(&SigningRequest::own(entitlement.id.clone(), &key)?)?;
    audit.record(&Entry::issue("agent", &chain).detail("for", "a declared workload"))?;
    let leaf = chain.first().ok_or(KeepError::Unsigned)?;
    let Facts { not_before, not_after, .. } = Facts::read(leaf)?;
    tracing::info!(%service, id = %entitlement.id, "a workload's certificate was issued");
    Ok(Current {
        order: entitlement.order(),
        renew_at: renew_at(not_before, not_after, fastrand::f64()).max(OffsetDateTime::now_utc() + RETRY),
        expires: not_after,
        svid: Arc::new(Svid { id: entitlement.id.clone(), chain, key: Arc::new(key), believed }),
        written: false,
    })
}

fn believed(entitlement: &Entitlement) -> Result<Believed, KeepError> {
    let of_domain = |roots: &Roots| Ok::<_, KeepError>((roots.domain.clone(), certificates(&roots.certificates)?));
    let federated = entitlement.federated.values().map(of_domain).collect::<Result<_, _>>()?;
    Ok(Believed { bundle: certificates(&entitlement.roots)?, federated })
}

fn certificates(roots: &[String]) -> Result<Vec<CertificateDer<'static>>, KeepError> {
    let mut certificates = Vec::new();
    for root in roots {
        certificates.extend(pem::decode_certificates(root)?);
    }
    Ok(certificates)
}

fn write(directory: &std::path::Path, uid: u32, svid: &Svid) -> Result<(), DirectoryError> {
    let (chain, bundle) = (encode_certificates(&svid.chain), encode_certificates(&svid.believed.bundle));
    let key: Zeroizing<String> = svid.key.to_pem();
    let federated = svid.believed.federated.iter();
    let federated = federated.map(|(domain, roots)| (domain.clone(), encode_certificates(roots))).collect();
    directory::write(directory, Some(uid), &Files { chain: &chain, key: &key, bundle: &bundle, federated: &federated })
}
