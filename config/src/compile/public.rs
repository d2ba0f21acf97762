//! The hosts that are published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hosts::Reservations;
use crate::resource::{
    CertificateSource, Host, HostEntry, Name, PublicServiceSpec, ResourceId, RoutePath, SecretRef, TlsMode,
};
use crate::snapshot::{HostRoute, HostTls, Namespace, PublicHost, Snapshot};

use super::known::{Known, PublicService};
use super::rejected::{Rejected, rejection};
use super::{Frame, Of, shared};

/// Who claims which host, of all who may have it. Public services of every GNS take part, so that all places agree about
/// the holder.
#[derive(Default)]
pub(super) struct Claims(BTreeSet<(Host, Option<Of>)>);

impl Claims {
    /// Takes the claims of a public service. A host that is kept for another GNS, or not among those of its own, isn't
    /// claimed.
    pub(super) fn add(
        &mut self,
        reservations: &Reservations<'_>,
        (gns, name): (&Name, &Name),
        spec: &PublicServiceSpec,
    ) {
        let allowed = spec.hosts.iter().filter(|entry| reservations.allow(gns, &entry.name).is_ok());
        self.0.extend(allowed.map(|entry| claim(&entry.name, (gns, name))));
    }

    /// Takes the claims of a public service back.
    pub(super) fn remove(&mut self, (gns, name): (&Name, &Name), spec: &PublicServiceSpec) {
        for entry in &spec.hosts {
            self.0.remove(&claim(&entry.name, (gns, name)));
        }
    }

    /// Who claims the host: the first, by identity, holds it.
    pub(super) fn of(&self, host: &Host) -> impl Iterator<Item = &Of> {
        // Nobody comes before everybody.
        let from = self.0.range((host.clone(), None)..);
        from.take_while(move |(claimed, _)| claimed == host).filter_map(|(_, by)| by.as_ref())
    }

    fn holder(&self, host: &Host) -> Option<(&Name, &Name)> {
        self.of(host).next().map(|(gns, name)| (gns, name))
    }

    fn has(&self, host: &Host, public: (&Name, &Name)) -> bool {
        self.0.contains(&claim(host, public))
    }
}

fn claim(host: &Host, (gns, name): (&Name, &Name)) -> (Host, Option<Of>) {
    (host.clone(), Some((gns.clone(), name.clone())))
}

/// The hosts that the known public services hold. What is said of these in `rejected` is said anew.
pub(super) fn compile(
    frame: &Frame<'_>,
    (claims, reservations): (&Claims, &Reservations<'_>),
    namespaces: &BTreeMap<Name, Arc<Namespace>>,
    previous: Option<&Snapshot>,
    rejected: &mut Rejected,
) -> Vec<(Host, Arc<PublicHost>)> {
    let mut hosts = Vec::new();
    for (of @ (gns, name), public) in &frame.known.public_services {
        let is_member = namespaces.get(*gns).is_some_and(|gns| !gns.visited);
        let mut reasons = Vec::new();
        for entry in &public.spec.hosts {
            match without(entry, (gns, name), claims, reservations) {
                Some(reason) => reasons.push(rejection(&public.resource.id, reason)),
                None if is_member => hosts.push((entry.name.clone(), host(frame, *of, (public, entry), previous))),
                None => {}
            }
        }
        rejected.of_public_service((gns, name), reasons);
    }
    hosts
}

/// Why the public service doesn't have the host, unless it does.
fn without(entry: &HostEntry, of: (&Name, &Name), claims: &Claims, reservations: &Reservations<'_>) -> Option<String> {
    if !claims.has(&entry.name, of) {
        return reservations.allow(of.0, &entry.name).err().map(|reserved| reserved.to_string());
    }
    let (gns, name) = claims.holder(&entry.name).filter(|holder| *holder != of)?;
    let holder = ResourceId::PublicService { global_namespace: gns.clone(), name: name.clone() };
    Some(format!("its host {} is held by {holder}", entry.name))
}

fn host(
    frame: &Frame<'_>,
    (gns, name): (&Name, &Name),
    (public, entry): (&PublicService<'_>, &HostEntry),
    previous: Option<&Snapshot>,
) -> Arc<PublicHost> {
    let old = previous.and_then(|previous| previous.public_hosts.get(&entry.name));
    let certificate = certificate(&frame.known, (gns, name), public.spec);
    let host = PublicHost {
        host: entry.name.clone(),
        global_namespace: gns.clone(),
        public_service: public.resource.id.clone(),
        mode: public.spec.tls.mode,
        certificate: certificate.map(|tls| shared(tls, old.and_then(|old| old.certificate.as_ref()))),
        scheme: entry.scheme.clone(),
        ttl: entry.ttl,
        routes: routes(public.spec),
        service_info: public.spec.service_info,
    };
    shared(host, old)
}

/// The certificate, when there is one and its key is somewhere.
fn certificate(known: &Known<'_>, (gns, name): (&Name, &Name), spec: &PublicServiceSpec) -> Option<HostTls> {
    if matches!(spec.tls.mode, TlsMode::Http | TlsMode::Passthrough) {
        return None;
    }
    let tls =
        |chain: &Arc<str>, secret_ref: &SecretRef| HostTls { chain: chain.clone(), secret_ref: secret_ref.clone() };
    match spec.tls.certificate.as_ref()? {
        CertificateSource::Uploaded(name) => {
            let uploaded = known.certificates.get(&(gns, name))?;
            Some(tls(&uploaded.certificate, uploaded.secret_ref.as_ref()?))
        }
        CertificateSource::SelfSigned => {
            let made = known.host_certificates.get(&(gns, name))?;
            Some(tls(&made.chain, &made.secret_ref))
        }
    }
}

/// Exact paths first, then the longest prefix first; last what takes everything.
fn routes(spec: &PublicServiceSpec) -> Vec<HostRoute> {
    let everything = || RoutePath::PathPrefix("/".to_owned());
    let written = spec.routes.iter().map(|route| HostRoute {
        path: route.path.clone(),
        service: route.service.clone(),
        port: route.port,
    });
    let mut routes = Vec::with_capacity(spec.routes.len() + 1);
    routes.extend(written);
    if !routes.iter().any(|route| route.path == everything()) {
        routes.push(HostRoute { path: everything(), service: spec.service.clone(), port: spec.port });
    }
    // The sort is stable: of two routes for one path the first written counts.
    routes.sort_by_key(|route| match &route.path {
        RoutePath::Path(_) => (0, 0),
        RoutePath::PathPrefix(prefix) => (1, usize::MAX - prefix.len()),
    });
    routes
}
