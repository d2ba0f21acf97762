//! The top-level CA, and how it is replaced.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::resource::Name;
use config::wire::Order;
use config::world::MeshTrust;
use identity::ca::{Chain, TopLevelCa};
use identity::pem::{decode_certificates, encode_certificates};
use identity::{Facts, Identity, KeyedCertificate, PrivateKey, Role, SigningRequest, SpiffeId, TrustBundle};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::AuthorityError;
use super::gns::CrossSigned;
use super::holder::Holder;
use super::rotation::{Roots, Stage, State, Step};
use crate::store::{Records, Store};
use crate::vault::Vault;

/// Where the vault keeps the first one; its successors are below.
pub(super) const TOP_LEVEL: &str = "ca/top-level";
const STATE: &str = "top-level";
/// No GNS has such a name.
const CROSS_SIGNED: &str = "@top-level";

/// The top-level CA, or two while one takes the other's place.
#[derive(Debug)]
pub(super) struct TopLevel {
    roots: Roots<TopLevelCa>,
    /// The one that signs, as its predecessor signed it: for who knows only that one.
    cross_signed: Option<CertificateDer<'static>>,
    vault: Arc<Vault>,
    states: Records<State>,
    records: Records<CrossSigned>,
}

impl TopLevel {
    /// Reads it; at the first start, makes it.
    pub(super) fn open(
        mesh: &str,
        store: &Arc<dyn Store>,
        vault: &Arc<Vault>,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        let states: Records<State> = Records::new(Arc::clone(store));
        let roots = match Roots::restore(stored(mesh, vault)?, states.get(STATE)?) {
            Some((roots, orphans)) => {
                orphans.iter().try_for_each(|orphan| forget(vault, orphan))?;
                roots
            }
            None => Roots::new(first(mesh, vault, now)?),
        };
        let (vault, records) = (Arc::clone(vault), Records::new(Arc::clone(store)));
        let mut top_level = TopLevel { roots, cross_signed: None, vault, states, records };
        top_level.read_cross_signed()?;
        Ok(top_level)
    }

    fn read_cross_signed(&mut self) -> Result<(), AuthorityError> {
        let record = self.records.get(&cross_signed_key(self.signing()))?;
        let certificates = record.and_then(|record| decode_certificates(&record.certificate).ok());
        self.cross_signed = certificates.and_then(|certificates| certificates.into_iter().next());
        Ok(())
    }

    pub(super) fn signing(&self) -> &TopLevelCa {
        self.roots.signing()
    }

    pub(super) fn roots(&self) -> &Roots<TopLevelCa> {
        &self.roots
    }

    /// All that are believed, in PEM.
    pub(super) fn pem(&self) -> String {
        self.roots.all().into_iter().map(|ca| encode_certificates([ca.certificate()])).collect()
    }

    pub(super) fn bundle(&self) -> Result<TrustBundle, AuthorityError> {
        Ok(TrustBundle::new(self.roots.all().into_iter().map(|ca| ca.certificate().clone()))?)
    }

    /// What the agent of a cluster is told.
    pub(super) fn trust(&self, cluster: &Name) -> MeshTrust {
        let roots = self.roots.all().into_iter().map(|ca| encode_certificates([ca.certificate()]));
        MeshTrust { roots: roots.collect(), order: self.roots.order(cluster) }
    }

    /// The controller's own certificate, with a new key.
    pub(super) fn controller_identity(
        &self,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Identity, AuthorityError> {
        let key = PrivateKey::generate()?;
        let id = SpiffeId::new(self.signing().domain().clone(), Role::Controller)?;
        let request = SigningRequest::own(id, &key)?;
        let mut chain = self.signing().issue_controller(&request, names.iter().map(String::as_str), now)?;
        // Before the root, which stands last: OpenSSL follows the first issuer that fits, and would end at a root that it
        // doesn't know.
        let root = chain.len().saturating_sub(1);
        self.cross_signed.iter().for_each(|cross_signed| chain.insert(root, cross_signed.clone()));
        // Join tokens that were made before the new root signs pin the old one.
        chain.extend(self.roots.predecessor().map(|old| old.certificate().clone()));
        Ok(Identity::new(KeyedCertificate::new(chain, &key)?)?)
    }

    /// What stands in a public host's chain after its own certificate, for who has imported an older root.
    pub(super) fn cross_signed(&self) -> Option<&CertificateDer<'static>> {
        self.cross_signed.as_ref()
    }

    /// An agent's certificate.
    pub(super) fn issue_agent(
        &mut self,
        cluster: &Name,
        request: &SigningRequest,
        now: OffsetDateTime,
    ) -> Result<(Chain, Order), AuthorityError> {
        let chain = self.signing().issue_agent(request, now)?;
        let order = self.roots.order(cluster);
        for certificate in &chain {
            let not_after = Facts::read(certificate)?.not_after;
            self.roots.issued(cluster, not_after);
        }
        self.save()?;
        Ok((chain, order))
    }

    /// Takes the next step of a rotation, if one is due; says which.
    pub(super) fn advance(&mut self, holders: &[Holder], now: OffsetDateTime) -> Result<Option<Step>, AuthorityError> {
        let step = self.roots.next(holders, now);
        let late: Vec<String> = self.roots.waiting(holders, now).into_iter().map(Holder::name).collect();
        match step {
            None => {}
            Some(Step::Begin) => self.begin(now)?,
            Some(Step::Switch) => self.switch(&late, now)?,
            Some(Step::Drop) => self.drop_old(&late, now)?,
        }
        Ok(step)
    }

    /// Makes a successor and makes it known.
    pub(super) fn begin(&mut self, now: OffsetDateTime) -> Result<(), AuthorityError> {
        if self.roots.stage() != Stage::Steady {
            return Err(AuthorityError::Rotating("the top-level CA".to_owned()));
        }
        let successor = TopLevelCa::create(self.signing().domain().as_str(), now)?;
        let certificate = encode_certificates([&self.signing().cross_sign_successor(&successor)?]);
        self.records.put(&cross_signed_key(&successor), &CrossSigned { certificate })?;
        self.vault.put(&reference(&successor), &successor.export())?;
        tracing::info!(sha256 = successor.facts().fingerprint, "made a successor of the top-level CA");
        self.roots.begin(successor, now);
        self.save()
    }

    fn switch(&mut self, late: &[String], now: OffsetDateTime) -> Result<(), AuthorityError> {
        self.roots.switch(now);
        self.save()?;
        tracing::info!(sha256 = self.signing().facts().fingerprint, ?late, "the new top-level CA signs from now on");
        self.read_cross_signed()
    }

    fn drop_old(&mut self, late: &[String], now: OffsetDateTime) -> Result<(), AuthorityError> {
        let old = self.roots.drop_old(now);
        self.save()?;
        let Some(old) = old else { return Ok(()) };
        tracing::info!(sha256 = old.facts().fingerprint, ?late, "dropped the old top-level CA");
        forget(&self.vault, &old)
    }

    /// Orders anew what these clusters' agents and members show, or the CAs by which those members enrol.
    pub(super) fn turn<'c>(
        &mut self,
        clusters: impl Iterator<Item = &'c Name>,
        control: bool,
    ) -> Result<(), AuthorityError> {
        clusters.for_each(|cluster| self.roots.turn(cluster, control));
        self.save()
    }

    /// Forgets clusters that are no longer in the mesh.
    pub(super) fn retain(&mut self, clusters: &BTreeSet<Name>) -> Result<(), AuthorityError> {
        if self.roots.retain(clusters) { self.save() } else { Ok(()) }
    }

    fn save(&self) -> Result<(), AuthorityError> {
        Ok(self.states.put(STATE, self.roots.state())?)
    }
}

fn reference(ca: &TopLevelCa) -> String {
    format!("{TOP_LEVEL}/{}", ca.facts().fingerprint)
}

fn forget(vault: &Vault, ca: &TopLevelCa) -> Result<(), AuthorityError> {
    let first = vault.get(TOP_LEVEL)?.map(|text| TopLevelCa::import(&text)).transpose()?;
    if first.is_some_and(|first| first.certificate() == ca.certificate()) {
        vault.remove(TOP_LEVEL)?;
    }
    Ok(vault.remove(&reference(ca))?)
}

fn cross_signed_key(ca: &TopLevelCa) -> String {
    format!("{CROSS_SIGNED}/{}", ca.facts().fingerprint)
}

fn stored(mesh: &str, vault: &Vault) -> Result<Vec<TopLevelCa>, AuthorityError> {
    let mut stored = Vec::new();
    for reference in vault.references()?.iter().filter(|reference| reference.starts_with(TOP_LEVEL)) {
        let Some(text) = vault.get(reference)? else { continue };
        let ca = TopLevelCa::import(&text)?;
        match ca.domain().as_str() {
            stored if stored != mesh => {
                return Err(AuthorityError::OtherMesh { stored: stored.to_owned(), asked: mesh.to_owned() });
            }
            _ => stored.push(ca),
        }
    }
    Ok(stored)
}

fn first(mesh: &str, vault: &Vault, now: OffsetDateTime) -> Result<TopLevelCa, AuthorityError> {
    let ca = TopLevelCa::create(mesh, now)?;
    vault.put(TOP_LEVEL, &ca.export())?;
    tracing::info!(mesh, sha256 = ca.facts().fingerprint, "made the top-level CA");
    Ok(ca)
}
