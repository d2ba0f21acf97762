//! The CAs of the global namespaces, and the opaque names that gateways bear in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{Host, Name};
use config::world::GlobalNamespaceTrust;
use identity::ca::{GnsCa, Lifetimes, Territory, TopLevelCa};
use identity::pem::encode_certificates;
use identity::{SigningRequest, TrustDomain};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::AuthorityError;
use crate::store::{Record, Records, Store, Table};
use crate::vault::Vault;

const REFERENCES: &str = "ca/gns/";
/// What every label ends in. `.invalid` names nothing and never will (RFC 2606 section 2).
const LABEL_DOMAIN: &str = "t.invalid";

/// A GNS as its CA must know it.
#[derive(Debug, Clone)]
pub struct WantedGns {
    /// Services answer below it.
    pub domain: Host,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// The member clusters.
    pub members: BTreeSet<Name>,
}

/// The opaque name that the gateways of one cluster bear in one GNS.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Label(Host);

impl Record for Label {
    const TABLE: Table = Table::Labels;
}

/// A GNS CA's certificate as the top-level CA signed it.
#[derive(Debug, Serialize, Deserialize)]
struct CrossSigned {
    certificate: String,
}

impl Record for CrossSigned {
    const TABLE: Table = Table::CrossSigned;
}

/// One GNS's CA.
#[derive(Debug)]
struct GnsAuthority {
    /// Signs.
    current: GnsCa,
    /// Vouches still for what it signed before `current` took its place.
    previous: Option<GnsCa>,
    labels: BTreeMap<Name, Host>,
}

impl GnsAuthority {
    fn roots(&self) -> impl Iterator<Item = &GnsCa> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten()
    }
}

/// The CAs of all global namespaces.
#[derive(Debug)]
pub(super) struct GnsAuthorities {
    mesh: TrustDomain,
    vault: Arc<Vault>,
    labels: Records<Label>,
    cross_signed: Records<CrossSigned>,
    live: BTreeMap<Name, GnsAuthority>,
}

impl GnsAuthorities {
    pub(super) fn open(mesh: TrustDomain, store: &Arc<dyn Store>, vault: Arc<Vault>) -> Result<Self, AuthorityError> {
        let labels = Records::new(Arc::clone(store));
        let cross_signed = Records::new(Arc::clone(store));
        let mut authorities = GnsAuthorities { mesh, vault, labels, cross_signed, live: BTreeMap::new() };
        for reference in authorities.vault.references()? {
            if let Some((gns, _)) = reference.strip_prefix(REFERENCES).and_then(|rest| rest.split_once('/')) {
                authorities.read(gns, &reference)?;
            }
        }
        for (key, Label(label)) in authorities.labels.all()? {
            if let Some((gns, cluster)) = pair(&key).and_then(|(g, c)| Some((authorities.live.get_mut(&g)?, c))) {
                gns.labels.insert(cluster, label);
            }
        }
        Ok(authorities)
    }

    fn read(&mut self, gns: &str, reference: &str) -> Result<(), AuthorityError> {
        let (Ok(gns), Some(text)) = (gns.parse::<Name>(), self.vault.get(reference)?) else { return Ok(()) };
        let ca = GnsCa::import(&text)?;
        let authority = match self.live.remove(&gns) {
            None => GnsAuthority { current: ca, previous: None, labels: BTreeMap::new() },
            Some(old) if old.current.facts().not_before < ca.facts().not_before => {
                GnsAuthority { current: ca, previous: Some(old.current), labels: old.labels }
            }
            Some(old) => GnsAuthority { previous: Some(ca), ..old },
        };
        self.live.insert(gns, authority);
        Ok(())
    }

    pub(super) fn reconcile(
        &mut self,
        top_level: &TopLevelCa,
        wanted: &BTreeMap<Name, WantedGns>,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let gone: Vec<Name> = self.live.keys().filter(|gns| !wanted.contains_key(*gns)).cloned().collect();
        gone.iter().try_for_each(|gns| self.drop_gns(gns))?;
        for (gns, wanted) in wanted {
            if !self.live.contains_key(gns) {
                self.create(top_level, gns, wanted, now)?;
            }
            self.reconcile_labels(gns, &wanted.members)?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        top_level: &TopLevelCa,
        gns: &Name,
        wanted: &WantedGns,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let domain = TrustDomain::global_namespace(gns.as_str(), self.mesh.as_str())?;
        let ca = GnsCa::create(domain, &wanted.lifetimes, now)?;
        let certificate = encode_certificates([&top_level.cross_sign(&ca)?]);
        self.cross_signed.put(&format!("{gns}/{}", ca.facts().fingerprint), &CrossSigned { certificate })?;
        self.vault.put(&reference(gns, &ca), &ca.export())?;
        tracing::info!(%gns, sha256 = ca.facts().fingerprint, "made the CA of a global namespace");
        self.live.insert(gns.clone(), GnsAuthority { current: ca, previous: None, labels: BTreeMap::new() });
        Ok(())
    }

    fn drop_gns(&mut self, gns: &Name) -> Result<(), AuthorityError> {
        let Some(authority) = self.live.get(gns) else { return Ok(()) };
        for ca in authority.roots() {
            self.vault.remove(&reference(gns, ca))?;
        }
        authority.labels.keys().try_for_each(|cluster| self.labels.remove(&label_key(gns, cluster)))?;
        tracing::info!(%gns, "dropped the CA of a global namespace");
        self.live.remove(gns);
        Ok(())
    }

    /// A cluster that leaves loses its label; if it returns it gets another.
    fn reconcile_labels(&mut self, gns: &Name, members: &BTreeSet<Name>) -> Result<(), AuthorityError> {
        let Some(authority) = self.live.get_mut(gns) else { return Ok(()) };
        let left: Vec<Name> = authority.labels.keys().filter(|cluster| !members.contains(*cluster)).cloned().collect();
        for cluster in left {
            self.labels.remove(&label_key(gns, &cluster))?;
            authority.labels.remove(&cluster);
        }
        for cluster in members {
            if !authority.labels.contains_key(cluster) {
                let label = new_label()?;
                self.labels.put(&label_key(gns, cluster), &Label(label.clone()))?;
                authority.labels.insert(cluster.clone(), label);
            }
        }
        Ok(())
    }

    pub(super) fn forget_labels(&mut self, cluster: &Name) -> Result<(), AuthorityError> {
        for (gns, authority) in &mut self.live {
            if authority.labels.contains_key(cluster) {
                self.labels.remove(&label_key(gns, cluster))?;
                authority.labels.remove(cluster);
            }
        }
        Ok(())
    }

    pub(super) fn issue_issuing(
        &self,
        gns: &Name,
        wanted: &WantedGns,
        cluster: &Name,
        request: &SigningRequest,
        now: OffsetDateTime,
    ) -> Result<String, AuthorityError> {
        let authority = self.live.get(gns).ok_or_else(|| AuthorityError::UnknownGns(gns.clone()))?;
        let stranger = || AuthorityError::NotMember { gns: gns.clone(), cluster: cluster.clone() };
        let label = authority.labels.get(cluster).ok_or_else(stranger)?;
        let territory = Territory { label: label.as_str(), domain: wanted.domain.as_str() };
        let certificate = authority.current.issue_issuing(request, territory, &wanted.lifetimes, now)?;
        Ok(encode_certificates([&certificate]))
    }

    pub(super) fn trust(&self, gns: &Name) -> Option<GlobalNamespaceTrust> {
        let authority = self.live.get(gns)?;
        Some(GlobalNamespaceTrust {
            global_namespace: gns.clone(),
            trust_domain: authority.current.domain().to_string(),
            roots: authority.roots().map(|ca| encode_certificates([ca.certificate()])).collect(),
            labels: authority.labels.clone(),
        })
    }

    pub(super) fn expiry(&self, gns: &Name) -> Option<OffsetDateTime> {
        self.live.get(gns).map(|authority| authority.current.facts().not_after)
    }
}

fn reference(gns: &Name, ca: &GnsCa) -> String {
    format!("{REFERENCES}{gns}/{}", ca.facts().fingerprint)
}

fn label_key(gns: &Name, cluster: &Name) -> String {
    format!("{gns}/{cluster}")
}

/// The two names of a record's key.
pub(super) fn pair(key: &str) -> Option<(Name, Name)> {
    let (first, second) = key.split_once('/')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn new_label() -> Result<Host, AuthorityError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Randomness)?;
    let label = format!("{:016x}.{LABEL_DOMAIN}", u64::from_be_bytes(bytes));
    label.parse().map_err(|_| AuthorityError::Randomness) // sixteen digits are a label
}
