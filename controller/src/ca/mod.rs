//! The controller's certificate authorities: which ones there are, and what each may sign.
//!
//! The making of certificates is in `identity`; here is the policy. Keys are in the vault, and the authorities follow
//! the desired state by [`Authorities::reconcile`], which may be repeated at any time.

mod gns;
mod holder;
mod hosts;
mod revocations;
mod rotation;
mod top_level;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{Host, Name, SecretRef};
use config::revoked::Revoked;
use config::wire::Order;
use config::world::{GlobalNamespaceTrust, HostCertificate, MeshTrust};
use identity::bundle::BundleError;
use identity::ca::{CaError, Chain, Lifetimes};
use identity::csr::CsrError;
use identity::facts::FactsError;
use identity::key::KeyError;
use identity::keyed::KeyedError;
use identity::spiffe::SpiffeError;
use identity::{Identity, Role, SpiffeId, TrustBundle, TrustDomain};
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError};
use crate::vault::{Vault, VaultError};

pub use gns::WantedGns;
pub(crate) use holder::{Holder, Party};
pub use revocations::Revocation;
use revocations::Revocations;
pub(crate) use rotation::{RootStatus, Roots, Stage, State, Step};
use top_level::TopLevel;
pub use upload::{UploadFault, check_upload, covers};

/// Why an authority cannot be opened, made, or does not sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The state directory is another mesh's.
    #[error("this state directory is of the mesh {stored:?}, not {asked:?}: start with --mesh {stored}, or elsewhere")]
    OtherMesh {
        /// Whose it is.
        stored: String,
        /// What the settings say.
        asked: String,
    },
    /// No such GNS.
    #[error("there is no global namespace {0}")]
    UnknownGns(Name),
    /// Not its member.
    #[error("the cluster {cluster} is no member of the global namespace {gns}: no row of its spec.members matches it")]
    NotMember {
        /// The GNS.
        gns: Name,
        /// The cluster.
        cluster: Name,
    },
    /// Believed by nobody, so nothing is signed for it.
    #[error("the {0} is revoked: `tombolo certs reinstate` takes that back")]
    Revoked(Revoked),
    /// Once is enough.
    #[error("the {0} is revoked already")]
    RevokedAlready(Revoked),
    /// There is nothing to take back.
    #[error("the {0} is not revoked; `tombolo certs` lists who is")]
    NotRevoked(Revoked),
    /// One rotation at a time.
    #[error("{0} is being replaced already: `tombolo certs` says how far that is, and for whom it waits")]
    Rotating(String),
    /// The authority itself.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] SpiffeError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A damaged certificate.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Not a pair.
    #[error(transparent)]
    Keyed(#[from] KeyedError),
    /// Not a root.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// What there should be certificates for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Every GNS.
    pub global_namespaces: BTreeMap<Name, WantedGns>,
    /// The hosts of the public services whose certificate the controller makes, by GNS and name.
    pub hosts: BTreeMap<(Name, Name), BTreeSet<Host>>,
}

/// Every authority that the controller holds, and what it made with them.
#[derive(Debug)]
pub struct Authorities {
    top_level: TopLevel,
    gns: gns::GnsAuthorities,
    hosts: hosts::HostCertificates,
    revocations: Revocations,
    vault: Arc<Vault>,
}

impl Authorities {
    /// Reads the authorities of `mesh`; at the first start, makes the top-level CA.
    ///
    /// # Errors
    /// When they cannot be read, or are those of another mesh.
    pub fn open(
        mesh: &str,
        store: &Arc<dyn Store>,
        vault: &Arc<Vault>,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let top_level = TopLevel::open(mesh, store, vault, now)?;
        let gns = gns::GnsAuthorities::open(top_level.signing().domain().clone(), store, Arc::clone(vault))?;
        let hosts = hosts::HostCertificates::open(store, Arc::clone(vault))?;
        let revocations = Revocations::open(store)?;
        Ok(Authorities { top_level, gns, hosts, revocations, vault: Arc::clone(vault) })
    }

    /// Makes what is wanted and not there, renews what is two thirds through its life, and drops what is no longer
    /// wanted.
    ///
    /// # Errors
    /// The first thing that failed; what came before it is done.
    pub fn reconcile(&mut self, wanted: &Wanted, now: OffsetDateTime) -> Result<(), AuthorityError> {
        self.gns.reconcile(self.top_level.signing(), &wanted.global_namespaces, now)?;
        self.hosts.reconcile(&self.top_level, &wanted.hosts, now)
    }

    /// The mesh's trust domain.
    pub fn mesh(&self) -> &TrustDomain {
        self.top_level.signing().domain()
    }

    /// The top-level CA's certificates in PEM: one, or two while it is being replaced.
    pub fn ca_pem(&self) -> String {
        self.top_level.pem()
    }

    /// The SHA-256 of the top-level CA's certificate, in lower-case hexadecimal: what tokens pin.
    pub fn ca_sha256(&self) -> &str {
        &self.top_level.signing().facts().fingerprint
    }

    /// The roots of the control plane.
    ///
    /// # Errors
    /// When the top-level CA is no root; it is.
    pub fn roots(&self) -> Result<TrustBundle, AuthorityError> {
        self.top_level.bundle()
    }

    /// The controller's own server certificate, with a new key, for these host names and IP addresses.
    ///
    /// # Errors
    /// When one is no host name, or the CA doesn't sign.
    pub fn controller_identity(&self, names: &[String], now: OffsetDateTime) -> Result<Identity, AuthorityError> {
        self.top_level.controller_identity(names, now)
    }

    /// The identity to which the agent of a cluster is entitled.
    ///
    /// # Errors
    /// When the cluster's name is none.
    pub fn agent_id(&self, cluster: &Name) -> Result<SpiffeId, AuthorityError> {
        Ok(SpiffeId::new(self.mesh().clone(), Role::Agent { cluster: cluster.to_string() })?)
    }

    /// An agent's certificate, and the order by which it is issued. Whether the cluster may have one is the caller's to
    /// know.
    ///
    /// # Errors
    /// When the request asks for anything but the cluster's agent, or the CA doesn't sign.
    pub fn issue_agent(
        &mut self,
        cluster: &Name,
        csr: &str,
        now: OffsetDateTime,
    ) -> Result<(Chain, Order), AuthorityError> {
        self.revocations.check(cluster)?;
        let request = crate::http::csr::check(csr, &self.agent_id(cluster)?)?;
        self.top_level.issue_agent(cluster, &request, now)
    }

    /// The certificate of a cluster's issuing CA in a GNS, in PEM, for who is proven to be the cluster's agent, and
    /// the order by which it is issued.
    ///
    /// # Errors
    /// When the GNS is unknown, the cluster not its member, the request wrong, or the CA doesn't sign.
    pub fn issue_issuing(
        &mut self,
        gns: &Name,
        wanted: &WantedGns,
        cluster: &Name,
        csr: &str,
        now: OffsetDateTime,
    ) -> Result<(String, Order), AuthorityError> {
        self.revocations.check(cluster)?;
        let request = crate::http::csr::check(csr, &self.agent_id(cluster)?)?;
        self.gns.issue_issuing(gns, wanted, cluster, &request, now)
    }

    /// Whom to believe in a GNS.
    pub fn trust(&self, gns: &Name) -> Option<GlobalNamespaceTrust> {
        let trust = self.gns.trust(gns)?;
        Some(GlobalNamespaceTrust { revoked: self.revocations.of(&trust.labels), ..trust })
    }

    /// From now on nobody believes them, whatever they show.
    ///
    /// # Errors
    /// When they are revoked already, or the store cannot be written.
    pub(crate) fn revoke(&mut self, revoked: &Revoked, by: &str, now: OffsetDateTime) -> Result<(), AuthorityError> {
        self.revocations.add(revoked, by, now)
    }

    /// They are believed again, and so is every certificate of theirs that is still in its life.
    ///
    /// # Errors
    /// When they are not revoked, or the store cannot be written.
    pub(crate) fn reinstate(&mut self, revoked: &Revoked) -> Result<(), AuthorityError> {
        self.revocations.remove(revoked)
    }

    /// Whether they are revoked.
    pub(crate) fn is_revoked(&self, revoked: &Revoked) -> bool {
        self.revocations.contains(revoked)
    }

    /// Who is believed no longer.
    pub(crate) fn revocations(&self) -> Vec<Revocation> {
        self.revocations.all()
    }

    /// The clusters of which nobody is.
    pub(crate) fn revoked_clusters(&self) -> BTreeSet<Name> {
        self.revocations.clusters()
    }

    /// Whom the agent of a cluster is to believe, and what to hold.
    pub fn mesh_trust(&self, cluster: &Name) -> MeshTrust {
        self.top_level.trust(cluster)
    }

    /// The CA of a GNS, and how far its rotation is.
    pub(crate) fn gns_root(&self, gns: &Name) -> Option<RootStatus> {
        self.gns.roots(gns).map(rotation::Roots::status)
    }

    /// The top-level CA, and how far its rotation is.
    pub(crate) fn mesh_root(&self) -> RootStatus {
        self.top_level.roots().status()
    }

    /// Takes the next step of every rotation in which one is due; says whether there was any. `holders` are those of a
    /// GNS, or of the mesh.
    ///
    /// # Errors
    /// The first thing that failed; what came before it is done.
    pub(crate) fn advance(
        &mut self,
        wanted: &Wanted,
        holders: impl Fn(Option<&Name>) -> Vec<Holder>,
        now: OffsetDateTime,
    ) -> Result<bool, AuthorityError> {
        // While a root is steady its holders need not be looked up: it is only its own age that counts.
        let of_mesh = if self.top_level.roots().stage() == Stage::Steady { vec![] } else { holders(None) };
        let step = self.top_level.advance(&of_mesh, now)?;
        if step == Some(rotation::Step::Switch) {
            self.gns.cross_sign_all(self.top_level.signing())?;
        }
        wanted.global_namespaces.iter().try_fold(step.is_some(), |stepped, (gns, wanted)| {
            let steady = self.gns.roots(gns).is_none_or(|roots| roots.stage() == Stage::Steady);
            let holders = if steady { vec![] } else { holders(Some(gns)) };
            Ok(self.gns.advance(self.top_level.signing(), gns, wanted, &holders, now)? || stepped)
        })
    }

    /// Begins to replace the CA of a GNS.
    ///
    /// # Errors
    /// When there is no such GNS, or its CA is being replaced already.
    pub(crate) fn rotate_gns(
        &mut self,
        gns: &Name,
        wanted: &WantedGns,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        self.gns.begin(self.top_level.signing(), gns, wanted, now)
    }

    /// Begins to replace the top-level CA.
    ///
    /// # Errors
    /// When it is being replaced already.
    pub(crate) fn rotate_top_level(&mut self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        self.top_level.begin(now)
    }

    /// Orders the certificates of these clusters in a GNS anew: the issuing CAs, or what is below them.
    ///
    /// # Errors
    /// When there is no such GNS, or the store cannot be written.
    pub(crate) fn turn(&mut self, gns: &Name, clusters: &BTreeSet<Name>, issuing: bool) -> Result<(), AuthorityError> {
        self.gns.turn(gns, clusters, issuing)
    }

    /// Orders anew what these clusters' agents and members show, or the CAs by which those members enrol.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn turn_agents(&mut self, clusters: &BTreeSet<Name>, control: bool) -> Result<(), AuthorityError> {
        self.top_level.turn(clusters.iter(), control)
    }

    /// Forgets what is remembered of clusters that are no longer in the mesh.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn retain_clusters(&mut self, clusters: &BTreeSet<Name>) -> Result<(), AuthorityError> {
        self.top_level.retain(clusters)
    }

    /// When the next certificate that was made for public hosts is to be renewed.
    pub(crate) fn hosts_due(&self) -> Option<OffsetDateTime> {
        self.hosts.due()
    }

    /// The certificate that was made for a public service.
    pub fn host_certificate(&self, gns: &Name, public_service: &Name) -> Option<HostCertificate> {
        self.hosts.get(gns, public_service)
    }

    /// Forgets the opaque names of a cluster, so that what an earlier incarnation holds names nobody any more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_labels(&mut self, cluster: &Name) -> Result<(), AuthorityError> {
        self.gns.forget_labels(cluster)
    }

    /// Puts the key of a host's certificate into the vault.
    ///
    /// # Errors
    /// When the vault cannot be written.
    pub fn keep_key(&self, reference: &SecretRef, key: &Zeroizing<String>) -> Result<(), VaultError> {
        self.vault.put(&key_reference(reference), key)
    }

    /// The key of a host's certificate.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn key(&self, reference: &SecretRef) -> Result<Option<Zeroizing<String>>, VaultError> {
        self.vault.get(&key_reference(reference))
    }

    /// Forgets the keys of hosts' certificates that are none of `needed`.
    ///
    /// # Errors
    /// When the vault cannot be written.
    pub fn retain_keys(&self, needed: &BTreeSet<SecretRef>) -> Result<(), VaultError> {
        let needed: BTreeSet<String> = needed.iter().map(key_reference).collect();
        let keys = self.vault.references()?.into_iter().filter(|reference| reference.starts_with(HOST_KEYS));
        keys.filter(|reference| !needed.contains(reference)).try_for_each(|reference| self.vault.remove(&reference))
    }
}

const HOST_KEYS: &str = "host/";

/// Where the vault keeps the key of a host's certificate.
fn key_reference(reference: &SecretRef) -> String {
    format!("{HOST_KEYS}{}", reference.key_sha256)
}

/// Lifetimes as a GNS wants them.
///
/// # Errors
/// When a level would outlive a third of the one above it, or they are too long or too short.
pub fn lifetimes(spec: &config::resource::CertificateLifetimes) -> Result<Lifetimes, identity::ca::LifetimeError> {
    let span = |span: config::resource::Span| time::Duration::try_from(span.duration()).unwrap_or(time::Duration::MAX);
    Lifetimes::new(span(spec.leaf_lifetime), span(spec.issuing_lifetime), span(spec.ca_lifetime))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use identity::ca::renew_at;
    use time::Duration;

    use super::*;
    use crate::store::{EmbeddedStore, Table};
    use crate::vault::SealKeys;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    struct Place {
        _directory: tempfile::TempDir,
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).unwrap());
        let vault = Arc::new(Vault::open(Arc::clone(&store), directory.path(), SealKeys::default()).unwrap());
        Place { _directory: directory, store, vault }
    }

    impl Place {
        fn open(&self) -> Authorities {
            Authorities::open("mesh.example", &self.store, &self.vault, START).unwrap()
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn wanted(members: &[&str], hosts: &[&str]) -> Wanted {
        let gns = WantedGns {
            domain: "shop.internal".parse().unwrap(),
            lifetimes: Lifetimes::default(),
            members: members.iter().map(|cluster| name(cluster)).collect(),
        };
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Wanted { global_namespaces: [(name("shop"), gns)].into(), hosts: [((name("shop"), name("web")), hosts)].into() }
    }

    #[test]
    fn what_was_made_is_the_same_after_a_restart() {
        let place = place();
        let mut authorities = place.open();
        authorities.reconcile(&wanted(&["north", "south"], &["a.example"]), START).unwrap();
        let of = |authorities: &Authorities| {
            let certificate = authorities.host_certificate(&name("shop"), &name("web")).unwrap();
            (authorities.ca_pem(), authorities.trust(&name("shop")).unwrap(), certificate)
        };
        let before = of(&authorities);
        assert_eq!((before.1.roots.len(), before.1.labels.len()), (1, 2));
        let mut authorities = place.open();
        authorities.reconcile(&wanted(&["north", "south"], &["a.example"]), START).unwrap();
        assert_eq!(of(&authorities), before);
        assert_eq!(place.store.records(Table::CrossSigned).unwrap().len(), 1);
    }

    #[test]
    fn who_leaves_and_returns_bears_another_name() {
        let place = place();
        let mut authorities = place.open();
        let mut label = |members: &[&str]| {
            authorities.reconcile(&wanted(members, &[]), START).unwrap();
            authorities.trust(&name("shop")).unwrap().labels.get("north").cloned()
        };
        let first = label(&["north"]).unwrap();
        assert_eq!(label(&[]), None);
        assert_ne!(label(&["north"]).unwrap(), first);
    }

    /// Everybody is so far that the next step may be taken.
    fn step(authorities: &mut Authorities, at: OffsetDateTime) -> bool {
        let wanted = wanted(&["north"], &["a.example"]);
        let mut advance = |at| authorities.advance(&wanted, |_| vec![], at).unwrap();
        advance(at) || advance(at + Duration::seconds(3))
    }

    #[test]
    fn a_rotation_outlives_restarts_at_every_stage_and_leaves_nothing_behind() {
        let place = place();
        let mut authorities = place.open();
        let (later, wanted) = (START + Duration::days(1), wanted(&["north"], &["a.example"]));
        authorities.reconcile(&wanted, START).unwrap();
        let (first_ca, first) = (authorities.ca_pem(), authorities.trust(&name("shop")).unwrap());
        let cross_signed = |key: &str| place.store.record(Table::CrossSigned, key).unwrap();
        authorities.rotate_gns(&name("shop"), &wanted.global_namespaces[&name("shop")], later).unwrap();
        authorities.rotate_top_level(later).unwrap();
        assert!(matches!(authorities.rotate_top_level(later), Err(AuthorityError::Rotating(_))));
        let root_of = |authorities: &Authorities| authorities.trust(&name("shop")).unwrap().order(&name("north")).root;
        let (before, before_top) = (root_of(&authorities), authorities.ca_sha256().to_owned());

        let mut authorities = place.open();
        assert_eq!(root_of(&authorities), before, "the old one signs");
        let both = authorities.trust(&name("shop")).unwrap().roots;
        assert_eq!((both.len(), authorities.mesh_trust(&name("north")).roots.len()), (2, 2));
        assert_eq!(both[0], first.roots[0]);
        assert!(step(&mut authorities, later));

        let mut authorities = place.open();
        let after = root_of(&authorities);
        assert_ne!(after, before);
        assert_eq!(authorities.trust(&name("shop")).unwrap().roots, both, "the bundle stays");
        let pinned = authorities.ca_sha256().to_owned();
        assert!(cross_signed(&format!("@top-level/{pinned}")).is_some());
        let own = authorities.controller_identity(&["localhost".to_owned()], later).unwrap();
        let names: Vec<_> = own.keyed().chain().iter().map(identity::fingerprint).collect();
        assert_eq!(
            (&names[2], &names[3]),
            (&pinned, &before_top),
            "the leaf, what leads to the old root, the root, the old one"
        );
        authorities.reconcile(&wanted, later).unwrap();
        let chain = authorities.host_certificate(&name("shop"), &name("web")).unwrap().chain;
        assert_eq!(chain.matches("BEGIN").count(), 2, "who knows the old CA only is led to it");
        assert!(step(&mut authorities, later));

        let mut authorities = place.open();
        assert_eq!((root_of(&authorities), authorities.ca_sha256().to_owned()), (after, pinned));
        assert_eq!(authorities.trust(&name("shop")).unwrap().roots, both[1..]);
        assert!(!authorities.ca_pem().contains(first_ca.trim()));
        assert!(!step(&mut authorities, later));
        let keys = place.vault.references().unwrap();
        assert_eq!(keys.iter().filter(|key| key.starts_with("ca/")).count(), 2, "{keys:?}");
    }

    #[test]
    fn roots_are_replaced_by_timer() {
        let place = place();
        let mut authorities = place.open();
        authorities.reconcile(&wanted(&["north"], &[]), START).unwrap();
        assert!(!step(&mut authorities, START + Duration::days(50)));
        assert!(step(&mut authorities, START + Duration::days(66)));
        assert_eq!(authorities.gns_root(&name("shop")).unwrap().stage(), Stage::Overlap);
        assert_eq!(authorities.mesh_root().stage(), Stage::Steady);
        assert!(step(&mut authorities, START + Duration::days(365 * 7 + 60)), "both are due now");
        assert_eq!(authorities.mesh_root().stage(), Stage::Overlap);
    }

    #[test]
    fn nothing_is_left_of_what_is_no_longer_wanted() {
        let place = place();
        let mut authorities = place.open();
        authorities.reconcile(&wanted(&["north"], &["a.example"]), START).unwrap();
        authorities.reconcile(&Wanted::default(), START).unwrap();
        assert!(authorities.trust(&name("shop")).is_none());
        assert_eq!(place.vault.references().unwrap(), [top_level::TOP_LEVEL]);
        assert!(place.store.records(Table::Labels).unwrap().is_empty());
    }

    #[test]
    fn host_certificates_follow_their_hosts_and_are_renewed_in_time() {
        let place = place();
        let mut authorities = place.open();
        let mut made = |hosts: &[&str], at: OffsetDateTime| {
            authorities.reconcile(&wanted(&[], hosts), at).unwrap();
            let certificate = authorities.host_certificate(&name("shop"), &name("web")).unwrap();
            assert!(authorities.key(&certificate.secret_ref).unwrap().is_some());
            certificate
        };
        let first = made(&["a.example"], START);
        assert_eq!(made(&["a.example"], START + Duration::days(10)), first);
        let second = made(&["a.example", "b.example"], START + Duration::days(10));
        assert!(covers(&second.chain, &"b.example".parse().unwrap()));
        let latest = renew_at(START + Duration::days(10), START + Duration::days(40), 1.0);
        let third = made(&["a.example", "b.example"], latest);
        assert_ne!(third.secret_ref, second.secret_ref);
        assert_eq!(place.vault.references().unwrap().iter().filter(|key| key.starts_with(HOST_KEYS)).count(), 1);
    }
}
