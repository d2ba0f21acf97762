//! Certificates for public hosts that the mesh signs itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::{Host, Name, SecretRef};
use config::world::HostCertificate;
use identity::ca::renew_at;
use identity::key::KeyError;
use identity::pem::encode_certificates;
use identity::{KeyedCertificate, PrivateKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::gns::pair;
use super::top_level::TopLevel;
use super::{AuthorityError, key_reference};
use crate::store::{Record, Records, Store, Table};
use crate::sync::secrets::reference_of;
use crate::vault::Vault;

/// What was made for a public service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    chain: String,
    secret_ref: SecretRef,
    hosts: BTreeSet<Host>,
    /// SHA-256 of the top-level CA that signed it.
    #[serde(default)]
    root: String,
    /// Seconds since 1970.
    renew_at: i64,
}

impl Record for Made {
    const TABLE: Table = Table::HostCertificates;
}

/// The certificates made for public services, by GNS and name.
#[derive(Debug)]
pub(super) struct HostCertificates {
    vault: Arc<Vault>,
    records: Records<Made>,
    live: BTreeMap<(Name, Name), Made>,
}

impl HostCertificates {
    pub(super) fn open(store: &Arc<dyn Store>, vault: Arc<Vault>) -> Result<Self, AuthorityError> {
        let records: Records<Made> = Records::new(Arc::clone(store));
        let live = records.all()?.into_iter().filter_map(|(key, made)| Some((pair(&key)?, made))).collect();
        Ok(HostCertificates { vault, records, live })
    }

    pub(super) fn reconcile(
        &mut self,
        top_level: &TopLevel,
        wanted: &BTreeMap<(Name, Name), BTreeSet<Host>>,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let gone: Vec<_> = self.live.keys().filter(|of| !wanted.contains_key(*of)).cloned().collect();
        gone.iter().try_for_each(|of| self.drop_certificate(of))?;
        for (of, hosts) in wanted {
            let root = &top_level.signing().facts().fingerprint;
            let good = |made: &Made| made.hosts == *hosts && made.root == *root && now.unix_timestamp() < made.renew_at;
            if !hosts.is_empty() && !self.live.get(of).is_some_and(good) {
                self.make(top_level, of, hosts, now)?;
            }
        }
        Ok(())
    }

    fn make(
        &mut self,
        top_level: &TopLevel,
        of: &(Name, Name),
        hosts: &BTreeSet<Host>,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let key = PrivateKey::generate()?;
        let mut chain = top_level.signing().issue_public(hosts.iter().map(Host::as_str), &key, now)?;
        chain.extend(top_level.cross_signed().cloned());
        let text = encode_certificates(&chain);
        let keyed = KeyedCertificate::new(chain, &key)?;
        let (facts, key) = (keyed.facts(), key.to_pem());
        let secret_ref = reference_of(&key).ok_or(KeyError::Unsupported)?;
        let renewal = renew_at(facts.not_before, facts.not_after, fastrand::f64()).unix_timestamp();
        let root = top_level.signing().facts().fingerprint.clone();
        let made = Made { chain: text, secret_ref, hosts: hosts.clone(), root, renew_at: renewal };
        // The key first: a certificate whose key is nowhere would serve nobody.
        self.vault.put(&key_reference(&made.secret_ref), &key)?;
        self.records.put(&record_key(of), &made)?;
        tracing::info!(gns = %of.0, public_service = %of.1, "made a certificate for public hosts");
        let old = self.live.insert(of.clone(), made);
        old.map_or(Ok(()), |old| Ok(self.vault.remove(&key_reference(&old.secret_ref))?))
    }

    fn drop_certificate(&mut self, of: &(Name, Name)) -> Result<(), AuthorityError> {
        let Some(made) = self.live.get(of) else { return Ok(()) };
        self.records.remove(&record_key(of))?;
        self.vault.remove(&key_reference(&made.secret_ref))?;
        self.live.remove(of);
        Ok(())
    }

    /// When the next one is to be renewed.
    pub(super) fn due(&self) -> Option<OffsetDateTime> {
        let next = self.live.values().map(|made| made.renew_at).min()?;
        OffsetDateTime::from_unix_timestamp(next).ok()
    }

    pub(super) fn get(&self, gns: &Name, public_service: &Name) -> Option<HostCertificate> {
        let made = self.live.get(&(gns.clone(), public_service.clone()))?;
        Some(HostCertificate {
            global_namespace: gns.clone(),
            public_service: public_service.clone(),
            chain: made.chain.as_str().into(),
            secret_ref: made.secret_ref.clone(),
        })
    }
}

fn record_key((gns, public_service): &(Name, Name)) -> String {
    format!("{gns}/{public_service}")
}
