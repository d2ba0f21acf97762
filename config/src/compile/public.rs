//! The hosts that are published.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hosts::Reservations;
use crate::resource::{
    CertificateSource, Host, HostEntry, Name, PublicServiceSpec, ResourceId, RoutePath, SecretRef, TlsMode,
};
use crate::snapshot::{HostRoute, HostTls, Namespace, PublicHost, Snapshot};

use super::known::Known;
use super::{Rejected, shared};

/// A public service and its identity, in parts too.
#[derive(Clone, Copy)]
struct Public<'w> {
    gns: &'w Name,
    name: &'w Name,
    id: &'w ResourceId,
    spec: &'w PublicServiceSpec,
}

pub(super) fn compile(
    known: &Known<'_>,
    namespaces: &BTreeMap<Name, Arc<Namespace>>,
    previous: Option<&Snapshot>,
    rejected: &mut Rejected,
) -> HashMap<Host, Arc<PublicHost>> {
    let is_member = |gns: &Name| namespaces.get(gns).is_some_and(|gns| !gns.visited);
    let held = held(known, rejected).into_iter().filter(|(_, (public, _))| is_member(public.gns));
    held.map(|(host, (public, entry))| {
        let old = previous.and_then(|previous| previous.public_hosts.get(host));
        let certificate = certificate(known, public).map(|tls| shared(tls, old.and_then(|o| o.certificate.as_ref())));
        (host.clone(), shared(public_host(public, entry, certificate), old))
    })
    .collect()
}

/// Who holds each host: the first public service, by identity, that claims it. Public services of every GNS take part,
/// so that all places agree about the holder.
fn held<'w>(known: &Known<'w>, rejected: &mut Rejected) -> BTreeMap<&'w Host, (Public<'w>, &'w HostEntry)> {
    let mut held: BTreeMap<&Host, (Public<'_>, &HostEntry)> = BTreeMap::new();
    let reservations = Reservations::of(known.global_namespaces.iter().map(|(name, spec)| (*name, *spec)));
    for ((gns, name), (id, spec)) in &known.public_services {
        for entry in &spec.hosts {
            if let Err(reserved) = reservations.allow(gns, &entry.name) {
                rejected.add(id, reserved.to_string());
                continue;
            }
            match held.get(&entry.name) {
                Some((holder, _)) if holder.id != *id => {
                    rejected.add(id, format!("its host {} is held by {}", entry.name, holder.id));
                }
                Some(_) => {}
                None => {
                    held.insert(&entry.name, (Public { gns, name, id, spec }, entry));
                }
            }
        }
    }
    held
}

fn public_host(public: Public<'_>, entry: &HostEntry, certificate: Option<Arc<HostTls>>) -> PublicHost {
    PublicHost {
        host: entry.name.clone(),
        global_namespace: public.gns.clone(),
        public_service: public.id.clone(),
        mode: public.spec.tls.mode,
        certificate,
        scheme: entry.scheme.clone(),
        ttl: entry.ttl,
        routes: routes(public.spec),
        service_info: public.spec.service_info,
    }
}

/// The certificate, when there is one and its key is somewhere.
fn certificate(known: &Known<'_>, public: Public<'_>) -> Option<HostTls> {
    if matches!(public.spec.tls.mode, TlsMode::Http | TlsMode::Passthrough) {
        return None;
    }
    let tls =
        |chain: &Arc<str>, secret_ref: &SecretRef| HostTls { chain: chain.clone(), secret_ref: secret_ref.clone() };
    match public.spec.tls.certificate.as_ref()? {
        CertificateSource::Uploaded(name) => {
            let uploaded = known.certificates.get(&(public.gns, name))?;
            Some(tls(&uploaded.certificate, uploaded.secret_ref.as_ref()?))
        }
        CertificateSource::SelfSigned => {
            let made = known.host_certificates.get(&(public.gns, public.name))?;
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
