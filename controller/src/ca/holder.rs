//! Who may hold a certificate below a root, or verify those of others by it, and what was heard of it.

use config::resource::Name;
use config::wire::{CertificateReport, Order, TrustReport, WorkloadsReport};

/// Who in a cluster holds certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Party {
    Agent,
    Gateway(Name),
    /// All workloads whose certificates the agent made. They say nothing themselves: the agent knows what each got.
    Workloads,
}

/// Who may hold a certificate below a root, and verify those of others by it.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) cluster: Name,
    pub(crate) party: Party,
    /// Whether it is heard now.
    pub(crate) present: bool,
    /// Whether its agent is.
    pub(crate) agent_present: bool,
    /// What it said last; of workloads, what their agent said.
    pub(crate) trust: Option<TrustReport>,
    /// Of one that only believes, because its cluster is no member of the GNS: until when, in seconds since 1970, it may
    /// show any certificate of another GNS, and so serve by what it believes.
    pub(crate) visits: Option<i64>,
}

impl Holder {
    /// For people.
    pub(crate) fn name(&self) -> String {
        let cluster = &self.cluster;
        match &self.party {
            Party::Agent => format!("the agent of {cluster}"),
            Party::Gateway(gateway) => format!("{cluster}/{gateway}"),
            Party::Workloads => format!("the workloads of {cluster}"),
        }
    }

    pub(crate) fn is_agent(&self) -> bool {
        self.party == Party::Agent
    }

    pub(crate) fn gateway(&self) -> Option<&Name> {
        match &self.party {
            Party::Gateway(name) => Some(name),
            Party::Agent | Party::Workloads => None,
        }
    }

    /// SHA-256 of the roots that it acts on. What workloads got with their certificates lasts as long as those.
    pub(crate) fn believed(&self) -> &[String] {
        let own = self.trust.as_ref().filter(|_| self.party != Party::Workloads);
        own.map_or(&[], |trust| &trust.roots)
    }

    pub(crate) fn believes(&self, root: &str) -> bool {
        self.believed().iter().any(|known| known == root)
    }

    /// What it holds; nothing of workloads, which may hold many.
    pub(crate) fn certificate(&self) -> Option<&CertificateReport> {
        self.trust.as_ref().filter(|_| self.party != Party::Workloads)?.certificate.as_ref()
    }

    /// Whether it said that it holds a certificate below the root. `now` is in seconds since 1970.
    pub(crate) fn holds_below(&self, root: &str, now: i64) -> bool {
        self.order().is_some_and(|order| order.root == root) || self.workloads(now).any(|held| held.below == root)
    }

    /// The living certificates of workloads.
    fn workloads(&self, now: i64) -> impl Iterator<Item = &WorkloadsReport> {
        let all = self.trust.iter().filter(|_| self.party == Party::Workloads).flat_map(|trust| &trust.workloads);
        all.filter(move |report| report.until >= now)
    }

    /// The living certificates of workloads of other GNSs, which believe in this one.
    fn visitors(&self, now: i64) -> impl Iterator<Item = &WorkloadsReport> {
        let all = self.trust.iter().filter(|_| self.party == Party::Workloads).flat_map(|trust| &trust.visitors);
        all.filter(move |report| report.until >= now)
    }

    /// Whether it would refuse who shows a certificate below this root. `last` as in [`Self::counts`].
    pub(super) fn refuses(&self, root: &str, last: Option<&i64>, now: i64) -> bool {
        match self.party {
            Party::Workloads => {
                let mut all = self.workloads(now).chain(self.visitors(now));
                all.any(|held| !held.roots.iter().any(|known| known == root))
            }
            Party::Agent | Party::Gateway(_) => !self.believes(root) && self.counts(last, now),
        }
    }

    /// Whether it may show a certificate below another root than this. `last` as in [`Self::counts`].
    pub(super) fn shows_other(&self, root: &str, last: Option<&i64>, now: i64) -> bool {
        match self.party {
            Party::Workloads => self.workloads(now).any(|held| held.below != root),
            Party::Agent | Party::Gateway(_) => self.needs_other(root) && self.counts(last, now),
        }
    }

    /// By which order it holds a certificate; nothing when it holds none.
    pub(crate) fn order(&self) -> Option<&Order> {
        Some(&self.certificate()?.order)
    }

    /// Whether it holds, or may hold as far as is known, a certificate that is below another root.
    fn needs_other(&self, root: &str) -> bool {
        if self.visits.is_some() {
            return false;
        }
        match (self.order(), &self.trust) {
            (Some(order), _) => order.root != root,
            (None, Some(_)) => !self.present, // who is there and holds none will get none but below this root
            (None, None) => true,
        }
    }

    /// Whether it may still show a certificate, or is there to get one. While its agent is away it may have got newer
    /// ones than were heard of: as long-lived as what the agent got last, which ends at `last`.
    fn counts(&self, last: Option<&i64>, now: i64) -> bool {
        let held = self.certificate().map(|held| held.not_after);
        let known = self.agent_present && !self.is_agent();
        let end = if known { held } else { held.max(last.copied()) };
        self.present || end.max(self.visits).is_some_and(|end| end >= now)
    }
}
