//! Certificates that a process holds in each GNS: an agent its issuing CAs, a gateway its identities. Asked for when
//! a GNS needs one, renewed by timer, kept on disk, and never let go of before their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::resource::Name;
use config::snapshot::Namespace;
use config::wire::{CertificateReport, Order};
use config::world::GlobalNamespaceTrust;
use identity::ca::renew_at;
use identity::files::{read_private, write_private};
use identity::pem;
use identity::spiffe::SpiffeError;
use identity::{Facts, PrivateKey, SpiffeId};
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::credential::{CredentialError, check_clocks, describe};
use super::order;
use crate::http::client::Client;
use crate::http::csr;
use crate::http::message::{Certified, Certify};
use crate::sync::cache::{make_private_dir, set_aside};

/// After a first attempt that failed, doubling with each, and the longest: whoever signs may still be starting.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Waiting is by the wall clock, which may be set: so often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(30);

/// A GNS in which certificates are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The GNS's trust domain.
    pub trust_domain: String,
    /// Which certificates: those of other orders are asked for anew.
    pub order: Order,
}

/// By GNS.
pub type Needs = BTreeMap<Name, Need>;

impl Need {
    /// What a gateway needs in a GNS of its snapshot: nothing, until that has roots.
    pub fn of(namespace: &Namespace) -> Option<Self> {
        let Namespace { trust_domain, order, .. } = namespace;
        (!namespace.roots.is_empty()).then(|| Need { trust_domain: trust_domain.clone(), order: order.clone() })
    }

    /// What the agent of a cluster needs in a GNS: nothing, unless the cluster is a member.
    pub fn of_trust(trust: &GlobalNamespaceTrust, cluster: &Name) -> Option<Self> {
        let member = trust.labels.contains_key(cluster) && !trust.roots.is_empty();
        let order = trust.order(cluster).of_issuing();
        member.then(|| Need { trust_domain: trust.trust_domain.clone(), order })
    }
}

/// A certificate with its key, in one GNS.
#[derive(Debug)]
pub struct Holding<T> {
    /// By which order it was issued.
    pub order: Order,
    /// The thing itself.
    pub value: T,
    report: CertificateReport,
    renew_at: OffsetDateTime,
}

impl<T> Holding<T> {
    /// What is told of it.
    pub fn report(&self) -> &CertificateReport {
        &self.report
    }
}

/// All of them, by GNS.
pub type Held<T> = BTreeMap<Name, Arc<Holding<T>>>;

/// The name in a request, by the GNS's trust domain.
pub type NameOf = Box<dyn Fn(&str) -> Result<SpiffeId, SpiffeError> + Send + Sync>;

/// How one kind of certificate is asked for, and read.
pub struct Recipe<T> {
    /// Where it is asked for.
    pub path: &'static str,
    /// The name in the request, by the GNS's trust domain.
    pub id: NameOf,
    /// Reads the chain and the key.
    pub read: fn(&str) -> Result<T, String>,
}

/// Why there is none, by GNS; what was said once isn't said again.
type Faults = BTreeMap<Name, String>;

/// Keeps the certificates of one kind.
pub struct Holdings<T> {
    folder: PathBuf,
    recipe: Recipe<T>,
    held: watch::Sender<Arc<Held<T>>>,
}

impl<T> Holdings<T> {
    /// Reads those on disk. What is damaged is set aside and asked for again.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: PathBuf, recipe: Recipe<T>) -> Result<Self, CredentialError> {
        make_private_dir(&folder)?;
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|file| file.path());
        let load = |path: PathBuf| {
            let name: Name = path.file_name()?.to_str()?.strip_suffix(".pem")?.parse().ok()?;
            let holding = load(&path, &recipe).map_err(|reason| set_aside(&path, &reason)).ok()?;
            Some((name, Arc::new(holding)))
        };
        let held = files.filter_map(load).collect();
        Ok(Holdings { folder, recipe, held: watch::Sender::new(Arc::new(held)) })
    }

    /// What is held, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Held<T>>> {
        self.held.subscribe()
    }

    /// Asks for what is needed and not held, and renews what is, until the sender of `needs` is gone.
    pub async fn keep_fresh(&self, client: &Client, mut needs: watch::Receiver<Arc<Needs>>) {
        let mut faults = Faults::new();
        let mut retry = RETRY.0;
        loop {
            let needed = needs.borrow_and_update().clone();
            self.obtain_due(client, &needed, &mut faults).await;
            retry = if faults.is_empty() { RETRY.0 } else { (retry * 2).min(RETRY.1) };
            let pause = if faults.is_empty() { self.idle(&needed) } else { retry };
            if let Ok(Err(_)) = tokio::time::timeout(pause, needs.changed()).await {
                return;
            }
        }
    }

    /// How long nothing is due, as far as this can be known.
    fn idle(&self, needs: &Needs) -> Duration {
        let held = self.held.borrow().clone();
        let next = needs.keys().filter_map(|gns| Some(held.get(gns)?.renew_at)).min();
        let left = next.map_or(LOOK, |next| Duration::try_from(next - OffsetDateTime::now_utc()).unwrap_or_default());
        left.clamp(RETRY.0, LOOK)
    }

    async fn obtain_due(&self, client: &Client, needs: &Needs, faults: &mut Faults) {
        let path = self.recipe.path;
        faults.retain(|gns, _| needs.contains_key(gns));
        for (gns, need) in needs.iter() {
            let Some(why) = self.due(gns, need) else {
                faults.remove(gns);
                continue;
            };
            let Err(error) = self.obtain(client, gns, need, why).await else {
                tracing::info!(%gns, path, ?why, "certificate obtained");
                faults.remove(gns);
                continue;
            };
            let fault = error.to_string();
            match faults.insert(gns.clone(), fault.clone()) {
                Some(last) if last == fault => tracing::debug!(%gns, path, fault, "still no such certificate"),
                _ => tracing::warn!(%gns, path, fault, "the certificate is not there yet; trying again until it is"),
            }
        }
    }

    fn due(&self, gns: &Name, need: &Need) -> Option<Why> {
        match self.held.borrow().get(gns) {
            Some(held) if held.renew_at > OffsetDateTime::now_utc() => {
                (held.order != need.order).then_some(Why::Ordered)
            }
            _ => Some(Why::Needed),
        }
    }

    async fn obtain(&self, client: &Client, gns: &Name, need: &Need, why: Why) -> Result<(), CredentialError> {
        let key = PrivateKey::generate()?;
        let csr = csr::make(&(self.recipe.id)(&need.trust_domain)?, &key)?;
        let order = (why == Why::Ordered).then(|| need.order.clone());
        let request = Certify { global_namespace: gns.clone(), csr, order };
        let answer: Certified = client.post(self.recipe.path, &request).await?;
        let text = joined(&answer, &key);
        let path = self.folder.join(format!("{gns}.pem"));
        let unusable = |reason: String| CredentialError::Unusable(gns.clone(), reason);
        let holding = parse(&text, &self.recipe).map_err(unusable)?;
        check_clocks(&holding.report, OffsetDateTime::now_utc().unix_timestamp())?;
        let ahead = holding.order != need.order;
        write_private(&path, text.as_bytes())?;
        self.held.send_modify(|held| {
            let mut all = (**held).clone();
            all.insert(gns.clone(), Arc::new(holding));
            *held = Arc::new(all);
        });
        // The world that says so is on its way; until it has come, nothing better is to be had.
        if ahead { Err(CredentialError::OtherOrder(gns.clone())) } else { Ok(()) }
    }
}

/// Why a certificate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There is none, or it is two thirds through its life: any will do.
    Needed,
    /// The one that is held is good, but another was ordered: only such a one will do.
    Ordered,
}

fn joined(answer: &Certified, key: &PrivateKey) -> Zeroizing<String> {
    let (first, key) = (order::line(&answer.order), key.to_pem());
    let mut text = Zeroizing::new(String::with_capacity(first.len() + answer.chain.len() + key.len() + 1));
    for part in [&first, &answer.chain, "\n", key.as_str()] {
        text.push_str(part);
    }
    text
}

fn load<T>(path: &Path, recipe: &Recipe<T>) -> Result<Holding<T>, String> {
    let bytes = read_private(path).map_err(|e| e.to_string())?;
    parse(std::str::from_utf8(&bytes).map_err(|e| e.to_string())?, recipe)
}

fn parse<T>(text: &str, recipe: &Recipe<T>) -> Result<Holding<T>, String> {
    let chain = pem::decode_certificates(text).map_err(|e| e.to_string())?;
    let mut facts = chain.iter().map(|certificate| Facts::read(certificate).map_err(|e| e.to_string()));
    let own = facts.next().ok_or("it has no certificate")??;
    let issuer = facts.next().transpose()?.map(|issuing| issuing.serial.to_string());
    let renew_at = renew_at(own.not_before, own.not_after, fastrand::f64());
    let report = CertificateReport { issuer, ..describe(&own, order::read(text), renew_at) };
    Ok(Holding { order: report.order.clone(), value: (recipe.read)(text)?, report, renew_at })
}
