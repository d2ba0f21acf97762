//! Who is believed no longer, since when, and by whose word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::Name;
use config::revoked::Revoked;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::AuthorityError;
use crate::store::{Record, Records, Store, Table};

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Who.
    pub revoked: Revoked,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// By whose word.
    pub by: String,
}

impl Record for Revocation {
    const TABLE: Table = Table::Revocations;
}

/// All of them. They are kept until somebody takes them back: what was stolen may lie anywhere for long.
#[derive(Debug)]
pub(super) struct Revocations {
    records: Records<Revocation>,
    live: BTreeMap<Revoked, Revocation>,
}

impl Revocations {
    pub(super) fn open(store: &Arc<dyn Store>) -> Result<Self, AuthorityError> {
        let records: Records<Revocation> = Records::new(Arc::clone(store));
        let live = records.all()?.into_values().map(|revocation| (revocation.revoked.clone(), revocation)).collect();
        Ok(Revocations { records, live })
    }

    /// From now on nobody believes them.
    pub(super) fn add(&mut self, revoked: &Revoked, by: &str, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let revocation = Revocation { revoked: revoked.clone(), since: now.unix_timestamp(), by: by.to_owned() };
        self.records.put(&revoked.to_string(), &revocation)?;
        self.live.insert(revoked.clone(), revocation);
        Ok(())
    }

    /// They are believed again.
    pub(super) fn remove(&mut self, revoked: &Revoked) -> Result<(), AuthorityError> {
        self.records.remove(&revoked.to_string())?;
        self.live.remove(revoked);
        Ok(())
    }

    pub(super) fn contains(&self, revoked: &Revoked) -> bool {
        self.live.contains_key(revoked)
    }

    pub(super) fn all(&self) -> Vec<Revocation> {
        self.live.values().cloned().collect()
    }

    /// Those in these clusters.
    pub(super) fn of<V>(&self, clusters: &BTreeMap<Name, V>) -> BTreeSet<Revoked> {
        self.live.keys().filter(|revoked| clusters.contains_key(revoked.cluster())).cloned().collect()
    }

    /// The clusters that are revoked as a whole.
    pub(super) fn clusters(&self) -> BTreeSet<Name> {
        let clusters = self.live.keys().filter_map(|revoked| match revoked {
            Revoked::Cluster(cluster) => Some(cluster.clone()),
            _ => None,
        });
        clusters.collect()
    }

    /// Refuses a cluster that is revoked as a whole.
    pub(super) fn check(&self, cluster: &Name) -> Result<(), AuthorityError> {
        let whole = Revoked::Cluster(cluster.clone());
        if self.live.contains_key(&whole) { Err(AuthorityError::Revoked(whole)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::EmbeddedStore;

    #[test]
    fn what_is_revoked_stays_so_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(folder.path()).unwrap());
        let (north, south): (Name, Name) = ("north".parse().unwrap(), "south".parse().unwrap());
        let gateway = Revoked::Gateway { cluster: north.clone(), name: "gw1".parse().unwrap() };
        let whole = Revoked::Cluster(south.clone());
        let mut revocations = Revocations::open(&store).unwrap();
        for revoked in [&gateway, &whole] {
            revocations.add(revoked, "ada", OffsetDateTime::UNIX_EPOCH).unwrap();
        }
        let mut again = Revocations::open(&store).unwrap();
        assert_eq!(again.all(), revocations.all());
        assert_eq!(again.of(&BTreeMap::from([(north.clone(), ())])), [gateway.clone()].into());
        assert!(again.check(&north).is_ok() && again.check(&south).is_err());
        again.remove(&whole).unwrap();
        assert!(again.check(&south).is_ok() && !again.contains(&whole) && again.contains(&gateway));
        assert_eq!(Revocations::open(&store).unwrap().all().len(), 1);
    }
}
