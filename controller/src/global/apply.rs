//! From what people write to a revision, or to every reason why there is none. Changes nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use config::check::check;
use config::manifest::{Defaults, Manifest, from_json};
use config::resource::{CertificateSource, CertificateSpec, Host, Resource, ResourceId, SecretRef, Spec};
use config::validate::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::error::Error;
use super::view::{View, certificates, public_services};
use crate::access::{Edit, Permit};
use crate::ca::{check_upload, covers, lifetimes};
use crate::http::message::ErrorItem;
use crate::store::{Desired, Owner, Revision};

/// Manifests to be applied, all or none. Has no `Debug`: keys may stand in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// The manifests as JSON.
    pub manifests: Vec<Value>,
    /// Check and tell, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who writes: `api` unless said otherwise, or `file`.
    #[serde(default)]
    pub managed_by: Option<String>,
    /// The manifests are all that this writer wants; what else it wrote before is removed. For `file` only.
    #[serde(default)]
    pub prune: bool,
}

/// What applying did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision in which all of it counts.
    pub revision: u64,
    /// What became of each resource.
    pub results: Vec<Outcome>,
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The resource.
    pub id: ResourceId,
    /// What became of it.
    pub action: Action,
}

/// What applying does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It wasn't there.
    Created,
    /// It was there, and different.
    Changed,
    /// It was there as it is wanted.
    Unchanged,
    /// It was there, and this writer no longer wants it.
    Removed,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Created => "created",
            Action::Changed => "changed",
            Action::Unchanged => "unchanged",
            Action::Removed => "removed",
        })
    }
}

/// A batch that may be applied.
pub(super) struct Plan {
    pub(super) revision: Revision,
    pub(super) results: Vec<Outcome>,
    /// Keys for the vault.
    pub(super) keys: Vec<(SecretRef, Zeroizing<String>)>,
}

impl Plan {
    /// Whether everything is as wanted already.
    pub(super) fn is_empty(&self) -> bool {
        self.revision.upserts.is_empty() && self.revision.removals.is_empty()
    }
}

/// Where the keys of certificates are that came without.
pub(super) type Keys<'k> = &'k dyn Fn(&SecretRef) -> Option<Zeroizing<String>>;

/// Plans a batch on what is known now.
///
/// # Errors
/// Every reason why it is refused.
pub(super) fn plan(
    view: &View,
    permit: &Permit<Edit>,
    apply: Apply,
    keys: Keys<'_>,
    now: OffsetDateTime,
) -> Result<Plan, Error> {
    let owner = writer(&apply).map_err(Error::Invalid)?;
    let parsed = from_json(apply.manifests, "manifests", &Defaults::default());
    let manifests = parsed.map_err(|errors| Error::Invalid(items(errors)))?;
    authorize(permit, &manifests, apply.prune)?;
    let mut batch = Batch { view, owner, now, keys, errors: Vec::new(), upserts: Vec::new(), uploads: Vec::new() };
    manifests.into_iter().for_each(|manifest| batch.add(manifest));
    let removals = if apply.prune { batch.unwanted() } else { Vec::new() };
    batch.check(&removals);
    if batch.errors.is_empty() { Ok(batch.finish(removals)) } else { Err(Error::Invalid(batch.errors)) }
}

/// Before anything is compared with what exists: whoever may not write a resource isn't told what it contradicts.
fn authorize(permit: &Permit<Edit>, manifests: &[Manifest], prune: bool) -> Result<(), Error> {
    let mut errors: Vec<ErrorItem> = Vec::new();
    for Manifest { resource, .. } in manifests {
        if let Err(forbidden) = permit.allows(&resource.id) {
            let (id, message) = (Some(resource.id.to_string()), forbidden.to_string());
            errors.push(ErrorItem { id, path: String::new(), message });
        }
    }
    if prune && !permit.is_unlimited() {
        let message = "whoever is limited to global namespaces may not prune: apply without it".to_owned();
        errors.push(ErrorItem { id: None, path: "prune".to_owned(), message });
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::NotAllowed(errors)) }
}

fn writer(apply: &Apply) -> Result<Owner, Vec<ErrorItem>> {
    let refuse = |path: &str, message: String| vec![ErrorItem { id: None, path: path.to_owned(), message }];
    let owner = apply.managed_by.as_deref().unwrap_or("api").parse();
    match owner.map_err(|error| refuse("managedBy", format!("{error}")))? {
        Owner::File => Ok(Owner::File),
        _ if apply.prune => Err(refuse("prune", "only a writer with managedBy file may prune".to_owned())),
        owner => Ok(owner),
    }
}

fn items(errors: Vec<config::manifest::ManifestError>) -> Vec<ErrorItem> {
    let item = |error: config::manifest::ManifestError| match error.id {
        Some(id) => item(&id, error.fault),
        None => ErrorItem {
            path: format!("{} {}", error.source, error.fault.path).trim().to_owned(),
            ..sentence(error.fault)
        },
    };
    errors.into_iter().map(item).collect()
}

fn item(id: &ResourceId, fault: Fault) -> ErrorItem {
    ErrorItem { id: Some(id.to_string()), ..sentence(fault) }
}

fn sentence(Fault { path, what, remedy }: Fault) -> ErrorItem {
    ErrorItem { id: None, path, message: format!("{what}; {remedy}") }
}

/// Why this writer may not write or remove that resource, if so.
pub(super) fn refusal(view: &View, id: &ResourceId, writer: Owner) -> Option<ErrorItem> {
    let refuse = |message| Some(ErrorItem { id: Some(id.to_string()), path: String::new(), message });
    match (id, view.desired.resources.get(id).map(|stored| stored.managed_by)) {
        (ResourceId::Service { cluster, .. } | ResourceId::Node { cluster, .. }, _) => refuse(format!(
            "it belongs to its cluster: write it into the directory that the agent of {cluster} reads (--services)"
        )),
        (_, Some(owner)) if !owner.yields_to(writer) => {
            refuse(format!("it is managed by {owner}, so {writer} may not write it: change it where it is managed"))
        }
        _ => None,
    }
}

struct Batch<'b> {
    view: &'b View,
    owner: Owner,
    now: OffsetDateTime,
    keys: Keys<'b>,
    errors: Vec<ErrorItem>,
    upserts: Vec<Arc<Resource>>,
    uploads: Vec<(SecretRef, Zeroizing<String>)>,
}

impl Batch<'_> {
    fn blame(&mut self, id: &ResourceId, path: &str, message: impl Into<String>) {
        self.errors.push(ErrorItem { id: Some(id.to_string()), path: path.to_owned(), message: message.into() });
    }

    fn add(&mut self, manifest: Manifest) {
        let Manifest { mut resource, key, .. } = manifest;
        self.errors.extend(refusal(self.view, &resource.id, self.owner));
        match &mut resource.spec {
            Spec::Certificate(spec) => self.upload(&resource.id, spec, key.map(|key| key.into_pem())),
            Spec::GlobalNamespace(spec) => {
                if let Err(error) = lifetimes(&spec.certificates) {
                    self.blame(&resource.id, "spec.certificates", error.to_string());
                }
            }
            _ => {}
        }
        self.upserts.push(Arc::new(resource));
    }

    /// Leaves the reference in place of the key. A certificate may come without its key when the vault has it already.
    fn upload(&mut self, id: &ResourceId, spec: &mut CertificateSpec, uploaded: Option<Zeroizing<String>>) {
        let reference = spec.secret_ref.take();
        let key = uploaded.clone().or_else(|| reference.as_ref().and_then(|reference| (self.keys)(reference)));
        let Some(key) = key else {
            let message = "the vault has no such key: write it, in PEM, as spec.key";
            return self.blame(id, "spec.secretRef", message);
        };
        match check_upload(&spec.certificate, &key, self.now) {
            Ok(reference) => {
                spec.secret_ref = Some(reference.clone());
                self.uploads.extend(uploaded.map(|key| (reference, key)));
            }
            Err(fault) => self.blame(id, fault.path(), fault.to_string()),
        }
    }

    /// What this writer wrote before and doesn't want any more.
    fn unwanted(&self) -> Vec<ResourceId> {
        let wanted: BTreeSet<&ResourceId> = self.upserts.iter().map(|resource| &resource.id).collect();
        let own = self.view.desired.resources.iter().filter(|(_, stored)| stored.managed_by == self.owner);
        own.map(|(id, _)| id).filter(|id| !wanted.contains(id)).cloned().collect()
    }

    fn check(&mut self, removals: &[ResourceId]) {
        let existing = self.view.desired.resources.iter();
        let existing: BTreeMap<_, _> = existing.map(|(id, stored)| (id.clone(), stored.resource.clone())).collect();
        if let Err(errors) = check(&existing, &self.upserts, removals) {
            self.errors.extend(errors.into_iter().map(|error| item(&error.id, error.fault)));
        }
        self.check_coverage(removals);
    }

    /// An uploaded certificate covers every host that refers to it. Only what is written now is blamed.
    fn check_coverage(&mut self, removals: &[ResourceId]) {
        let revision = self.revision(self.upserts.clone(), removals.to_vec());
        let mut after = Desired::clone(&self.view.desired);
        after.apply(&revision);
        let written: BTreeSet<&ResourceId> = revision.upserts.iter().map(|resource| &resource.id).collect();
        for (service, certificate, host) in uncovered(&after, &written) {
            if written.contains(&service) {
                self.blame(&service, "spec.tls.certificate", format!("{certificate} does not cover the host {host}"));
            } else if written.contains(&certificate) {
                let message = format!("it does not cover {host}, which {service} serves with it");
                self.blame(&certificate, "spec.certificate", message);
            }
        }
    }

    fn revision(&self, upserts: Vec<Arc<Resource>>, removals: Vec<ResourceId>) -> Revision {
        Revision { at: self.now.unix_timestamp(), by: self.owner, upserts, removals }
    }

    fn action(&self, resource: &Resource) -> Action {
        match self.view.desired.resources.get(&resource.id) {
            None => Action::Created,
            Some(old) if *old.resource == *resource && old.managed_by == self.owner => Action::Unchanged,
            Some(_) => Action::Changed,
        }
    }

    fn finish(mut self, removals: Vec<ResourceId>) -> Plan {
        let upserts = std::mem::take(&mut self.upserts);
        let mut results: Vec<Outcome> =
            upserts.iter().map(|r| Outcome { id: r.id.clone(), action: self.action(r) }).collect();
        let changed = upserts.into_iter().filter(|resource| self.action(resource) != Action::Unchanged).collect();
        results.extend(removals.iter().map(|id| Outcome { id: id.clone(), action: Action::Removed }));
        Plan { revision: self.revision(changed, removals), results, keys: self.uploads }
    }
}

/// Each public service with its certificate and a host that the certificate is not good for, where one of the two is
/// `written` now: reading certificates takes time.
fn uncovered(desired: &Desired, written: &BTreeSet<&ResourceId>) -> Vec<(ResourceId, ResourceId, Host)> {
    let chains: BTreeMap<_, _> = certificates(desired).map(|(id, spec)| (id, &*spec.certificate)).collect();
    let mut uncovered = Vec::new();
    for (id, spec) in public_services(desired) {
        let Some(CertificateSource::Uploaded(name)) = &spec.tls.certificate else { continue };
        let certificate =
            ResourceId::Certificate { global_namespace: spec.global_namespace.clone(), name: name.clone() };
        let Some(chain) = chains.get(&certificate) else { continue };
        if !written.contains(id) && !written.contains(&certificate) {
            continue;
        }
        let hosts = spec.hosts.iter().map(|host| &host.name).filter(|host| !covers(chain, host));
        uncovered.extend(hosts.map(|host| (id.clone(), certificate.clone(), host.clone())));
    }
    uncovered
}
