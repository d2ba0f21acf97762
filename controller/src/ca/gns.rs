//! The CAs of the global namespaces, how they are replaced, and the opaque names that gateways bear in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{Host, Name};
use config::wire::Order;
use config::world::GlobalNamespaceTrust;
use identity::ca::{GnsCa, Lifetimes, Territory, TopLevelCa};
use identity::pem::encode_certificates;
use identity::{Facts, SigningRequest, TrustDomain};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::AuthorityError;
use super::holder::Holder;
use super::rotation::{Roots, Stage, State, Step};
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

/// A CA's certificate as another signed it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CrossSigned {
    pub(super) certificate: String,
}

impl Record for CrossSigned {
    const TABLE: Table = Table::CrossSigned;
}

/// One GNS's CA, or two while one takes the other's place.
#[derive(Debug)]
struct GnsAuthority {
    roots: Roots<GnsCa>,
    labels: BTreeMap<Name, Host>,
}

/// The CAs of all global namespaces.
#[derive(Debug)]
pub(super) struct GnsAuthorities {
    mesh: TrustDomain,
    vault: Arc<Vault>,
    labels: Records<Label>,
    cross_signed: Records<CrossSigned>,
    states: Records<State>,
    live: BTreeMap<Name, GnsAuthority>,
}

impl GnsAuthorities {
    pub(super) fn open(mesh: TrustDomain, store: &Arc<dyn Store>, vault: Arc<Vault>) -> Result<Self, AuthorityError> {
        let mut authorities = GnsAuthorities {
            mesh,
            vault,
            labels: Records::new(Arc::clone(store)),
            cross_signed: Records::new(Arc::clone(store)),
            states: Records::new(Arc::clone(store)),
            live: BTreeMap::new(),
        };
        for (gns, roots) in authorities.stored_roots()? {
            let state = authorities.states.get(&state_key(&gns))?;
            let Some((roots, orphans)) = Roots::restore(roots, state) else { continue };
            orphans.iter().try_for_each(|orphan| authorities.vault.remove(&reference(&gns, orphan)))?;
            authorities.live.insert(gns, GnsAuthority { roots, labels: BTreeMap::new() });
        }
        for (key, Label(label)) in authorities.labels.all()? {
            if let Some((gns, cluster)) = pair(&key).and_then(|(g, c)| Some((authorities.live.get_mut(&g)?, c))) {
                gns.labels.insert(cluster, label);
            }
        }
        Ok(authorities)
    }

    fn stored_roots(&self) -> Result<BTreeMap<Name, Vec<GnsCa>>, AuthorityError> {
        let mut stored: BTreeMap<Name, Vec<GnsCa>> = BTreeMap::new();
        for reference in self.vault.references()? {
            let gns = reference.strip_prefix(REFERENCES).and_then(|rest| rest.split_once('/')?.0.parse::<Name>().ok());
            let text = gns.is_some().then(|| self.vault.get(&reference)).transpose()?.flatten();
            if let (Some(gns), Some(text)) = (gns, text) {
                stored.entry(gns).or_default().push(GnsCa::import(&text)?);
            }
        }
        Ok(stored)
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
        let roots = Roots::new(self.make(top_level, gns, wanted, now)?);
        self.states.put(&state_key(gns), roots.state())?;
        self.live.insert(gns.clone(), GnsAuthority { roots, labels: BTreeMap::new() });
        Ok(())
    }

    /// A new CA, in the vault.
    fn make(
        &self,
        top_level: &TopLevelCa,
        gns: &Name,
        wanted: &WantedGns,
        now: OffsetDateTime,
    ) -> Result<GnsCa, AuthorityError> {
        let domain = TrustDomain::global_namespace(gns.as_str(), self.mesh.as_str())?;
        let ca = GnsCa::create(domain, &wanted.lifetimes, now)?;
        self.cross_sign(top_level, gns, &ca)?;
        self.vault.put(&reference(gns, &ca), &ca.export())?;
        tracing::info!(%gns, sha256 = ca.facts().fingerprint, "made the CA of a global namespace");
        Ok(ca)
    }

    fn cross_sign(&self, top_level: &TopLevelCa, gns: &Name, ca: &GnsCa) -> Result<(), AuthorityError> {
        let certificate = encode_certificates([&top_level.cross_sign(ca)?]);
        let key = format!("{gns}/{}", ca.facts().fingerprint);
        Ok(self.cross_signed.put(&key, &CrossSigned { certificate })?)
    }

    /// Has all CAs signed by another top-level CA.
    pub(super) fn cross_sign_all(&self, top_level: &TopLevelCa) -> Result<(), AuthorityError> {
        let all =
            self.live.iter().flat_map(|(gns, authority)| authority.roots.all().into_iter().map(move |ca| (gns, ca)));
        all.into_iter().try_for_each(|(gns, ca)| self.cross_sign(top_level, gns, ca))
    }

    /// Takes the next step of a rotation, if one is due; says whether there was one.
    pub(super) fn advance(
        &mut self,
        top_level: &TopLevelCa,
        gns: &Name,
        wanted: &WantedGns,
        holders: &[Holder],
        now: OffsetDateTime,
    ) -> Result<bool, AuthorityError> {
        let step = self.live.get_mut(gns).and_then(|authority| authority.roots.next(holders, now));
        match step {
            None => return Ok(false),
            Some(Step::Begin) => self.begin(top_level, gns, wanted, now)?,
            Some(Step::Switch) => self.switch(gns, holders, now)?,
            Some(Step::Drop) => self.drop_old(gns, holders, now)?,
        }
        Ok(true)
    }

    /// Makes a successor and makes it known.
    pub(super) fn begin(
        &mut self,
        top_level: &TopLevelCa,
        gns: &Name,
        wanted: &WantedGns,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        if self.authority(gns)?.roots.stage() != Stage::Steady {
            return Err(AuthorityError::Rotating(format!("the CA of the global namespace {gns}")));
        }
        let successor = self.make(top_level, gns, wanted, now)?;
        self.change(gns, |roots| roots.begin(successor, now))
    }

    fn switch(&mut self, gns: &Name, holders: &[Holder], now: OffsetDateTime) -> Result<(), AuthorityError> {
        let late = self.late(gns, holders, now);
        tracing::info!(%gns, ?late, "the new CA of a global namespace signs from now on");
        self.change(gns, |roots| roots.switch(now))
    }

    /// The record first: a key that is left over is cleared up at the next start.
    fn drop_old(&mut self, gns: &Name, holders: &[Holder], now: OffsetDateTime) -> Result<(), AuthorityError> {
        let (late, mut old) = (self.late(gns, holders, now), None);
        self.change(gns, |roots| old = roots.drop_old(now))?;
        let Some(old) = old else { return Ok(()) };
        tracing::info!(%gns, sha256 = old.facts().fingerprint, ?late, "dropped the old CA of a global namespace");
        Ok(self.vault.remove(&reference(gns, &old))?)
    }

    fn late(&self, gns: &Name, holders: &[Holder], now: OffsetDateTime) -> Vec<String> {
        let waiting = self.live.get(gns).map(|authority| authority.roots.waiting(holders, now)).unwrap_or_default();
        waiting.into_iter().map(Holder::name).collect()
    }

    /// Orders certificates of these clusters anew.
    pub(super) fn turn(&mut self, gns: &Name, clusters: &BTreeSet<Name>, issuing: bool) -> Result<(), AuthorityError> {
        let clusters: Vec<Name> =
            self.authority(gns)?.labels.keys().filter(|c| clusters.contains(*c)).cloned().collect();
        self.change(gns, |roots| clusters.iter().for_each(|cluster| roots.turn(cluster, issuing)))
    }

    fn authority(&self, gns: &Name) -> Result<&GnsAuthority, AuthorityError> {
        self.live.get(gns).ok_or_else(|| AuthorityError::UnknownGns(gns.clone()))
    }

    fn change(&mut self, gns: &Name, change: impl FnOnce(&mut Roots<GnsCa>)) -> Result<(), AuthorityError> {
        let authority = self.live.get_mut(gns).ok_or_else(|| AuthorityError::UnknownGns(gns.clone()))?;
        change(&mut authority.roots);
        Ok(self.states.put(&state_key(gns), authority.roots.state())?)
    }

    fn drop_gns(&mut self, gns: &Name) -> Result<(), AuthorityError> {
        let Some(authority) = self.live.get(gns) else { return Ok(()) };
        for ca in authority.roots.all() {
            self.vault.remove(&reference(gns, ca))?;
        }
        self.states.remove(&state_key(gns))?;
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
        if authority.roots.retain(members) {
            self.states.put(&state_key(gns), authority.roots.state())?;
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
        &mut self,
        gns: &Name,
        wanted: &WantedGns,
        cluster: &Name,
        request: &SigningRequest,
        now: OffsetDateTime,
    ) -> Result<(String, Order), AuthorityError> {
        let authority = self.authority(gns)?;
        let stranger = || AuthorityError::NotMember { gns: gns.clone(), cluster: cluster.clone() };
        let label = authority.labels.get(cluster).ok_or_else(stranger)?;
        let territory = Territory { label: label.as_str(), domain: wanted.domain.as_str() };
        let certificate = authority.roots.signing().issue_issuing(request, territory, &wanted.lifetimes, now)?;
        let order = authority.roots.order(cluster).of_issuing();
        let not_after = Facts::read(&certificate)?.not_after;
        // Written down before it is handed out: as long as it lives, its root must not go without its holder's word.
        self.change(gns, |roots| roots.issued(cluster, not_after))?;
        Ok((encode_certificates([&certificate]), order))
    }

    pub(super) fn trust(&self, gns: &Name) -> Option<GlobalNamespaceTrust> {
        let GnsAuthority { roots, labels } = self.live.get(gns)?;
        Some(GlobalNamespaceTrust {
            global_namespace: gns.clone(),
            trust_domain: roots.signing().domain().to_string(),
            roots: roots.all().into_iter().map(|ca| encode_certificates([ca.certificate()])).collect(),
            labels: labels.clone(),
            orders: labels.keys().map(|cluster| (cluster.clone(), roots.order(cluster))).collect(),
            revoked: BTreeSet::new(),
        })
    }

    pub(super) fn roots(&self, gns: &Name) -> Option<&Roots<GnsCa>> {
        self.live.get(gns).map(|authority| &authority.roots)
    }
}

fn state_key(gns: &Name) -> String {
    format!("gns/{gns}")
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
