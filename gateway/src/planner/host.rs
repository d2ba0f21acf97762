//! The published hosts of a plan. A host is looked at when it changed, or a service to which it leads, or while it waits
//! for its key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use config::resource::{Host, Name};
use config::snapshot::{HostTls, PublicHost};
use config::wire::Rejection;
use decide::route::Routes;
use identity::KeyedCertificate;

use super::Build;
use super::service::{Change, Services};
use crate::plan::{HostServer, PlannedHost, PlannedRoute, PlannedService};

type Hosts = Arc<HashMap<Host, Arc<PlannedHost>>>;

/// Which hosts are to be looked at, and when.
#[derive(Clone, Default)]
pub(super) struct Leads {
    /// Of what the hosts were made.
    source: Arc<HashMap<Host, Arc<PublicHost>>>,
    /// GNS and service → the hosts that lead there, whether the service is known or not.
    to: BTreeMap<(Name, Name), Arc<BTreeSet<Host>>>,
    /// Hosts that are without the key of their certificate, or whose certificate cannot be used.
    waiting: BTreeSet<Host>,
}

impl Leads {
    /// The hosts that may be others than they were.
    fn look(&self, source: &Arc<HashMap<Host, Arc<PublicHost>>>, changes: &[Change]) -> BTreeSet<Host> {
        let mut look = self.waiting.clone();
        look.extend(
            changes.iter().filter_map(|change| self.to.get(&change.of)).flat_map(|hosts| hosts.iter().cloned()),
        );
        if !Arc::ptr_eq(&self.source, source) {
            look.extend(self.source.keys().filter(|name| !source.contains_key(*name)).cloned());
            let is_other = |(name, host): &(&Host, &Arc<PublicHost>)| {
                self.source.get(*name).is_none_or(|was| !Arc::ptr_eq(was, host))
            };
            look.extend(source.iter().filter(is_other).map(|(name, _)| name.clone()));
        }
        look
    }

    fn add(&mut self, name: &Host, host: &PlannedHost) {
        for to in leads_to(host) {
            Arc::make_mut(self.to.entry(to).or_default()).insert(name.clone());
        }
        if !host.is_settled() {
            self.waiting.insert(name.clone());
        }
    }

    fn remove(&mut self, name: &Host, host: &PlannedHost) {
        for to in leads_to(host) {
            let Some(hosts) = self.to.get_mut(&to) else { continue };
            Arc::make_mut(hosts).remove(name);
            if hosts.is_empty() {
                self.to.remove(&to);
            }
        }
        self.waiting.remove(name);
    }
}

fn leads_to(host: &PlannedHost) -> impl Iterator<Item = (Name, Name)> {
    let gns = &host.host.global_namespace;
    host.host.routes.iter().map(|route| (gns.clone(), route.service.clone()))
}

impl Build<'_> {
    /// The hosts, and when the next plan is to look at them.
    pub(super) fn hosts(
        &self,
        source: &Arc<HashMap<Host, Arc<PublicHost>>>,
        (services, changes): (&Services, &[Change]),
        rejected: &mut Vec<Rejection>,
    ) -> (Hosts, Arc<Leads>) {
        let (mut hosts, mut leads) = (self.previous.hosts.clone(), self.previous.kept.leads.clone());
        for name in leads.look(source, changes) {
            let before = self.previous.hosts.get(&name);
            let now = source.get(&name).map(|host| self.host(host, services.get(&host.global_namespace), rejected));
            if before.map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr) {
                continue;
            }
            let leads = Arc::make_mut(&mut leads);
            before.inspect(|before| leads.remove(&name, before));
            now.as_ref().inspect(|now| leads.add(&name, now));
            match now {
                Some(now) => drop(Arc::make_mut(&mut hosts).insert(name, now)),
                None => drop(Arc::make_mut(&mut hosts).remove(&name)),
            }
        }
        if !Arc::ptr_eq(&leads.source, source) {
            Arc::make_mut(&mut leads).source = source.clone();
        }
        (hosts, leads)
    }

    fn host(
        &self,
        host: &Arc<PublicHost>,
        services: Option<&BTreeMap<Name, Arc<PlannedService>>>,
        rejected: &mut Vec<Rejection>,
    ) -> Arc<PlannedHost> {
        let service = |name: &Name| services.and_then(|services| services.get(name));
        let before = self.previous.hosts.get(&host.host);
        if let Some(before) = before.filter(|before| before.is_still(host, service)) {
            return before.clone();
        }
        let routes = host.routes.iter().map(|route| PlannedRoute {
            path: route.path.clone(),
            service: service(&route.service).cloned(),
            port: route.port,
        });
        let tls = host.handshakes().and_then(|certificate| {
            let kept = before.and_then(|before| before.tls.clone());
            self.host_tls(certificate, kept.clone()).unwrap_or_else(|reason| {
                let reason = format!("the certificate of {} cannot be used: {reason}", host.host);
                rejected.push(Rejection { key: host.public_service.to_string(), reason });
                kept
            })
        });
        let routes = Routes::new(routes.collect(), PlannedRoute::pattern);
        Arc::new(PlannedHost { host: host.clone(), tls, routes })
    }

    /// The old certificate goes on serving until the new one's key is here, so that none of the two is ever missing.
    fn host_tls(&self, certificate: &Arc<HostTls>, kept: Option<HostServer>) -> Result<Option<HostServer>, String> {
        if kept.as_ref().is_some_and(|kept| kept.source == *certificate) {
            return Ok(kept);
        }
        let Some(key) = self.secrets.get(&certificate.secret_ref) else { return Ok(kept) };
        let keyed = KeyedCertificate::from_pem(&certificate.chain, key.pem()).map_err(|error| error.to_string())?;
        let config = Arc::new(self.public.server(&keyed).map_err(|error| error.to_string())?);
        Ok(Some(HostServer { source: certificate.clone(), config }))
    }
}
