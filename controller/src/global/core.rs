//! The state of a global controller, and every way in which it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use config::resource::{Address, ClusterSpec, Name, Resource, ResourceId, Spec};
use config::wire::{AgentSequence, Entries};
use identity::pem::{decode_certificates, encode_certificates};
use identity::{Facts, Identity, Role};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore, watch};

use super::apply::{Action, Applied, Apply, Plan, plan};
use super::commits::Commits;
use super::enrolment::Enrolments;
use super::error::Error;
use super::link::Link;
use super::observed::Observation;
use super::past::{HISTORIANS, KEEPERS};
use super::telling::Telling;
use super::token::JoinTokens;
use super::view::{Made, View, clusters, wanted};
use super::waiting::WAITERS;
use crate::access::{Administer, ApiTokens, Edit, Permit};
use crate::audit::{AuditLog, Entry};
use crate::ca::Authorities;
use crate::http::ClientCertificate;
use crate::http::message::{Certified, Join, Joined, Renewed};
use crate::http::token::Token;
use crate::store::{Desired, Owner, Revision, Store};
use crate::sync::cache::{make_private_dir, read_checked, write_checked};
use crate::vault::{SealKeys, Vault};

/// What changes often, under a lock that is held for moments only.
#[derive(Default)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) links: BTreeMap<Name, Link>,
    /// Counts streams, so that a lost one is told from its successor.
    pub(super) streams: u64,
    /// Whose observations are newer than the cache on disk.
    pub(super) unsaved: BTreeSet<Name>,
    pub(super) commits: Commits,
}

impl State {
    /// Takes a new desired state with what was made for it, forgets clusters that it doesn't have, and hears no more of
    /// those that are revoked.
    fn install(&mut self, desired: Arc<Desired>, made: Arc<Made>) {
        let present: BTreeSet<&Name> = clusters(&desired).collect();
        self.view.observed.retain(|cluster, _| present.contains(cluster));
        let stays = |cluster: &Name| present.contains(cluster) && !made.revoked_clusters.contains(cluster);
        for (_, link) in self.links.extract_if(.., |cluster, _| !stays(cluster)) {
            link.end.cancel();
        }
        self.commits.note(desired.head, Instant::now());
        self.view.desired = desired;
        self.view.made = made;
    }
}

/// The audit log, in the state directory.
const AUDIT_LOG: &str = "audit.log";

/// A global controller without its sockets.
pub(crate) struct Core {
    pub(super) mesh: String,
    pub(super) store: Arc<dyn Store>,
    tokens: JoinTokens,
    pub(crate) api_tokens: ApiTokens,
    pub(super) audit: AuditLog,
    pub(super) enrolments: Arc<Enrolments>,
    /// Writers of the desired state take this lock, one after another, also while they wait for the disk. Whoever
    /// holds both locks took this one first.
    authorities: Mutex<Authorities>,
    state: Mutex<State>,
    /// Whoever holds this may take the state's lock, not the other way round.
    telling: Mutex<Telling>,
    /// Something changed that agents may have to know.
    pub(super) changed: Notify,
    /// Something was said by which a rotation may go on.
    pub(super) progress: Notify,
    /// Counts what may make somebody ready, or not ready.
    pub(super) news: watch::Sender<u64>,
    /// Who waits for such news.
    pub(super) waiters: Semaphore,
    /// Who looks at the past: to read it takes time and memory.
    pub(super) historians: Semaphore,
    /// Who goes back to it, or copies it.
    pub(super) keepers: Semaphore,
    observations: PathBuf,
    /// When this controller started.
    pub(super) began: Instant,
}

/// An observation as the cache on disk has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: AgentSequence,
    entries: Entries,
}

impl Core {
    /// Opens what is in the state directory. Blocks.
    pub(super) fn open(
        mesh: &str,
        directory: &std::path::Path,
        keys: SealKeys,
        store: Arc<dyn Store>,
    ) -> Result<Self, Error> {
        let vault = Arc::new(Vault::open(Arc::clone(&store), directory, keys)?);
        let authorities = Authorities::open(mesh, &store, &vault, OffsetDateTime::now_utc())?;
        let enrolments = Enrolments::open(authorities.mesh().clone(), authorities.roots()?, &store)?;
        let core = Core {
            mesh: mesh.to_owned(),
            tokens: JoinTokens::new(&store),
            api_tokens: ApiTokens::open(&store)?,
            audit: AuditLog::open(directory.join(AUDIT_LOG))?,
            enrolments: Arc::new(enrolments),
            authorities: Mutex::new(authorities),
            state: Mutex::default(),
            telling: Mutex::default(),
            changed: Notify::new(),
            progress: Notify::new(),
            news: watch::Sender::default(),
            waiters: Semaphore::new(WAITERS),
            historians: Semaphore::new(HISTORIANS),
            keepers: Semaphore::new(KEEPERS),
            observations: directory.join("observed"),
            began: Instant::now(),
            store,
        };
        make_private_dir(&core.observations)?;
        let desired = core.store.load()?;
        core.state().view.observed = core.load_observations(&desired);
        core.settle(&mut core.authorities(), Arc::new(desired));
        Ok(core)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn authorities(&self) -> MutexGuard<'_, Authorities> {
        self.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known now.
    pub(crate) fn view(&self) -> View {
        self.state().view.clone()
    }

    /// What was made for the desired state.
    pub(super) fn made(&self) -> Arc<Made> {
        Arc::clone(&self.state().view.made)
    }

    /// Something is another than it was, of what agents know or what people wait for.
    pub(super) fn note_change(&self) {
        self.changed.notify_one();
        self.note_news();
    }

    /// Something was said of how far somebody is.
    pub(super) fn note_progress(&self) {
        self.progress.notify_one();
        self.note_news();
    }

    /// Somebody came, went, or is further.
    pub(super) fn note_news(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The cluster of whose agent this is the certificate, if it still counts. Who acts on the answer asks under the
    /// lock that keeps it true: [`Self::authorities`] or [`Self::state`].
    pub(crate) fn agent_of(&self, shown: &ClientCertificate) -> Result<Name, Error> {
        shown.check(&*self.enrolments, OffsetDateTime::now_utc())?;
        let Role::Agent { cluster } = shown.id.role() else {
            return Err(Error::Refused(format!("{} is no agent: gateways and DNS servers call theirs", shown.id)));
        };
        cluster.parse().map_err(|error| Error::Refused(format!("{error}")))
    }

    /// Applies manifests and removals, all or none. Blocks.
    pub(crate) fn apply(&self, permit: &Permit<Edit>, apply: Apply) -> Result<Applied, Error> {
        let what = if apply.manifests.is_empty() && !apply.removals.is_empty() { "delete" } else { "apply" };
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, apply.dry_run)?;
        self.change(&mut authorities, permit, apply, what)
    }

    /// Removes a resource. A cluster thereby leaves the mesh. Blocks.
    pub(crate) fn delete(&self, permit: &Permit<Edit>, id: &ResourceId, by: Owner) -> Result<u64, Error> {
        permit.allows(id)?;
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, false)?;
        // A cluster's own resources are nowhere in the desired state, and refused for that.
        let own = matches!(id, ResourceId::Service { .. } | ResourceId::Node { .. });
        if !own && !self.view().desired.resources.contains_key(id) {
            return Err(Error::NotFound(id.clone()));
        }
        let apply = Apply { removals: vec![id.clone()], managed_by: Some(by.to_string()), ..Apply::default() };
        self.change(&mut authorities, permit, apply, "delete").map(|applied| applied.revision)
    }

    /// Makes one revision of a batch, or tells what it would be. `what` the caller does is written down.
    pub(super) fn change(
        &self,
        authorities: &mut Authorities,
        permit: &Permit<Edit>,
        apply: Apply,
        what: &str,
    ) -> Result<Applied, Error> {
        let (view, dry_run) = (self.view(), apply.dry_run);
        let keys = |reference: &_| authorities.key(reference).ok().flatten();
        let Plan { revision, results, keys } = plan(&view, permit, apply, what, &keys, OffsetDateTime::now_utc())?;
        if dry_run || revision.is_empty() {
            return Ok(Applied { revision: view.desired.head, results });
        }
        let changed = || results.iter().filter(|outcome| outcome.action != Action::Unchanged);
        let entry = |what: &str| permit.entry(what).detail("revision", view.desired.head + 1);
        let audited =
            changed().fold(entry(what), |entry, outcome| entry.on(format_args!("{} {}", outcome.id, outcome.action)));
        self.audit.record(&audited)?;
        // Keys first: no revision may name a key that the vault doesn't have.
        let kept = keys.iter().try_for_each(|(reference, key)| authorities.keep_key(reference, key));
        let written = kept.map_err(Error::from).and_then(|()| self.commit(authorities, &view.desired, &revision));
        if let Err(error) = &written {
            // If this line cannot be written either, the caller still learns of it.
            _ = self.audit.record(&entry(&format!("{what}.failed")).detail("error", error));
        }
        let head = written?;
        for outcome in changed() {
            tracing::info!(revision = head, id = %outcome.id, action = ?outcome.action, by = %revision.by, what);
        }
        Ok(Applied { revision: head, results })
    }

    fn commit(&self, authorities: &mut Authorities, desired: &Desired, revision: &Revision) -> Result<u64, Error> {
        let revision = revision.on(desired);
        let head = self.store.append(desired.head, &revision)?;
        let mut desired = desired.clone();
        desired.apply(&revision);
        self.settle(authorities, Arc::new(desired));
        Ok(head)
    }

    /// Takes up what the store has and the memory has not: a change of which it was not known whether it counts. A reader
    /// goes on without it where the store cannot be asked.
    pub(super) fn catch_up(&self, authorities: &mut Authorities, reading: bool) -> Result<(), Error> {
        let known = self.view().desired.head;
        match self.store.head() {
            Ok(head) if head == known => Ok(()),
            Ok(head) => {
                tracing::warn!(known, head, "a change of which it was not known whether it counts does");
                self.settle(authorities, Arc::new(self.store.load()?));
                Ok(())
            }
            Err(error) if reading => {
                tracing::warn!(%error, "what is known is told, though it may not be the newest");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the certificates that the desired state asks for, and publishes both together. What cannot be made now is
    /// told in the status, and tried again by [`Self::maintain`].
    pub(super) fn settle(&self, authorities: &mut Authorities, desired: Arc<Desired>) {
        let reconciled = authorities.reconcile(&wanted(&desired), OffsetDateTime::now_utc());
        match authorities.roots() {
            Ok(roots) => self.enrolments.believe(roots),
            Err(error) => tracing::error!(%error, "agents are believed by the roots that were"),
        }
        let before = self.made();
        let made = Made::of(&desired, authorities, &before, reconciled.err().map(|error| error.to_string()));
        self.write_down(&before, &made);
        if let Some(fault) = &made.fault {
            tracing::error!(fault, "not everything that the desired state asks for could be made");
        }
        if let Err(error) = authorities.retain_keys(&made.needed_keys(&desired)) {
            tracing::warn!(%error, "keys that nothing needs stay in the vault");
        }
        // First no agent of a revoked cluster comes in, then those that are in go.
        self.enrolments.shut_out(made.revoked_clusters.clone());
        self.state().install(Arc::clone(&desired), Arc::new(made));
        let present = clusters(&desired).cloned().collect();
        if let Err(error) = authorities.retain_clusters(&present) {
            tracing::warn!(%error, "what was remembered of clusters that left stays");
        }
        if let Err(error) = self.expel(&desired) {
            tracing::error!(%error, "a cluster that left could not be shut out; it is tried again within a minute");
        }
        self.note_change();
    }

    /// Clusters that are no longer desired leave the mesh.
    fn expel(&self, desired: &Desired) -> Result<(), Error> {
        let present: BTreeSet<&Name> = clusters(desired).collect();
        let gone = self.enrolments.clusters().into_iter().filter(|cluster| !present.contains(cluster));
        gone.into_iter().try_for_each(|cluster| {
            tracing::warn!(%cluster, "left the mesh");
            let _ = std::fs::remove_file(self.observation_path(&cluster)); // may never have been written
            Ok(self.enrolments.leave(&cluster)?)
        })
    }

    /// Renews what is due and repeats what failed. Blocks.
    pub(super) fn maintain(&self) {
        let mut authorities = self.authorities();
        // By a state that may be old, keys would be dropped that the newest one needs.
        if let Err(error) = self.catch_up(&mut authorities, false) {
            return tracing::error!(%error, "the database cannot be read; it is tried again within a minute");
        }
        let desired = self.view().desired;
        self.settle(&mut authorities, desired);
    }

    /// A token with which the cluster may join, at that address. Blocks.
    pub(crate) fn create_token(
        &self,
        permit: &Permit<Administer>,
        cluster: &Name,
        address: Address,
    ) -> Result<Token, Error> {
        self.audit.record(&permit.entry("joinToken.create").on(cluster))?;
        let secret = self.tokens.create(cluster, OffsetDateTime::now_utc())?;
        let ca_sha256 = self.authorities().ca_sha256().to_owned();
        tracing::info!(%cluster, "made a join token");
        Ok(Token { address, mesh: self.mesh.clone(), cluster: cluster.clone(), ca_sha256, secret })
    }

    /// A cluster joins. Everything is checked before the token is spent. Blocks.
    pub(crate) fn join(&self, join: &Join, from: IpAddr) -> Result<Joined, Error> {
        let now = OffsetDateTime::now_utc();
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, false)?;
        self.tokens.check(&join.secret, &join.cluster, now)?;
        self.enrolments.check(&join.cluster, join.replace)?;
        let (chain, order) = authorities.issue_agent(&join.cluster, &join.csr, now)?;
        let who = format!("join token of {}", join.cluster);
        self.audit
            .record(&Entry::new(&who, "join").from(Some(from)).on(&join.cluster).detail("replace", join.replace))?;
        self.audit.record(&Entry::issue(&who, &chain).from(Some(from)))?;
        self.tokens.redeem(&join.secret, &join.cluster, now)?;
        // The cluster's resource first: what is enrolled without one would be expelled.
        self.declare(&mut authorities, join, now)?;
        self.enrolments.join(&join.cluster, join.replace, &leaf(&chain)?)?;
        self.supersede(&mut authorities, &join.cluster)?;
        tracing::info!(cluster = %join.cluster, replace = join.replace, "joined the mesh");
        let (certificate, ca) = (encode_certificates(&chain), authorities.ca_pem());
        Ok(Joined { certificate, mesh: self.mesh.clone(), ca, order })
    }

    /// Makes the cluster's resource, unless somebody wrote one.
    fn declare(&self, authorities: &mut Authorities, join: &Join, now: OffsetDateTime) -> Result<(), Error> {
        let (id, desired) = (ResourceId::Cluster(join.cluster.clone()), self.view().desired);
        let cluster = Resource { id, labels: join.labels.clone(), spec: Spec::Cluster(ClusterSpec::default()) };
        match desired.resources.get(&cluster.id) {
            Some(old) if old.managed_by != Owner::Join || *old.resource == cluster => Ok(()),
            _ => {
                let upserts = vec![Arc::new(cluster)];
                let who = format!("join token of {}", join.cluster);
                let revision = Revision { upserts, ..Revision::new(now.unix_timestamp(), Owner::Join, &who, "join") };
                self.commit(authorities, &desired, &revision).map(drop)
            }
        }
    }

    /// Ends what an earlier incarnation of the cluster still holds.
    fn supersede(&self, authorities: &mut Authorities, cluster: &Name) -> Result<(), Error> {
        if self.enrolments.get(cluster).is_none_or(|enrolment| enrolment.incarnation == 1) {
            return Ok(());
        }
        authorities.forget_labels(cluster)?;
        let mut state = self.state();
        if let Some(link) = state.links.remove(cluster) {
            link.end.cancel();
        }
        let desired = state.view.desired.clone();
        drop(state);
        self.settle(authorities, desired);
        Ok(())
    }

    /// A successor of an agent's certificate. Blocks.
    pub(crate) fn renew(&self, agent: &ClientCertificate, csr: &str, from: IpAddr) -> Result<Renewed, Error> {
        let now = OffsetDateTime::now_utc();
        let mut authorities = self.authorities();
        let cluster = self.agent_of(agent)?;
        let (chain, order) = authorities.issue_agent(&cluster, csr, now)?;
        self.audit.record(&Entry::issue(&agent.id, &chain).from(Some(from)))?;
        self.enrolments.renew(&cluster, &leaf(&chain)?, now)?;
        tracing::info!(%cluster, "renewed the agent's certificate");
        Ok(Renewed { certificate: encode_certificates(&chain), order })
    }

    /// The certificate of a cluster's issuing CA in a GNS. Blocks.
    pub(crate) fn issuing(
        &self,
        agent: &ClientCertificate,
        gns: &Name,
        csr: &str,
        from: IpAddr,
    ) -> Result<Certified, Error> {
        let mut authorities = self.authorities();
        let cluster = self.agent_of(agent)?;
        let wanted = wanted(&self.view().desired);
        let unknown = || Error::NotFound(ResourceId::GlobalNamespace(gns.clone()));
        let wanted = wanted.global_namespaces.get(gns).ok_or_else(unknown)?;
        let (chain, order) = authorities.issue_issuing(gns, wanted, &cluster, csr, OffsetDateTime::now_utc())?;
        let signed = decode_certificates(&chain).map_err(|error| Error::Internal(error.to_string()))?;
        let entry = Entry::issue(&agent.id, &signed).from(Some(from));
        self.audit.record(&entry.detail("globalNamespace", gns).detail("level", "issuing"))?;
        tracing::info!(%cluster, %gns, "signed an issuing CA");
        Ok(Certified { chain, order })
    }

    /// The top-level CA's certificate in PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.authorities().ca_pem()
    }

    /// The controller's own server certificate for these names, with a new key.
    pub(super) fn identity(&self, names: &[String]) -> Result<Identity, Error> {
        Ok(self.authorities().controller_identity(names, OffsetDateTime::now_utc())?)
    }

    fn observation_path(&self, cluster: &Name) -> PathBuf {
        self.observations.join(format!("{cluster}.json"))
    }

    fn load_observations(&self, desired: &Desired) -> BTreeMap<Name, Arc<Observation>> {
        let load = |cluster: &Name| {
            let Kept { at, entries } = read_checked(&self.observation_path(cluster))?;
            Some((cluster.clone(), Arc::new(Observation::restore(cluster.clone(), at, entries))))
        };
        clusters(desired).filter_map(load).collect()
    }

    /// Writes the observations that changed since the last time, so that a restart knows them. Blocks.
    pub(super) fn save_observations(&self) {
        let mut state = self.state();
        let unsaved = std::mem::take(&mut state.unsaved);
        let observed = state.view.observed.clone();
        drop(state);
        for observation in unsaved.iter().filter_map(|cluster| observed.get(cluster)) {
            let kept = Kept { at: observation.at(), entries: observation.entries().clone() };
            if let Err(error) = write_checked(&self.observation_path(observation.cluster()), &kept) {
                tracing::warn!(%error, "what an agent sees could not be cached");
            }
        }
    }
}

fn leaf(chain: &[rustls_pki_types::CertificateDer<'_>]) -> Result<Facts, Error> {
    let leaf = chain.first().ok_or(Error::Internal("a certificate was signed, but is not there".to_owned()))?;
    Facts::read(leaf).map_err(|error| Error::Internal(error.to_string()))
}

#[cfg(test)]
mod tests;
