//! Whether a workload may have a certificate, and the certificate.

use std::sync::Arc;

use config::resource::Name;
use config::revoked::Revoked;
use config::wire::{Order, WorkloadsReport};
use identity::ca::{CaError, Chain, IssuingCa, Lifetimes};
use identity::csr::CsrError;
use identity::spiffe::SpiffeError;
use identity::{Role, SigningRequest, SpiffeId};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::territory::{RootsByGns, Territory};
use crate::http::csr;
use crate::local::standing::{NoIssuer, Standings, fingerprints, standing_in};
use crate::member::holdings::{Held, Holding};
use crate::sync::client::Seen;
use crate::workload::ServiceName;

/// Why a workload gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkloadError {
    #[error(
        "cluster {cluster} has no service {service}: write its manifest into the agent's --services, or correct it"
    )]
    NoService { cluster: Name, service: ServiceName },
    #[error("namespace {namespace} of cluster {cluster} belongs to no GNS: add it to the members of one")]
    NoGns { cluster: Name, namespace: Name },
    #[error("namespace {namespace} of cluster {cluster} belongs to GNS {owner}, not to {asked}")]
    OtherGns { cluster: Name, namespace: Name, owner: Name, asked: Name },
    #[error(transparent)]
    Issuer(#[from] NoIssuer),
    #[error("the {0} is revoked: `tombolo certs reinstate` takes that back")]
    Revoked(Revoked),
    #[error(transparent)]
    Name(#[from] SpiffeError),
    #[error(transparent)]
    Request(#[from] CsrError),
    #[error(transparent)]
    Sign(#[from] CaError),
}

impl WorkloadError {
    /// Whether the workload may not have one, as things are now; else it may, and gets one later.
    pub(super) fn is_denial(&self) -> bool {
        !matches!(self, WorkloadError::Issuer(NoIssuer::NotYet(_)) | WorkloadError::Sign(_))
    }
}

/// All that decides.
#[derive(Clone)]
pub(in crate::local) struct Signer {
    pub(in crate::local) cluster: Name,
    /// What the agent sees of its own cluster.
    pub(in crate::local) seen: watch::Receiver<Arc<Seen>>,
    pub(in crate::local) territory: watch::Receiver<Arc<Territory>>,
    pub(in crate::local) standings: watch::Receiver<Arc<Standings>>,
    pub(in crate::local) issuing: watch::Receiver<Arc<Held<IssuingCa>>>,
}

/// What a certificate needs in a GNS.
pub(super) type Needed = (Name, WorkloadsReport);

/// A workload's right to a certificate, and who signs it now.
pub(super) struct Entitlement {
    pub(super) gns: Name,
    pub(super) id: SpiffeId,
    /// The roots of its GNS, in PEM.
    pub(super) roots: Vec<String>,
    /// Those of the other GNSs in which it may call something.
    pub(super) federated: RootsByGns,
    lifetimes: Lifetimes,
    /// How often leaves were ordered anew.
    leaf: u64,
    issuing: Arc<Holding<IssuingCa>>,
}

impl Signer {
    /// What a workload of this service is entitled to.
    ///
    /// # Errors
    /// When that is nothing, now or at all.
    pub(super) fn entitle(&self, service: &ServiceName) -> Result<Entitlement, WorkloadError> {
        self.known(service)?;
        let (cluster, territory) = (&self.cluster, self.territory.borrow().clone());
        let no_gns = || WorkloadError::NoGns { cluster: cluster.clone(), namespace: service.namespace.clone() };
        let gns = territory.owner(cluster, &service.namespace).ok_or_else(no_gns)?;
        let standings = self.standings.borrow().clone();
        let standing = standing_in(&standings, gns, cluster)?;
        let revoked = Revoked::Workload {
            cluster: cluster.clone(),
            namespace: service.namespace.clone(),
            service: service.name.clone(),
        };
        if standing.revoked.contains(&revoked) {
            return Err(WorkloadError::Revoked(revoked));
        }
        let issuing = standing.issuer(gns, &self.issuing.borrow())?;
        let role = Role::Workload {
            cluster: cluster.to_string(),
            namespace: service.namespace.to_string(),
            service: service.name.to_string(),
        };
        Ok(Entitlement {
            gns: gns.clone(),
            id: SpiffeId::new(standing.need.trust_domain.parse()?, role)?,
            roots: territory.roots(gns).to_vec(),
            federated: territory.federated(gns, &service.name),
            lifetimes: standing.lifetimes,
            leaf: standing.order.leaf,
            issuing,
        })
    }

    /// The same for who says of which GNS the service is.
    ///
    /// # Errors
    /// As [`Self::entitle`], and when it is of another.
    pub(super) fn entitle_in(&self, gns: &Name, service: &ServiceName) -> Result<Entitlement, WorkloadError> {
        let (cluster, namespace) = (&self.cluster, &service.namespace);
        let territory = self.territory.borrow().clone();
        match territory.owner(cluster, namespace) {
            Some(owner) if owner != gns => Err(WorkloadError::OtherGns {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                owner: owner.clone(),
                asked: gns.clone(),
            }),
            _ => self.entitle(service),
        }
    }

    fn known(&self, service: &ServiceName) -> Result<(), WorkloadError> {
        let key = format!("Service/{}/{service}", self.cluster);
        match self.seen.borrow().entries.contains_key(&key) {
            true => Ok(()),
            false => Err(WorkloadError::NoService { cluster: self.cluster.clone(), service: service.clone() }),
        }
    }

    /// Waits until something may be decided otherwise; `false` when the agent ends.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.seen.changed() => changed.is_ok(),
            changed = self.territory.changed() => changed.is_ok(),
            changed = self.standings.changed() => changed.is_ok(),
            changed = self.issuing.changed() => changed.is_ok(),
        }
    }
}

impl Entitlement {
    /// Signs a request in PEM, which must ask for exactly this.
    pub(super) fn certify(&self, request: &str) -> Result<Chain, WorkloadError> {
        self.sign(&csr::check(request, &self.id)?)
    }

    /// Signs what was checked, or made here.
    pub(super) fn sign(&self, request: &SigningRequest) -> Result<Chain, WorkloadError> {
        Ok(self.issuing.value.issue_workload(request, &self.lifetimes, OffsetDateTime::now_utc())?)
    }

    /// By which order certificates are made now: when it is another, they are made anew.
    pub(super) fn order(&self) -> Order {
        Order { leaf: self.leaf, ..self.issuing.order.clone() }
    }

    /// What a certificate that was made now needs until its end: in its own GNS, and, below nothing, in those others.
    pub(super) fn needs(&self, end: OffsetDateTime) -> Vec<Needed> {
        let until = end.unix_timestamp();
        let (below, roots) = (self.issuing.order.root.clone(), fingerprints(&self.roots));
        let federated = self.federated.iter().map(|(gns, roots)| {
            let roots = fingerprints(&roots.certificates);
            (gns.clone(), WorkloadsReport { below: String::new(), roots, until })
        });
        let own = (self.gns.clone(), WorkloadsReport { below, roots, until });
        std::iter::once(own).chain(federated).collect()
    }

    /// Whether the same would be handed out by both.
    pub(super) fn is_like(&self, other: &Entitlement) -> bool {
        self.order() == other.order() && self.roots == other.roots && self.federated == other.federated
    }
}
