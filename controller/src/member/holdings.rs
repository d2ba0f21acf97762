//! Certificates that a process holds in each GNS: an agent its issuing CAs, a gateway its identities. Asked for when
//! a GNS needs one, renewed by timer, kept on disk, and never let go of before their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::resource::Name;
use config::snapshot::Namespace;
use config::world::GlobalNamespaceTrust;
use identity::ca::renew_at;
use identity::files::{read_private, write_private};
use identity::pem;
use identity::spiffe::SpiffeError;
use identity::{Facts, PrivateKey, SpiffeId};
use ring::digest::{Context, SHA256};
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::credential::CredentialError;
use crate::http::client::Client;
use crate::http::csr;
use crate::http::message::{Certified, Certify};
use crate::sync::cache::{make_private_dir, set_aside};
use crate::sync::secrets::hex;

/// After a first attempt that failed, doubling with each, and the longest: whoever signs may still be starting.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// So often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(30);
/// What stands before the digest of the roots, in the file's first line.
const ROOTS: &str = "roots: ";

/// A GNS in which certificates are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The GNS's trust domain.
    pub trust_domain: String,
    /// SHA-256 over the GNS's roots: when they change, certificates below them are asked for anew.
    pub roots: String,
}

/// By GNS.
pub type Needs = BTreeMap<Name, Need>;

impl Need {
    fn new(trust_domain: &str, roots: &[String]) -> Self {
        let mut context = Context::new(&SHA256);
        roots.iter().for_each(|root| context.update(root.as_bytes()));
        Need { trust_domain: trust_domain.to_owned(), roots: hex(context.finish().as_ref()) }
    }

    /// What a gateway needs in a GNS of its snapshot: nothing, until that has roots.
    pub fn of(namespace: &Namespace) -> Option<Self> {
        (!namespace.roots.is_empty()).then(|| Need::new(&namespace.trust_domain, &namespace.roots))
    }

    /// What the agent of a cluster needs in a GNS: nothing, unless the cluster is a member.
    pub fn of_trust(trust: &GlobalNamespaceTrust, cluster: &Name) -> Option<Self> {
        let member = trust.labels.contains_key(cluster) && !trust.roots.is_empty();
        member.then(|| Need::new(&trust.trust_domain, &trust.roots))
    }
}

/// A certificate with its key, in one GNS.
#[derive(Debug)]
pub struct Holding<T> {
    /// Below which roots it was asked for; as in [`Need`].
    pub roots: String,
    /// The thing itself.
    pub value: T,
    renew_at: OffsetDateTime,
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
            let pause = if faults.is_empty() { LOOK } else { retry };
            if let Ok(Err(_)) = tokio::time::timeout(pause, needs.changed()).await {
                return;
            }
        }
    }

    async fn obtain_due(&self, client: &Client, needs: &Needs, faults: &mut Faults) {
        let path = self.recipe.path;
        faults.retain(|gns, _| needs.contains_key(gns));
        for (gns, need) in needs.iter().filter(|(gns, need)| self.is_due(gns, need)) {
            let Err(error) = self.obtain(client, gns, need).await else {
                tracing::info!(%gns, path, "certificate obtained");
                faults.remove(gns);
                continue;
            };
            let fault = error.to_string();
            match faults.insert(gns.clone(), fault.clone()) {
                Some(last) if last == fault => tracing::debug!(%gns, path, fault, "still no certificate"),
                _ => tracing::warn!(%gns, path, fault, "no certificate yet; trying again until there is one"),
            }
        }
    }

    fn is_due(&self, gns: &Name, need: &Need) -> bool {
        let now = OffsetDateTime::now_utc();
        self.held.borrow().get(gns).is_none_or(|held| held.roots != need.roots || held.renew_at <= now)
    }

    async fn obtain(&self, client: &Client, gns: &Name, need: &Need) -> Result<(), CredentialError> {
        let key = PrivateKey::generate()?;
        let csr = csr::make(&(self.recipe.id)(&need.trust_domain)?, &key)?;
        let request = Certify { global_namespace: gns.clone(), csr };
        let answer: Certified = client.post(self.recipe.path, &request).await?;
        let text = joined(&need.roots, &answer.chain, &key);
        let path = self.folder.join(format!("{gns}.pem"));
        let holding = parse(&text, &self.recipe).map_err(|reason| CredentialError::Unusable(gns.clone(), reason))?;
        write_private(&path, text.as_bytes())?;
        self.held.send_modify(|held| {
            let mut all = (**held).clone();
            all.insert(gns.clone(), Arc::new(holding));
            *held = Arc::new(all);
        });
        Ok(())
    }
}

fn joined(roots: &str, chain: &str, key: &PrivateKey) -> Zeroizing<String> {
    let key = key.to_pem();
    let mut text = Zeroizing::new(String::with_capacity(ROOTS.len() + roots.len() + chain.len() + key.len() + 2));
    for part in [ROOTS, roots, "\n", chain, "\n", &key] {
        text.push_str(part);
    }
    text
}

fn load<T>(path: &Path, recipe: &Recipe<T>) -> Result<Holding<T>, String> {
    let bytes = read_private(path).map_err(|e| e.to_string())?;
    parse(std::str::from_utf8(&bytes).map_err(|e| e.to_string())?, recipe)
}

fn parse<T>(text: &str, recipe: &Recipe<T>) -> Result<Holding<T>, String> {
    let roots = text.lines().next().and_then(|line| line.strip_prefix(ROOTS)).ok_or("its first line is gone")?;
    let chain = pem::decode_certificates(text).map_err(|e| e.to_string())?;
    let facts = Facts::read(chain.first().ok_or("it has no certificate")?).map_err(|e| e.to_string())?;
    let renew_at = renew_at(facts.not_before, facts.not_after, fastrand::f64());
    Ok(Holding { roots: roots.to_owned(), value: (recipe.read)(text)?, renew_at })
}
