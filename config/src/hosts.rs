//! Which GNS may publish which host.

use std::collections::BTreeMap;

use crate::resource::{GlobalNamespaceSpec, Host, HostPattern, Name};

/// The hosts that each GNS keeps for itself.
///
/// A pattern covers names of exactly one label more than it has, so a host is covered by its own name and by one
/// wildcard at most. Its own name counts more: so a GNS can be given one host out of another's wildcard.
pub struct Reservations<'w> {
    patterns: BTreeMap<&'w HostPattern, &'w Name>,
    reserving: BTreeMap<&'w Name, bool>,
}

/// Why a GNS may not publish a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// Another GNS keeps it.
    #[error("{host} is kept for GlobalNamespace/{holder}, whose publicHosts have {pattern}")]
    Elsewhere {
        /// The host.
        host: Host,
        /// Who keeps it.
        holder: Name,
        /// By which pattern.
        pattern: HostPattern,
    },
    /// The GNS says which hosts it publishes, and this isn't one.
    #[error("{host} is covered by none of the publicHosts of GlobalNamespace/{global_namespace}")]
    NotOwn {
        /// The host.
        host: Host,
        /// The GNS.
        global_namespace: Name,
    },
}

impl<'w> Reservations<'w> {
    /// Collects the patterns. Of two GNSs with the same one the first by name holds it.
    pub fn of(global_namespaces: impl Iterator<Item = (&'w Name, &'w GlobalNamespaceSpec)>) -> Self {
        let mut sorted: Vec<_> = global_namespaces.collect();
        sorted.sort_by_key(|(name, _)| *name);
        let (mut patterns, mut reserving) = (BTreeMap::new(), BTreeMap::new());
        for (name, spec) in sorted {
            reserving.insert(name, !spec.public_hosts.is_empty());
            for pattern in &spec.public_hosts {
                patterns.entry(pattern).or_insert(name);
            }
        }
        Reservations { patterns, reserving }
    }

    /// Who holds exactly this pattern.
    pub fn holder(&self, pattern: &HostPattern) -> Option<&'w Name> {
        self.patterns.get(pattern).copied()
    }

    /// Whether the GNS may publish the host: when its own patterns cover it best, or when nobody's cover it and it has
    /// none.
    pub fn allow(&self, global_namespace: &Name, host: &Host) -> Result<(), Reserved> {
        match self.best(host) {
            Some((_, holder)) if holder == global_namespace => Ok(()),
            Some((pattern, holder)) => {
                Err(Reserved::Elsewhere { host: host.clone(), holder: holder.clone(), pattern: pattern.clone() })
            }
            None if self.reserving.get(global_namespace) == Some(&true) => {
                Err(Reserved::NotOwn { host: host.clone(), global_namespace: global_namespace.clone() })
            }
            None => Ok(()),
        }
    }

    fn best(&self, host: &Host) -> Option<(&'w HostPattern, &'w Name)> {
        let exact = HostPattern::Exact(host.clone());
        let above = host.as_str().split_once('.').and_then(|(_, above)| above.parse().ok());
        let candidates = [Some(exact), above.map(HostPattern::Wildcard)].into_iter().flatten();
        candidates.filter_map(|pattern| self.patterns.get_key_value(&pattern)).map(|(p, n)| (*p, *n)).next()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_is_its_closest_patterns() {
        let spec = |hosts: &[&str]| serde_json::from_value(json!({"domain": "a.b", "publicHosts": hosts})).unwrap();
        let names: Vec<Name> = ["free", "one", "wild"].map(|name| name.parse().unwrap()).into();
        let specs: [GlobalNamespaceSpec; 3] =
            [spec(&[]), spec(&["api.example.com", "*.one.org"]), spec(&["*.example.com"])];
        let reservations = Reservations::of(names.iter().zip(&specs));
        let allowed = |gns: usize, host: &str| {
            names.get(gns).is_some_and(|gns| reservations.allow(gns, &host.parse().unwrap()).is_ok())
        };
        assert!(allowed(1, "api.example.com") && !allowed(2, "api.example.com") && !allowed(0, "api.example.com"));
        assert!(allowed(2, "www.example.com") && !allowed(1, "www.example.com") && !allowed(0, "www.example.com"));
        assert!(allowed(0, "a.www.example.com") && !allowed(2, "a.www.example.com"));
        assert!(allowed(0, "elsewhere.org") && !allowed(1, "elsewhere.org"));
    }
}
