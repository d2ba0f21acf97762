//! What is wrong with a resource whatever else exists: ranges, contradictions, and what isn't supported yet.
//!
//! People's manifests are refused for it; what arrives another way is refused by [`compile`](crate::compile) for its
//! own scope.

mod access_policy;
mod certificate;
mod cluster;
mod global_namespace;
mod health_check;
mod public_service;
mod service;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::resource::{Host, Resource, Spec};

/// One thing that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `spec.hosts[0].name`.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Fault {
    /// What is wrong and what to do, without the place.
    pub fn message(&self) -> String {
        format!("{}; {}", self.what, self.remedy)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Everything that is wrong with the resource by itself.
pub fn faults(resource: &Resource) -> Vec<Fault> {
    let mut faults = Faults::default();
    match &resource.spec {
        Spec::Cluster(spec) => cluster::check(spec, &mut faults),
        Spec::Node(_) => {}
        Spec::Service(spec) => service::check(spec, &mut faults),
        Spec::GlobalNamespace(spec) => global_namespace::check(spec, &mut faults),
        Spec::PublicService(spec) => public_service::check(spec, &mut faults),
        Spec::Certificate(spec) => certificate::check(spec, &mut faults),
        Spec::AccessPolicy(spec) => access_policy::check(spec, &mut faults),
    }
    faults.0
}

/// Collects faults. Paths become text only for a fault: nearly every resource has none, and each is looked at whenever a
/// world is compiled.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: impl fmt::Display, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Fault { path: path.to_string(), what: what.into(), remedy: remedy.into() });
    }

    fn unsupported(&mut self, path: impl fmt::Display, what: impl fmt::Display, remedy: impl Into<String>) {
        self.add(path, format!("{what} is not supported yet"), remedy);
    }

    /// Names every value that stands a second time. `path` makes the place of the value of that index.
    fn doubles<T: Ord + fmt::Display>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        path: impl Fn(usize) -> String,
        remedy: &str,
    ) {
        let mut seen = BTreeSet::new();
        for (index, value) in values.into_iter().enumerate() {
            if let Some(double) = seen.replace(value) {
                self.add(path(index), format!("{double} stands here a second time"), remedy);
            }
        }
    }

    fn port(&mut self, path: impl fmt::Display, port: u16) {
        if port == 0 {
            self.add(path, "0 is not a port", "write a number from 1 to 65535");
        }
    }

    fn address(&mut self, path: impl fmt::Display, address: IpAddr) {
        if address.is_unspecified() || address.is_multicast() {
            self.add(path, format!("{address} is not the address of one machine"), "write the address to be dialled");
        }
    }

    /// A host whose last label is a number would be taken for an IPv4 address (RFC 1123 section 2.1).
    fn not_numeric(&mut self, path: impl fmt::Display, host: &Host) {
        let last = host.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            self.add(
                path,
                format!("{host} looks like an IP address"),
                "write a host name whose last part is no number",
            );
        }
    }
}
