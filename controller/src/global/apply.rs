//! From what people write to a revision, or to every reason why there is none. Changes nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use config::check::check;
use config::manifest::{Defaults, Manifest, from_json, to_manifest};
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
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// The manifests as JSON.
    #[serde(default)]
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
    /// What shall be there no longer, in the same step.
    #[serde(default)]
    pub removals: Vec<ResourceId>,
    /// Resources to be removed may be absent.
    #[serde(default)]
    pub ignore_absent: bool,
    /// Tell what each resource was and becomes. For a dry run only.
    #[serde(default)]
    pub diff: bool,
}

/// No batch has more manifests and removals than this: all of them are checked against one another.
pub const MAX_BATCH: usize = 20_000;

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
    /// What it was, as a manifest, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
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
    /// It was there, and is no longer wanted.
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

/// Where the keys of certificates are that came without.
pub(super) type Keys<'k> = &'k dyn Fn(&SecretRef) -> Option<Zeroizing<String>>;

/// Plans a batch on what is known now. `what` is what the caller does, for the history.
///
/// # Errors
/// Every reason why it is refused.
pub(super) fn plan(
    view: &View,
    permit: &Permit<Edit>,
    apply: Apply,
    what: &str,
    keys: Keys<'_>,
    now: OffsetDateTime,
) -> Result<Plan, Error> {
    let owner = writer(&apply).and_then(|owner| bounded(&apply).map(|()| owner)).map_err(Error::Invalid)?;
    let parsed = from_json(apply.manifests, "manifests", &Defaults::default());
    let manifests = parsed.map_err(|errors| Error::Invalid(items(errors)))?;
    let written = manifests.iter().map(|manifest| &manifest.resource.id);
    authorize(permit, written.chain(&apply.removals), apply.prune)?;
    let mut batch = Batch {
        view,
        owner,
        who: permit.name(),
        what,
        now,
        keys,
        errors: Vec::new(),
        upserts: Vec::new(),
        removals: BTreeSet::new(),
        uploads: Vec::new(),
    };
    manifests.into_iter().for_each(|manifest| batch.add(manifest));
    apply.removals.into_iter().for_each(|id| batch.remove(id, apply.ignore_absent));
    if apply.prune {
        batch.prune();
    }
    batch.check();
    if batch.errors.is_empty() { Ok(batch.finish(apply.diff)) } else { Err(Error::Invalid(batch.errors)) }
}

fn bounded(apply: &Apply) -> Result<(), Vec<ErrorItem>> {
    let size = apply.manifests.len() + apply.removals.len();
    let refuse = |path: &str, message| Err(vec![ErrorItem { id: None, path: path.to_owned(), message }]);
    match size {
        size if size > MAX_BATCH => refuse(
            "manifests",
            format!("the batch has {size} manifests and removals, and {MAX_BATCH} are the most: split it"),
        ),
        _ if apply.diff && !apply.dry_run => refuse("diff", "only a dry run tells it: set dryRun, too".to_owned()),
        _ => Ok(()),
    }
}

/// Before anything is compared with what exists: whoever may not write a resource isn't told what it contradicts.
fn authorize<'i>(permit: &Permit<Edit>, ids: impl Iterator<Item = &'i ResourceId>, prune: bool) -> Result<(), Error> {
    let mut errors: Vec<ErrorItem> = Vec::new();
    for id in ids {
        if let Err(forbidden) = permit.allows(id) {
            let (id, message) = (Some(id.to_string()), forbidden.to_string());
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
fn refusal(view: &View, id: &ResourceId, writer: Owner) -> Option<ErrorItem> {
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
    who: &'b str,
    what: &'b str,
    now: OffsetDateTime,
    keys: Keys<'b>,
    errors: Vec<ErrorItem>,
    upserts: Vec<Arc<Resource>>,
    removals: BTreeSet<ResourceId>,
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
            let message = "the vault has no such key, or no longer: apply the certificate with it, in PEM, as spec.key";
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

    fn remove(&mut self, id: ResourceId, ignore_absent: bool) {
        if let Some(refusal) = refusal(self.view, &id, self.owner) {
            return self.errors.push(refusal);
        }
        if self.upserts.iter().any(|resource| resource.id == id) {
            return self.blame(&id, "removals", "the same batch writes it: take it out of one of the two");
        }
        match self.view.desired.resources.contains_key(&id) {
            true => drop(self.removals.insert(id)),
            false if ignore_absent => {}
            false => self.blame(&id, "removals", "it is not there"),
        }
    }

    /// Removes what this writer wrote before and doesn't want any more.
    fn prune(&mut self) {
        let wanted: BTreeSet<&ResourceId> = self.upserts.iter().map(|resource| &resource.id).collect();
        let own = self.view.desired.resources.iter().filter(|(_, stored)| stored.managed_by == self.owner);
        self.removals.extend(own.map(|(id, _)| id).filter(|id| !wanted.contains(id)).cloned());
    }

    fn check(&mut self) {
        let existing = self.view.desired.resources.iter();
        let existing: BTreeMap<_, _> = existing.map(|(id, stored)| (id.clone(), stored.resource.clone())).collect();
        let removals: Vec<ResourceId> = self.removals.iter().cloned().collect();
        if let Err(errors) = check(&existing, &self.upserts, &removals) {
            self.errors.extend(errors.into_iter().map(|error| item(&error.id, error.fault)));
        }
        self.check_coverage(removals);
    }

    /// An uploaded certificate covers every host that refers to it. Only what is written now is blamed.
    fn check_coverage(&mut self, removals: Vec<ResourceId>) {
        let revision = self.revision(self.upserts.clone(), removals);
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
        let now = self.now.unix_timestamp();
        Revision { upserts, removals, ..Revision::new(now, self.owner, self.who, self.what) }
    }

    fn action(&self, resource: &Resource) -> Action {
        match self.view.desired.resources.get(&resource.id) {
            None => Action::Created,
            Some(old) if *old.resource == *resource && old.managed_by == self.owner => Action::Unchanged,
            Some(_) => Action::Changed,
        }
    }

    fn finish(mut self, diff: bool) -> Plan {
        let (upserts, removals) = (std::mem::take(&mut self.upserts), std::mem::take(&mut self.removals));
        let of = |id: &ResourceId, action: Action, after: Option<&Resource>| {
            let told = diff && action != Action::Unchanged;
            let before = self.view.desired.resources.get(id).filter(|_| told);
            let before = before.map(|stored| to_manifest(&stored.resource, None));
            let after = after.filter(|_| told).map(|resource| to_manifest(resource, None));
            Outcome { id: id.clone(), action, before, after }
        };
        let written = upserts.iter().map(|resource| of(&resource.id, self.action(resource), Some(resource)));
        let removed = removals.iter().map(|id| of(id, Action::Removed, None));
        let results = written.chain(removed).collect();
        let changed = upserts.iter().filter(|resource| self.action(resource) != Action::Unchanged).cloned().collect();
        let revision = self.revision(changed, removals.into_iter().collect());
        Plan { revision, results, keys: self.uploads }
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
