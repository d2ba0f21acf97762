//! The certificates of members: when a successor enrols under a member's name, its predecessor's count no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use config::resource::Name;
use identity::bundle::BundleError;
use identity::{Facts, Pinned, Role, Serial, SpiffeId, Trust, TrustBundle, TrustDomain};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::http::{ClientCertificate, Stale};
use crate::sync::cache::{read_checked, write_checked};

/// So many certificates are remembered; beyond that, those that expire first are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// So many certificates may one member hold at once. A sound member renews every 20 days.
const MAX_HELD: usize = 32;

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    member: Name,
    /// Seconds since 1970.
    not_after: i64,
    revoked: bool,
}

/// Why a member gets no further certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewalError {
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error("{0} holds {MAX_HELD} certificates in their life; it renews far too often")]
    TooMany(Name),
}

/// What the agent's port believes: the cluster control CA, except for what was revoked. A certificate that is not
/// known counts: an agent that lost its disk is no evidence against its members.
pub(super) struct Certificates {
    path: PathBuf,
    domain: TrustDomain,
    pinned: RwLock<Pinned>,
    /// By serial number.
    issued: RwLock<BTreeMap<String, Issued>>,
    /// Members that the controller has revoked, whatever they show.
    shut_out: RwLock<BTreeSet<Name>>,
}

impl Certificates {
    /// Those that the file remembers.
    pub(super) fn open(
        path: PathBuf,
        domain: TrustDomain,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, BundleError> {
        let pinned = RwLock::new(Pinned::new(domain.clone(), TrustBundle::new(roots.iter().cloned())?));
        let issued = RwLock::new(read_checked(&path).unwrap_or_default());
        Ok(Certificates { path, domain, pinned, issued, shut_out: RwLock::default() })
    }

    /// From now on these roots are believed.
    pub(super) fn believe(&self, roots: TrustBundle) {
        let pinned = Pinned::new(self.domain.clone(), roots);
        *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = pinned;
    }

    fn pinned(&self) -> RwLockReadGuard<'_, Pinned> {
        self.pinned.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these members are not believed, and no others.
    pub(super) fn shut_out(&self, members: BTreeSet<Name>) {
        *self.shut_out.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Whether the controller has revoked a member.
    pub(super) fn is_shut_out(&self, member: &str) -> bool {
        let shut_out = self.shut_out.read().unwrap_or_else(PoisonError::into_inner);
        shut_out.iter().any(|name| name.as_str() == member)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Issued>> {
        self.issued.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member enrolled with this certificate: all others under its name count no more. Blocks.
    pub(super) fn enrol(&self, member: &Name, facts: &Facts, now: OffsetDateTime) {
        let mut issued = self.write();
        issued.values_mut().filter(|issued| issued.member == *member).for_each(|issued| issued.revoked = true);
        remember(&mut issued, member, &facts.serial, facts.not_after);
        self.save(issued, now);
    }

    /// A member gets a further certificate. The one that it shows stays good until it expires, in case the answer is
    /// lost. Blocks.
    pub(super) fn renew(
        &self,
        shown: &ClientCertificate,
        member: &Name,
        facts: &Facts,
        now: OffsetDateTime,
    ) -> Result<(), RenewalError> {
        let mut issued = self.write();
        learn(&mut issued, shown, member)?;
        let live = |issued: &&Issued| issued.member == *member && !issued.revoked;
        let held = issued.values().filter(live).filter(|issued| issued.not_after >= now.unix_timestamp()).count();
        if held >= MAX_HELD {
            return Err(RenewalError::TooMany(member.clone()));
        }
        remember(&mut issued, member, &facts.serial, facts.not_after);
        self.save(issued, now);
        Ok(())
    }

    /// A member is there with this certificate; if it was forgotten, it is known again.
    pub(super) fn meet(&self, shown: &ClientCertificate, member: &Name) -> Result<(), Stale> {
        learn(&mut self.write(), shown, member)
    }

    fn save(&self, mut issued: RwLockWriteGuard<'_, BTreeMap<String, Issued>>, now: OffsetDateTime) {
        issued.retain(|_, issued| issued.not_after >= now.unix_timestamp());
        while issued.len() > MAX_REMEMBERED {
            let first = issued.iter().min_by_key(|(_, issued)| issued.not_after).map(|(serial, _)| serial.clone());
            first.and_then(|serial| issued.remove(&serial));
        }
        if let Err(error) = write_checked(&self.path, &*issued) {
            tracing::error!(%error, "the members' certificates could not be kept on disk");
        }
    }
}

fn remember(issued: &mut BTreeMap<String, Issued>, member: &Name, serial: &Serial, not_after: OffsetDateTime) {
    let not_after = not_after.unix_timestamp();
    issued.insert(serial.to_string(), Issued { member: member.clone(), not_after, revoked: false });
}

fn learn(issued: &mut BTreeMap<String, Issued>, shown: &ClientCertificate, member: &Name) -> Result<(), Stale> {
    match issued.get(shown.serial.as_str()) {
        Some(known) if known.revoked => return Err(Stale::Gone(shown.id.clone())),
        Some(_) => {}
        None => remember(issued, member, &shown.serial, shown.not_after),
    }
    Ok(())
}

impl Trust for Certificates {
    fn roots(&self, domain: &TrustDomain) -> Option<Arc<TrustBundle>> {
        self.pinned().roots(domain)
    }

    fn is_member(&self, domain: &TrustDomain, cluster: &str) -> bool {
        self.pinned().is_member(domain, cluster)
    }

    fn is_revoked(&self, id: &SpiffeId, serial: &Serial) -> bool {
        if matches!(id.role(), Role::Member { name, .. } if self.is_shut_out(name)) {
            return true;
        }
        let issued = self.issued.read().unwrap_or_else(PoisonError::into_inner);
        issued.get(serial.as_str()).is_some_and(|issued| issued.revoked)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use identity::ca::ControlCa;
    use identity::{PrivateKey, SigningRequest, SpiffeId};

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        ca: ControlCa,
        now: OffsetDateTime,
    }

    impl Place {
        fn new() -> Self {
            let now = OffsetDateTime::now_utc();
            let ca = ControlCa::create("mesh.example", "north", now).unwrap();
            Place { folder: tempfile::tempdir().unwrap(), ca, now }
        }

        fn open(&self) -> Certificates {
            let path = self.folder.path().join("certificates.json");
            Certificates::open(path, "mesh.example".parse().unwrap(), &[self.ca.certificate().clone()]).unwrap()
        }

        fn issue(&self) -> (ClientCertificate, Facts) {
            let id: SpiffeId = "spiffe://mesh.example/cluster/north/member/gw1".parse().unwrap();
            let request = SigningRequest::own(id, &PrivateKey::generate().unwrap()).unwrap();
            let chain = self.ca.issue_member(&request, self.now).unwrap();
            (ClientCertificate::of(&chain).unwrap(), Facts::read(chain.first().unwrap()).unwrap())
        }
    }

    #[test]
    fn a_successor_shuts_its_predecessor_out_for_good() {
        let (place, gw1) = (Place::new(), "gw1".parse().unwrap());
        let (certificates, (first, facts)) = (place.open(), place.issue());
        certificates.enrol(&gw1, &facts, place.now);
        let (renewed, facts) = place.issue();
        certificates.renew(&first, &gw1, &facts, place.now).unwrap();
        assert!(first.check(&certificates, place.now).is_ok() && renewed.check(&certificates, place.now).is_ok());
        let (second, facts) = place.issue();
        certificates.enrol(&gw1, &facts, place.now);
        for certificates in [certificates, place.open()] {
            for old in [&first, &renewed] {
                assert!(old.check(&certificates, place.now).is_err() && certificates.meet(old, &gw1).is_err());
                assert!(certificates.renew(old, &gw1, &facts, place.now).is_err());
            }
            assert!(second.check(&certificates, place.now).is_ok());
        }
    }

    #[test]
    fn who_was_forgotten_is_believed_and_known_again() {
        let (place, gw1) = (Place::new(), "gw1".parse().unwrap());
        let (certificates, (forgotten, _)) = (place.open(), place.issue());
        certificates.meet(&forgotten, &gw1).unwrap();
        certificates.enrol(&gw1, &place.issue().1, place.now);
        assert!(forgotten.check(&certificates, place.now).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (place, gw1) = (Place::new(), "gw1".parse().unwrap());
        let (certificates, (first, facts)) = (place.open(), place.issue());
        certificates.enrol(&gw1, &facts, place.now);
        let renew = |_| certificates.renew(&first, &gw1, &place.issue().1, place.now).err();
        assert!(matches!((0..=MAX_HELD).find_map(renew), Some(RenewalError::TooMany(_))));
        certificates.enrol(&gw1, &facts, facts.not_after + time::Duration::SECOND);
        assert!(place.open().issued.read().unwrap().is_empty(), "what has expired is forgotten");
    }
}
