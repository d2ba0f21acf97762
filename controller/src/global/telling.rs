//! What clusters are told, each piece made once, in folders that all clusters share. A round of telling costs what changed
//! since the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::compile::membership::Membership;
use config::keyed::{Folder, Keyed, folder_of};
use config::resource::{MtlsMode, Name, Resource, ResourceId, Spec};
use config::wire::{Entries, Json, Secret};
use config::world::{Fact, Key, MeshTrust, RemoteService};

use super::observed::Observation;
use super::projection::global_namespace;
use super::view::{Made, View, global_namespaces};
use crate::store::{Desired, Stored};

/// Keys of certificates, as one cluster gets them.
pub(super) type Secrets = Arc<BTreeMap<config::resource::SecretRef, Secret>>;

/// The folder of the global namespaces.
const GLOBAL_NAMESPACES: &str = "GlobalNamespace";

/// Facts and what is told of them.
#[derive(Default)]
pub(crate) struct Telling {
    /// Of which state the rest is.
    desired: Arc<Desired>,
    made: Arc<Made>,
    facts: Keyed<Fact>,
    /// What people wrote, and what was made for it.
    pub(super) wanted: Entries,
    /// Whom each folder of these concerns.
    pub(super) scopes: BTreeMap<Arc<str>, FolderScope>,
    /// Where each cluster's gateways are.
    pub(super) gateways: Entries,
    /// What other clusters are told of the services that each cluster's agent sees.
    pub(super) summaries: BTreeMap<Name, Summaries>,
    /// The secrets of those who are members of the same GNSs.
    pub(super) secrets: BTreeMap<BTreeSet<Name>, Secrets>,
    /// What all are told who are members of the same GNSs: what a cluster must know depends on nothing else.
    pub(super) common: BTreeMap<BTreeSet<Name>, Entries>,
    /// What agents are told of the control plane: few different things.
    mesh: Vec<(Arc<MeshTrust>, Json)>,
}

/// Whom a fact concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every cluster.
    Everyone,
    /// The members of a GNS.
    Members(Name),
    /// Those that have to know a GNS: its members, and who may call something in it.
    Reaching(Name),
    /// Those that have to know whom to believe in a GNS.
    Believing(Name),
    /// No cluster.
    Nobody,
}

/// Whom a folder concerns: as a whole, or fact by fact.
pub(super) enum FolderScope {
    Whole(Scope),
    Each(BTreeMap<Arc<str>, Scope>),
}

/// What other clusters are told of one.
#[derive(Default)]
pub(super) struct Summaries {
    /// Of what the rest is.
    of: Option<Arc<Observation>>,
    facts: Keyed<Fact>,
    told: Entries,
    /// The GNS of each folder, and its mode.
    places: BTreeMap<Arc<str>, (Name, MtlsMode)>,
}

impl Summaries {
    /// Each folder with the GNS that its services are in.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Folder<Json>>, &Name)> {
        self.told.folders().filter_map(|(name, folder)| Some((name, folder, &self.places.get(name)?.0)))
    }

    fn is_of(&self, seen: &Arc<Observation>) -> bool {
        self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, seen))
    }

    /// Takes what the agent sees now. What isn't in a GNS nobody else is told of.
    fn take(&mut self, seen: &Arc<Observation>, membership: &Membership<'_>, modes: &BTreeMap<&Name, MtlsMode>) {
        let places = places(seen, membership, modes);
        // Where the GNS or its mode is another now, everything is made anew.
        for (name, _) in self.places.iter().filter(|(name, place)| places.get(*name) != Some(*place)) {
            self.told.remove_folder(name);
            self.facts.remove_folder(&seen_folder(name));
        }
        let mut facts = Keyed::new();
        for (name, folder) in seen.facts().folders().filter(|(name, _)| places.contains_key(&*told_folder(name))) {
            facts.put_folder(Arc::clone(name), Arc::clone(folder));
        }
        for (key, fact) in Keyed::changes(&self.facts, &facts, same) {
            let mode = places.get(folder_of(&told_key(key))).map(|(_, mode)| *mode);
            let told = fact.zip(mode).and_then(|(fact, mode)| tell(Fact::Remote(Arc::new(summary(fact, mode)?))));
            put(&mut self.told, &told_key(key), told);
        }
        (self.of, self.facts, self.places) = (Some(Arc::clone(seen)), facts, places);
    }
}

/// `Service/…` as other clusters are told of it: `remote/…`.
fn told_key(seen: &str) -> String {
    format!("remote/{}", seen.split_once('/').map_or("", |(_, rest)| rest))
}

fn told_folder(seen: &str) -> Arc<str> {
    told_key(seen).into()
}

fn seen_folder(told: &str) -> String {
    format!("Service/{}", told.split_once('/').map_or("", |(_, rest)| rest))
}

/// The folders of services that are in a GNS, as they are told.
fn places(
    seen: &Observation,
    membership: &Membership<'_>,
    modes: &BTreeMap<&Name, MtlsMode>,
) -> BTreeMap<Arc<str>, (Name, MtlsMode)> {
    let place = |(name, folder): (&Arc<str>, &Arc<Folder<Fact>>)| {
        let Some(Fact::Resource(resource)) = folder.values().next() else { return None };
        let ResourceId::Service { cluster, namespace, .. } = &resource.id else { return None };
        let gns = membership.owner(cluster, namespace)?;
        Some((told_folder(name), (gns.clone(), modes.get(gns).copied().unwrap_or_default())))
    };
    seen.facts().folders().filter_map(place).collect()
}

/// Of instances only those count that are endpoints in the mode of their GNS.
fn summary(fact: &Fact, mode: MtlsMode) -> Option<RemoteService> {
    let Fact::Resource(resource) = fact else { return None };
    let (ResourceId::Service { cluster, namespace, name }, Spec::Service(spec)) = (&resource.id, &resource.spec) else {
        return None;
    };
    let count = |instances: usize| u32::try_from(instances).unwrap_or(u32::MAX);
    let served = spec.versions.iter().filter(|version| mode.serves(version.tls));
    Some(RemoteService {
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        ports: spec.ports.clone(),
        versions: served.map(|v| (v.name.clone(), count(v.instances.len()))).collect(),
    })
}

impl FolderScope {
    fn of(folder: &Folder<Fact>) -> Self {
        let scopes: BTreeMap<Arc<str>, Scope> =
            folder.iter().map(|(key, fact)| (Arc::clone(key), Scope::of(fact))).collect();
        match scopes.values().next() {
            Some(first) if scopes.values().all(|scope| scope == first) => FolderScope::Whole(first.clone()),
            _ => FolderScope::Each(scopes),
        }
    }
}

impl Scope {
    fn of(fact: &Fact) -> Self {
        match fact {
            Fact::Resource(resource) => Scope::of_resource(resource),
            Fact::HostCertificate(certificate) => Scope::Members(certificate.global_namespace.clone()),
            Fact::Trust(trust) => Scope::Believing(trust.global_namespace.clone()),
            _ => Scope::Nobody,
        }
    }

    fn of_resource(resource: &Resource) -> Self {
        match (&resource.id, &resource.spec, global_namespace(resource)) {
            (ResourceId::Cluster(_), ..) => Scope::Everyone,
            (_, Spec::GlobalNamespace(_) | Spec::AccessPolicy(_), Some(gns)) => Scope::Reaching(gns.clone()),
            (.., Some(gns)) => Scope::Members(gns.clone()),
            _ => Scope::Nobody,
        }
    }
}

impl Telling {
    /// Takes what is known now.
    pub(super) fn take(&mut self, view: &View, membership: &Membership<'_>) {
        let same_state = Arc::ptr_eq(&self.desired, &view.desired) && Arc::ptr_eq(&self.made, &view.made);
        let namespaces = self.wanted.folder(GLOBAL_NAMESPACES).cloned();
        if !same_state {
            self.take_wanted(&view.desired, &view.made);
        }
        // What a namespace is in, and in which mode, follows from these alone.
        let moved = namespaces.as_ref().map(Arc::as_ptr) != self.wanted.folder(GLOBAL_NAMESPACES).map(Arc::as_ptr);
        let summed = self.take_summaries(view, membership, moved);
        if summed || !same_state {
            self.common.clear();
        }
    }

    /// Sums up what agents see; all of it anew, if namespaces have `moved`. Says whether anything changed.
    fn take_summaries(&mut self, view: &View, membership: &Membership<'_>, moved: bool) -> bool {
        let modes = modes(&view.desired);
        let believed: BTreeMap<&Name, &Arc<Observation>> = view.believed().collect();
        let gone = self.summaries.extract_if(.., |cluster, _| !believed.contains_key(cluster));
        let gone: Vec<Name> = gone.map(|(cluster, _)| cluster).collect();
        gone.iter().for_each(|cluster| drop(self.gateways.remove(&Key::Gateways(cluster.clone()).to_string())));
        let mut changed = !gone.is_empty();
        for (cluster, seen) in believed {
            let summaries = self.summaries.entry(cluster.clone()).or_default();
            if moved || !summaries.is_of(seen) {
                summaries.take(seen, membership, &modes);
                put(&mut self.gateways, &Key::Gateways(cluster.clone()).to_string(), seen.gateways());
                changed = true;
            }
        }
        changed
    }

    /// What an agent is told of the control plane.
    pub(super) fn mesh(&mut self, trust: &Arc<MeshTrust>) -> Option<Json> {
        if let Some((_, told)) = self.mesh.iter().find(|(known, _)| known == trust) {
            return Some(told.clone());
        }
        let told = tell(Fact::Mesh(Arc::clone(trust)))?;
        self.mesh.push((Arc::clone(trust), told.clone()));
        Some(told)
    }

    fn take_wanted(&mut self, desired: &Arc<Desired>, made: &Arc<Made>) {
        let facts: Keyed<Fact> = wanted(desired, made).map(|fact| (fact.key().to_string(), fact)).collect();
        let mut folders = BTreeSet::new();
        for (key, fact) in Keyed::changes(&self.facts, &facts, same) {
            folders.insert(folder_of(key));
            put(&mut self.wanted, key, fact.cloned().and_then(tell));
        }
        for name in folders {
            match facts.folder(name) {
                Some(folder) => drop(self.scopes.insert(name.into(), FolderScope::of(folder))),
                None => drop(self.scopes.remove(name)),
            }
        }
        self.secrets.clear();
        self.mesh.retain(|(trust, _)| made.mesh.values().any(|now| now == trust));
        self.facts = facts;
        (self.desired, self.made) = (Arc::clone(desired), Arc::clone(made));
    }
}

/// Every fact that people or the controller itself made, but for what each cluster alone is told.
fn wanted<'v>(desired: &'v Desired, made: &'v Made) -> impl Iterator<Item = Fact> + 'v {
    let resources = desired.resources.values().map(|Stored { resource, .. }| Fact::Resource(Arc::clone(resource)));
    let trust = made.trust.values().map(|trust| Fact::Trust(Arc::clone(trust)));
    let hosts = made.host_certificates.values().map(|certificate| Fact::HostCertificate(Arc::clone(certificate)));
    resources.chain(trust).chain(hosts)
}

fn modes(desired: &Desired) -> BTreeMap<&Name, MtlsMode> {
    global_namespaces(desired).map(|(name, spec)| (name, spec.mtls)).collect()
}

/// Sets an entry, or takes it away, if it isn't so already: a folder in which nothing changes stays the same in memory.
fn put(entries: &mut Entries, key: &str, told: Option<Json>) {
    match told {
        Some(told) if entries.get(key) != Some(&told) => drop(entries.insert(key, told)),
        Some(_) => {}
        None => drop(entries.remove(key)),
    }
}

/// A fact as it travels. One that cannot be told is left out, and named in the log.
fn tell(fact: Fact) -> Option<Json> {
    Json::of(&fact)
        .inspect_err(|error| tracing::error!(key = %fact.key(), %error, "a fact cannot be told to agents"))
        .ok()
}

fn same(one: &Fact, other: &Fact) -> bool {
    match (one, other) {
        (Fact::Resource(one), Fact::Resource(other)) if Arc::ptr_eq(one, other) => true,
        _ => one == other,
    }
}
