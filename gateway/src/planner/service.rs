//! The services of a plan. A service that changed takes over every instance that is still where it was.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use config::keyed::beside;
use config::resource::{Host, Name, Port};
use config::snapshot::{Endpoint, Service, Snapshot, Version};
use decide::balance::Cursor;
use decide::retry::Budget;
use http::HeaderValue;

use super::{Build, tls};
use crate::health::{Changes, InstanceHealth, Target};
use crate::plan::{Crossing, Own, PlannedPort, PlannedService, Pool, Secured, UNCOUNTED};
use crate::tunnel::metadata;
use crate::upstream::secure::Security;

/// Where services run that are planned.
struct Here<'a> {
    cluster: &'a Name,
    /// Their GNS's.
    domain: &'a Host,
    /// In whose name the gateway speaks there.
    own: Option<&'a Arc<Own>>,
}

/// GNS → service.
pub(super) type Services = BTreeMap<Name, BTreeMap<Name, Arc<PlannedService>>>;

/// A service that is another one in the new plan, or only in one of the two.
pub(super) struct Change {
    /// Its GNS and its name.
    pub(super) of: (Name, Name),
    pub(super) before: Option<Arc<PlannedService>>,
    pub(super) now: Option<Arc<PlannedService>>,
}

impl Build<'_> {
    /// The services of all GNSs, and which of them are others than before.
    pub(super) fn services(&self, snapshot: &Snapshot, own: &BTreeMap<Name, Arc<Own>>) -> (Services, Vec<Change>) {
        let (mut services, mut changes) = (Services::new(), Vec::new());
        for (gns, before, namespace) in beside(self.previous.services.iter(), snapshot.namespaces.iter()) {
            let cluster = &snapshot.place.cluster;
            let here = namespace.map(|namespace| Here { cluster, domain: &namespace.domain, own: own.get(gns) });
            let (before, now) = (before.into_iter().flatten(), namespace.into_iter().flat_map(|gns| &gns.services));
            let planned = beside(before, now).filter_map(|(name, before, service)| {
                let now = service.zip(here.as_ref()).map(|(service, here)| self.service(service, before, here));
                if before.map(Arc::as_ptr) != now.as_ref().map(Arc::as_ptr) {
                    let of = (gns.clone(), name.clone());
                    changes.push(Change { of, before: before.cloned(), now: now.clone() });
                }
                Some((name.clone(), now?))
            });
            let planned: BTreeMap<_, _> = planned.collect();
            if namespace.is_some() {
                services.insert(gns.clone(), planned);
            }
        }
        (services, changes)
    }

    fn service(
        &self,
        service: &Arc<Service>,
        before: Option<&Arc<PlannedService>>,
        here: &Here<'_>,
    ) -> Arc<PlannedService> {
        if let Some(before) = before.filter(|before| before.service == *service && before.speaks_as(here.own)) {
            return before.clone();
        }
        let before = before.map(Arc::as_ref);
        let changes = before.map(|before| before.changes.clone()).unwrap_or_default();
        let gateways = service.remote.keys().map(|cluster| {
            let cursor = before.and_then(|before| before.gateways.get(cluster)).cloned();
            (cluster.clone(), cursor.unwrap_or_else(fresh_cursor))
        });
        let secured = self.secured(service, before, here);
        Arc::new(PlannedService {
            gateways: gateways.collect(),
            ports: self.ports(service, before, (&changes, secured.as_ref()), here.cluster),
            secured,
            service: service.clone(),
            name: metadata::value(&service.name),
            clusters: before.map(|before| before.clusters.clone()).unwrap_or_default(),
            budget: before.map_or_else(|| Arc::new(Budget::new(Instant::now())), |b| b.budget.clone()),
            panic: before.map(|before| before.panic.clone()).unwrap_or_default(),
            metrics: before.map_or_else(
                || Arc::new(self.metrics.service(&service.global_namespace, &service.name)),
                |b| b.metrics.clone(),
            ),
            changes,
            counted: AtomicU64::new(UNCOUNTED),
        })
    }

    /// How the instances are dialled that want mutual TLS. What was made in the same name before stays, and with it the
    /// connections.
    fn secured(&self, service: &Service, before: Option<&PlannedService>, here: &Here<'_>) -> Option<Secured> {
        let before = before.filter(|before| before.speaks_as(here.own)).and_then(|before| before.secured.as_ref());
        let mut by_namespace: BTreeMap<Name, Security> = BTreeMap::new();
        let instances = service.versions.values().flat_map(|version| &version.instances);
        for namespace in instances.filter_map(|endpoint| endpoint.tls.as_ref()) {
            if by_namespace.contains_key(namespace) {
                continue;
            }
            let kept = before.and_then(|before| before.by_namespace.get(namespace)).cloned();
            let made = || match here.own {
                Some(own) => {
                    let server_name = format!("{}.{}", service.name, here.domain);
                    let who = (namespace, &service.name);
                    tls::instances(self.pools.number(), own, who, &server_name, here.cluster)
                }
                None => Security::Missing,
            };
            by_namespace.insert(namespace.clone(), kept.unwrap_or_else(made));
        }
        (!by_namespace.is_empty()).then(|| Secured { own: here.own.cloned(), by_namespace })
    }

    fn ports(
        &self,
        service: &Service,
        before: Option<&PlannedService>,
        (changes, secured): (&Changes, Option<&Secured>),
        own: &Name,
    ) -> BTreeMap<u16, PlannedPort> {
        let versions = service.versions.values().map(|version| {
            let placed = Placed::of(before, version);
            let healths = version.instances.iter().enumerate().map(|(at, endpoint)| {
                let kept = placed.index(at, endpoint).and_then(|index| placed.health(index, service));
                let health = kept.unwrap_or_else(|| Arc::new(InstanceHealth::new(&service.health_check, changes)));
                let security = security(endpoint, secured);
                self.checker.watch(&health, service, &version.name, (endpoint, &security));
                (health, security)
            });
            let healths: Vec<_> = healths.collect();
            (version, placed, healths)
        });
        let versions: Vec<_> = versions.collect();
        let port = |port: &Port| {
            let planned = self.port(port, &versions, before, changes, own);
            let crossing = (!service.allowed.is_empty()).then(|| crossing(&planned, changes));
            (port.port, PlannedPort { crossing, ..planned })
        };
        service.ports.iter().map(port).collect()
    }

    fn port(
        &self,
        port: &Port,
        versions: &[Healths<'_>],
        before: Option<&PlannedService>,
        changes: &Changes,
        own: &Name,
    ) -> PlannedPort {
        let before = before.and_then(|before| before.ports.get(&port.port));
        let (mut all, mut pools) = (Vec::new(), BTreeMap::new());
        for (version, placed, healths) in versions {
            let instances = version.instances.iter().zip(healths).enumerate();
            let targets = instances.map(|(at, (endpoint, (health, security)))| {
                let kept = placed.index(at, endpoint).and_then(|index| kept(before?, version, index));
                let same = kept.filter(|kept| kept.protocol == port.protocol && Arc::ptr_eq(&kept.health, health));
                let same = same.filter(|kept| {
                    let connections = &kept.connections;
                    connections.address == endpoint.socket(port) && connections.security.number() == security.number()
                });
                let whom = (endpoint, health, security);
                same.cloned().unwrap_or_else(|| Arc::new(self.target(port, version, whom, own)))
            });
            let targets: Vec<_> = targets.collect();
            all.extend(targets.iter().cloned());
            let cursor = before.and_then(|before| Some(before.versions.get(&version.name)?.cursor.clone()));
            let cursor = cursor.unwrap_or_else(fresh_cursor);
            pools.insert(version.name.clone(), Pool::new(targets, cursor, changes.clone()));
        }
        let cursor = before.map_or_else(fresh_cursor, |before| before.all.cursor.clone());
        let (protocol, proxy_header) = (port.protocol, port.proxy_protocol.is_some());
        let all = Pool::new(all, cursor, changes.clone());
        PlannedPort { protocol, proxy_header, all, versions: pools, crossing: None }
    }

    fn target(
        &self,
        port: &Port,
        version: &Version,
        (endpoint, health, security): (&Endpoint, &Arc<InstanceHealth>, &Security),
        own: &Name,
    ) -> Target {
        let socket = endpoint.socket(port);
        let served_by = HeaderValue::from_str(&format!("{own}/{}/{socket}", version.name));
        Target {
            version: version.name.clone(),
            protocol: port.protocol,
            // Names and socket addresses are plain ASCII.
            served_by: served_by.unwrap_or_else(|_| HeaderValue::from_static("unprintable")),
            connections: self.pools.of(socket, security),
            health: health.clone(),
        }
    }
}

/// A version, where its instances were before, and how they are and are spoken to.
type Healths<'a> = (&'a Arc<Version>, Placed<'a>, Vec<(Arc<InstanceHealth>, Security)>);

impl PlannedService {
    /// Whether its instances are dialled in this name, as far as that matters.
    fn speaks_as(&self, own: Option<&Arc<Own>>) -> bool {
        let same = |secured: &Secured| secured.own.as_ref().map(Arc::as_ptr) == own.map(Arc::as_ptr);
        self.secured.as_ref().is_none_or(same)
    }
}

fn security(endpoint: &Endpoint, secured: Option<&Secured>) -> Security {
    match &endpoint.tls {
        None => Security::Plain,
        Some(namespace) => {
            let known = secured.and_then(|secured| secured.by_namespace.get(namespace));
            known.cloned().unwrap_or(Security::Missing)
        }
    }
}

/// Of a port's instances those that speak mutual TLS.
fn crossing(port: &PlannedPort, changes: &Changes) -> Crossing {
    let of = |pool: &Pool| {
        let mutual = pool.targets.iter().filter(|target| target.connections.security.is_mutual());
        Pool::new(mutual.cloned().collect(), pool.cursor.clone(), changes.clone())
    };
    let versions = port.versions.iter().map(|(name, pool)| (name.clone(), of(pool)));
    Crossing { all: of(&port.all), versions: versions.collect() }
}

/// A port's instance of that index among those of the version.
fn kept<'p>(port: &'p PlannedPort, version: &Version, index: usize) -> Option<&'p Arc<Target>> {
    port.versions.get(&version.name)?.targets.get(index)
}

/// Where it is says which instance it is: its weight and its node may change.
type Place = (IpAddr, Option<u16>);

fn place(endpoint: &Endpoint) -> Place {
    (endpoint.address, endpoint.port)
}

/// Which instances a version had before, and how they are. The targets of each port stand in the same order.
struct Placed<'p> {
    service: Option<&'p Service>,
    instances: &'p [Endpoint],
    targets: &'p [Arc<Target>],
    /// Made only when an instance stands elsewhere in the list than it stood.
    by_place: OnceCell<HashMap<Place, usize>>,
}

impl<'p> Placed<'p> {
    fn of(before: Option<&'p PlannedService>, version: &Version) -> Self {
        let found = before.and_then(|before| {
            let instances = before.service.versions.get(&version.name)?.instances.as_slice();
            let targets = before.ports.values().next()?.versions.get(&version.name)?.targets.as_slice();
            Some((instances, targets))
        });
        let (instances, targets) = found.unwrap_or_default();
        Placed { service: before.map(|before| &*before.service), instances, targets, by_place: OnceCell::new() }
    }

    /// Which one the endpoint was, that now stands at this index. Most stand where they stood.
    fn index(&self, at: usize, endpoint: &Endpoint) -> Option<usize> {
        if self.instances.get(at).is_some_and(|before| place(before) == place(endpoint)) {
            return Some(at);
        }
        let places = || self.instances.iter().enumerate().map(|(at, endpoint)| (place(endpoint), at)).collect();
        self.by_place.get_or_init(places).get(&place(endpoint)).copied()
    }

    /// Nothing when it is checked in another way now: what was found the old way says nothing.
    fn health(&self, index: usize, service: &Service) -> Option<Arc<InstanceHealth>> {
        self.service.filter(|before| before.health_check == service.health_check)?;
        self.targets.get(index).map(|target| target.health.clone())
    }
}

fn fresh_cursor() -> Arc<Cursor> {
    Arc::new(Cursor::random())
}
