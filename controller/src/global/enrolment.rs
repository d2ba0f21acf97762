//! Which clusters are in the mesh, and with which certificates: what the controller's port believes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use config::resource::Name;
use identity::{Facts, Serial, Trust, TrustBundle, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::store::{Record, Records, Store, StoreError, Table};

/// So many certificates may one incarnation of an agent hold at once. A sound agent renews every 20 days.
const MAX_CERTIFICATES: usize = 32;

/// A cluster in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enrolment {
    /// How often the cluster has joined.
    pub(crate) incarnation: u64,
    /// The certificates of this incarnation's agent that are still in their life; all others are revoked.
    certificates: Vec<Issued>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    serial: String,
    /// Seconds since 1970.
    not_after: i64,
}

impl Record for Enrolment {
    const TABLE: Table = Table::Enrolments;
}

impl Issued {
    fn new(facts: &Facts) -> Self {
        Issued { serial: facts.serial.to_string(), not_after: facts.not_after.unix_timestamp() }
    }
}

/// Why a cluster is not enrolled, or its agent gets no further certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolmentError {
    #[error(
        "the cluster {0} is in the mesh already: to take its place (its agent is then shut out), join with --replace"
    )]
    Taken(Name),
    #[error("the cluster {0} is not in the mesh, or no longer: join with a new token")]
    Absent(Name),
    #[error("the agent of {0} holds {MAX_CERTIFICATES} certificates in their life; it renews far too often")]
    TooMany(Name),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The clusters in the mesh. Is asked in every handshake, so it answers from memory.
pub(crate) struct Enrolments {
    domain: TrustDomain,
    roots: RwLock<Arc<TrustBundle>>,
    records: Records<Enrolment>,
    live: RwLock<BTreeMap<String, Enrolment>>,
}

impl Enrolments {
    pub(crate) fn open(domain: TrustDomain, roots: TrustBundle, store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let records: Records<Enrolment> = Records::new(Arc::clone(store));
        let live = RwLock::new(records.all()?);
        Ok(Enrolments { domain, roots: RwLock::new(Arc::new(roots)), records, live })
    }

    /// From now on these are believed.
    pub(crate) fn believe(&self, roots: TrustBundle) {
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots);
    }

    /// The enrolment of a cluster.
    pub(crate) fn get(&self, cluster: &Name) -> Option<Enrolment> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(cluster.as_str()).cloned()
    }

    /// The clusters in the mesh.
    pub(crate) fn clusters(&self) -> Vec<Name> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.keys().filter_map(|cluster| cluster.parse().ok()).collect()
    }

    /// Whether the cluster may join.
    pub(crate) fn check(&self, cluster: &Name, replace: bool) -> Result<(), EnrolmentError> {
        match self.get(cluster) {
            Some(_) if !replace => Err(EnrolmentError::Taken(cluster.clone())),
            _ => Ok(()),
        }
    }

    /// A cluster joins, with the first certificate of its agent. Those of an earlier incarnation count no more.
    pub(crate) fn join(&self, cluster: &Name, replace: bool, facts: &Facts) -> Result<(), EnrolmentError> {
        self.change(cluster, |old| match old {
            Some(_) if !replace => Err(EnrolmentError::Taken(cluster.clone())),
            old => Ok(Enrolment {
                incarnation: old.map_or(0, |old| old.incarnation) + 1,
                certificates: vec![Issued::new(facts)],
            }),
        })
    }

    /// The agent of a cluster gets a further certificate. The one that it shows stays good until it expires, in case
    /// the answer is lost.
    pub(crate) fn renew(&self, cluster: &Name, facts: &Facts, now: OffsetDateTime) -> Result<(), EnrolmentError> {
        self.change(cluster, |old| {
            let mut enrolment = old.ok_or_else(|| EnrolmentError::Absent(cluster.clone()))?;
            enrolment.certificates.retain(|issued| issued.not_after >= now.unix_timestamp());
            if enrolment.certificates.len() >= MAX_CERTIFICATES {
                return Err(EnrolmentError::TooMany(cluster.clone()));
            }
            enrolment.certificates.push(Issued::new(facts));
            Ok(enrolment)
        })
    }

    /// The cluster leaves the mesh: every certificate of its agent counts no more.
    pub(crate) fn leave(&self, cluster: &Name) -> Result<(), StoreError> {
        self.records.remove(cluster.as_str())?;
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(cluster.as_str());
        Ok(())
    }

    fn change(
        &self,
        cluster: &Name,
        change: impl Fn(Option<Enrolment>) -> Result<Enrolment, EnrolmentError>,
    ) -> Result<(), EnrolmentError> {
        let enrolment = self.records.change(cluster.as_str(), change)?;
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(cluster.to_string(), enrolment);
        Ok(())
    }
}

impl Trust for Enrolments {
    fn roots(&self, domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        (*domain == self.domain).then(|| Arc::clone(&self.roots.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn is_member(&self, domain: &TrustDomain, cluster: &str) -> bool {
        *domain == self.domain && self.live.read().unwrap_or_else(PoisonError::into_inner).contains_key(cluster)
    }

    /// Whatever is not known to be issued to the present incarnation counts as revoked.
    fn is_revoked(&self, _: &TrustDomain, cluster: Option<&str>, serial: &Serial) -> bool {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let enrolment = cluster.and_then(|cluster| live.get(cluster));
        !enrolment.is_some_and(|enrolment| enrolment.certificates.iter().any(|issued| issued.serial == serial.as_str()))
    }
}

impl fmt::Debug for Enrolments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolments").field("domain", &self.domain).finish_non_exhaustive()
    }
}
