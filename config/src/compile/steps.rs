//! One world after another. What a step leaves alone is neither compiled nor looked at again.
//!
//! A step compiles the facts that matter for what changed, and nothing else, by the same functions as a whole world. So
//! it needs little memory of its own: which facts are faulty, who claims which host, which checks public services bring.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::resource::{CertificateSource, Host, Name, PublicServiceSpec, Resource, ResourceId, Spec};
use crate::snapshot::{Namespace, Place, PublicHost, Service, Snapshot};
use crate::world::{Fact, Key, World};

use super::checks::{Checks, check};
use super::frame::Frame;
use super::known::Known;
use super::namespaces::Services;
use super::public::Claims;
use super::touched::{Scoped, Touched};
use super::{Kept, Of, access, public, services, whole};

/// Makes snapshots of one world after another.
pub struct Compiler {
    place: Place,
    last: Option<Last>,
}

struct Last {
    world: World,
    snapshot: Snapshot,
    kept: Kept,
}

impl Compiler {
    /// For a place of which nothing was compiled yet.
    pub fn new(place: Place) -> Self {
        Compiler { place, last: None }
    }

    /// For whom it compiles.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What [`compile`](super::compile) makes of the world, sharing with the snapshot before whatever is as it was.
    pub fn compile(&mut self, world: &World) -> Snapshot {
        let last = match self.last.take() {
            Some(last) => last.next(world, &self.place),
            None => Last::first(world, &self.place, None),
        };
        self.last.insert(last).snapshot.clone()
    }
}

impl Last {
    fn first(world: &World, place: &Place, previous: Option<&Snapshot>) -> Self {
        let (snapshot, kept) = whole(world, place, previous);
        Last { world: world.clone(), snapshot, kept }
    }

    fn next(self, world: &World, place: &Place) -> Self {
        let Last { world: before, snapshot: previous, kept } = self;
        match Touched::of(&before, world) {
            Some(touched) => {
                let (snapshot, kept) = step((world, place), &touched, &previous, kept);
                Last { world: world.clone(), snapshot, kept }
            }
            None => Last::first(world, place, Some(&previous)),
        }
    }
}

/// Services that are compiled again, by their GNS.
type Again = BTreeMap<Name, BTreeSet<Name>>;

fn step((world, place): (&World, &Place), touched: &Touched<'_>, previous: &Snapshot, kept: Kept) -> (Snapshot, Kept) {
    let mut kept = kept;
    touched.facts.iter().for_each(|(key, fact)| kept.rejected.judge(key, *fact));
    let frame = Frame::of(common(world), place, &kept.rejected);
    let mut step = Step { world, touched, previous, frame, kept };
    let again = step.again();
    let namespaces = step.services(&again);
    let public_hosts = step.hosts(&namespaces);
    let foreign = match opens_alike(&previous.namespaces, &namespaces, &again) {
        true => previous.foreign.clone(),
        false => access::foreign(&step.frame.known, &namespaces, Some(previous)),
    };
    let (revision, rejected) = (world.revision, step.kept.rejected.sorted());
    (Snapshot { revision, foreign, namespaces, public_hosts, rejected, ..previous.clone() }, step.kept)
}

struct Step<'s, 'w> {
    world: &'w World,
    touched: &'s Touched<'w>,
    previous: &'s Snapshot,
    /// At first it knows only what is common to all.
    frame: Frame<'w>,
    kept: Kept,
}

impl<'w> Step<'_, 'w> {
    /// The services of which a part is another, or the check that a public service brings.
    fn again(&mut self) -> Again {
        let mut again = Again::new();
        for (cluster, namespace, name) in &self.touched.parts {
            if let Some(gns) = self.frame.reached(cluster, namespace) {
                again.entry(gns.clone()).or_default().insert((*name).clone());
            }
        }
        let public = self.touched.public_services.values().flat_map(|(before, now)| [before, now]).flatten();
        if public.into_iter().any(|public| check(public).is_some()) {
            let mut known = Known::default();
            known.take(many(self.world, PUBLIC_SERVICES), &self.kept.rejected);
            let before = std::mem::replace(&mut self.kept.checks, Checks::of_all(&known));
            for (gns, name) in before.differing(&self.kept.checks) {
                again.entry(gns.clone()).or_default().insert(name.clone());
            }
        }
        again
    }

    fn services(&mut self, again: &Again) -> BTreeMap<Name, Arc<Namespace>> {
        if again.is_empty() {
            return self.previous.namespaces.clone();
        }
        let Kept { rejected, checks, .. } = &mut self.kept;
        self.frame.known.take(parts(self.world, &self.frame, again), rejected);
        for (gns, names) in again {
            names.iter().for_each(|name| rejected.of_service((gns, name), vec![]));
        }
        let compiled = services::compile(&self.frame, checks, Some(self.previous), rejected);
        with_services(&self.previous.namespaces, again, &compiled)
    }

    fn hosts(&mut self, namespaces: &BTreeMap<Name, Arc<Namespace>>) -> Arc<HashMap<Host, Arc<PublicHost>>> {
        let (world, touched, previous) = (self.world, self.touched, self.previous);
        if touched.public_services.is_empty() && touched.certified.is_empty() {
            return previous.public_hosts.clone();
        }
        let (reservations, Kept { rejected, claims, .. }) = (self.frame.reservations(), &mut self.kept);
        let hosts = claimed_anew(world, touched, |of, before, now| {
            rejected.of_public_service(of, vec![]);
            before.inspect(|spec| claims.remove(of, spec));
            let sound = now.filter(|_| rejected.is_sound(&public_key(of).to_string()));
            sound.inspect(|spec| claims.add(&reservations, of, spec));
        });
        self.frame.known.take(publishing(world, touched, (claims, &hosts)), rejected);
        let held = public::compile(&self.frame, (claims, &reservations), namespaces, Some(previous), rejected);
        with_hosts(&previous.public_hosts, &hosts, held)
    }
}

const PUBLIC_SERVICES: &str = "PublicService/";
/// Folders of facts of which there are many. None of them says anything of more than a service or a few hosts.
const MANY: [&str; 6] = ["Service/", "remote/", PUBLIC_SERVICES, "Certificate/", "hostCertificate/", "Node/"];

/// The few facts by which everything is compiled.
fn common(world: &World) -> impl Iterator<Item = (&str, &Fact)> {
    folders(world, |name| !MANY.iter().any(|many| name.starts_with(many)))
}

fn many<'w>(world: &'w World, of: &'static str) -> impl Iterator<Item = (&'w str, &'w Fact)> {
    folders(world, move |name| name.starts_with(of))
}

fn folders(world: &World, which: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &Fact)> {
    let folders = world.facts.folders().filter(move |(name, _)| which(name));
    folders.flat_map(|(_, folder)| folder.iter()).map(|(key, fact)| (&**key, fact))
}

/// All parts of these services.
fn parts<'w>(world: &'w World, frame: &Frame<'w>, again: &Again) -> Vec<(String, &'w Fact)> {
    let mut parts = Vec::new();
    for (folder_name, folder) in world.facts.folders() {
        let Some((cluster, namespace)) = folder.values().next().and_then(standing) else { continue };
        let names = frame.reached(cluster, namespace).and_then(|gns| again.get(gns));
        for name in names.into_iter().flatten() {
            let key = format!("{folder_name}/{name}");
            parts.extend(folder.get(&key).map(|fact| (key, fact)));
        }
    }
    parts
}

/// In which cluster and namespace a service or a part of one is, and with it all of its folder.
fn standing(fact: &Fact) -> Option<(&Name, &Name)> {
    match fact {
        Fact::Remote(remote) => Some((&remote.cluster, &remote.namespace)),
        Fact::Resource(resource) => match &resource.id {
            ResourceId::Service { cluster, namespace, .. } => Some((cluster, namespace)),
            _ => None,
        },
        _ => None,
    }
}

/// The namespaces with what was compiled again in place of what was.
fn with_services(
    before: &BTreeMap<Name, Arc<Namespace>>,
    again: &Again,
    compiled: &BTreeMap<Name, Services>,
) -> BTreeMap<Name, Arc<Namespace>> {
    let mut namespaces = before.clone();
    for (gns, names) in again {
        let Some(namespace) = namespaces.get_mut(gns) else { continue };
        let now = |name: &Name| compiled.get(gns).and_then(|services| services.get(name));
        for name in names {
            if namespace.services.get(name).map(Arc::as_ptr) == now(name).map(Arc::as_ptr) {
                continue;
            }
            let services = &mut Arc::make_mut(namespace).services;
            match now(name) {
                Some(service) => drop(services.insert(name.clone(), service.clone())),
                None => drop(services.remove(name)),
            }
        }
    }
    namespaces
}

/// Whether the same GNSs are allowed in by these services, before and now.
fn opens_alike(before: &BTreeMap<Name, Arc<Namespace>>, now: &BTreeMap<Name, Arc<Namespace>>, again: &Again) -> bool {
    again.iter().flat_map(|(gns, names)| names.iter().map(move |name| (gns, name))).all(|(gns, name)| {
        let allowed = |namespaces: &BTreeMap<Name, Arc<Namespace>>| {
            let service: Option<&Arc<Service>> = namespaces.get(gns).and_then(|gns| gns.services.get(name));
            service.map(|service| service.allowed.clone()).unwrap_or_default()
        };
        allowed(before) == allowed(now)
    })
}

fn public_key((gns, name): Scoped<'_>) -> Key {
    Key::Resource(ResourceId::PublicService { global_namespace: gns.clone(), name: name.clone() })
}

fn written(resource: &Resource) -> Option<&PublicServiceSpec> {
    match &resource.spec {
        Spec::PublicService(spec) => Some(spec),
        _ => None,
    }
}

/// The hosts of which somebody's claim or certificate is another now. `changed` gets each public service that is, with
/// what was written and what is.
fn claimed_anew<'w>(
    world: &'w World,
    touched: &Touched<'w>,
    mut changed: impl FnMut(Scoped<'w>, Option<&PublicServiceSpec>, Option<&PublicServiceSpec>),
) -> BTreeSet<Host> {
    let mut hosts = BTreeSet::new();
    let names = |spec: &PublicServiceSpec| spec.hosts.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    for (of, (before, now)) in &touched.public_services {
        let (before, now) = (before.and_then(|before| written(before)), now.and_then(|now| written(now)));
        changed(*of, before, now);
        hosts.extend(before.into_iter().chain(now).flat_map(names));
    }
    for of in &touched.certified {
        if let Some(Fact::Resource(resource)) = world.facts.get(&public_key(*of).to_string()) {
            hosts.extend(written(resource).into_iter().flat_map(names));
        }
    }
    hosts
}

/// All that is written of the public services that changed or claim one of the hosts, with their certificates.
fn publishing<'w>(
    world: &'w World,
    touched: &Touched<'w>,
    (claims, hosts): (&Claims, &BTreeSet<Host>),
) -> Vec<(String, &'w Fact)> {
    let mut who: BTreeSet<Of> = hosts.iter().flat_map(|host| claims.of(host)).cloned().collect();
    who.extend(touched.public_services.keys().map(|(gns, name)| ((*gns).clone(), (*name).clone())));
    let mut keys = Vec::new();
    for (gns, name) in &who {
        let public = public_key((gns, name)).to_string();
        if let Some(Fact::Resource(resource)) = world.facts.get(&public)
            && let Some(spec) = written(resource)
            && let Some(CertificateSource::Uploaded(name)) = &spec.tls.certificate
        {
            let uploaded = ResourceId::Certificate { global_namespace: gns.clone(), name: name.clone() };
            keys.push(Key::Resource(uploaded).to_string());
        }
        let made = Key::HostCertificate { global_namespace: gns.clone(), public_service: name.clone() };
        keys.extend([public, made.to_string()]);
    }
    keys.into_iter().filter_map(|key| world.facts.get(&key).map(|fact| (key, fact))).collect()
}

/// The hosts with those that are held now in place of those that were claimed anew.
fn with_hosts(
    before: &Arc<HashMap<Host, Arc<PublicHost>>>,
    anew: &BTreeSet<Host>,
    held: Vec<(Host, Arc<PublicHost>)>,
) -> Arc<HashMap<Host, Arc<PublicHost>>> {
    let held: HashMap<Host, Arc<PublicHost>> = held.into_iter().collect();
    let mut hosts = before.clone();
    for gone in anew.iter().filter(|host| !held.contains_key(*host) && before.contains_key(*host)) {
        Arc::make_mut(&mut hosts).remove(gone);
    }
    for (name, host) in held {
        if before.get(&name).is_none_or(|before| !Arc::ptr_eq(before, &host)) {
            Arc::make_mut(&mut hosts).insert(name, host);
        }
    }
    hosts
}
