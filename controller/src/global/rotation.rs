//! Certificates are replaced: by timer, and when somebody asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::resource::{Name, ResourceId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::certificates::Level;
use super::core::Core;
use super::error::Error;
use super::holders::Holders;
use super::phases::Rotation;
use super::view::{Made, wanted};
use crate::access::{Administer, Permit};
use crate::ca::{Authorities, AuthorityError, Stage};

/// While a root is being replaced, it is looked so often whether somebody's certificate has ended.
const LOOK: Duration = Duration::from_secs(1);
/// Otherwise no more seldom, because clocks may be set.
const MOST: Duration = Duration::from_secs(60);

/// Which certificates are to be replaced now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotate {
    /// Of which level.
    pub level: Level,
    /// Of which GNS; of all of them without one.
    #[serde(default)]
    pub global_namespace: Option<Name>,
    /// Of which cluster; of all of them without one.
    #[serde(default)]
    pub cluster: Option<Name>,
}

impl Core {
    /// Takes every step of a rotation that can be taken now. Blocks, but where none can: everybody reports often.
    pub(super) fn advance(&self) {
        if !self.is_stepping() {
            return;
        }
        let mut authorities = self.authorities();
        if let Err(error) = self.catch_up(&mut authorities, false) {
            return tracing::error!(%error, "the database cannot be read, so no rotation goes on; it is tried again");
        }
        let (view, reports) = (self.view(), self.reports());
        let holders = Holders::new(&view, &reports, &self.enrolments);
        match authorities.advance(&wanted(&view.desired), |gns| holders.of(gns), OffsetDateTime::now_utc()) {
            Ok(false) => {}
            Ok(true) => self.settle(&mut authorities, Arc::clone(&view.desired)),
            Err(error) => tracing::error!(%error, "a rotation could not go on; it is tried again"),
        }
    }

    /// Begins to replace certificates; returns what is then under way. Blocks.
    pub(crate) fn rotate(&self, permit: &Permit<Administer>, rotate: &Rotate) -> Result<Vec<Rotation>, Error> {
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, false)?;
        let entry = permit.entry("certificates.rotate").detail("level", rotate.level);
        let entry = rotate.global_namespace.iter().fold(entry, |entry, gns| entry.detail("globalNamespace", gns));
        self.audit.record(&rotate.cluster.iter().fold(entry, |entry, cluster| entry.detail("cluster", cluster)))?;
        self.begin(&mut authorities, rotate, OffsetDateTime::now_utc())?;
        let Rotate { level, global_namespace, cluster } = rotate;
        tracing::info!(%level, gns = ?global_namespace, ?cluster, "certificates are to be replaced");
        self.settle(&mut authorities, self.view().desired);
        drop(authorities);
        self.note_progress();
        Ok(self.rotations())
    }

    fn begin(&self, authorities: &mut Authorities, rotate: &Rotate, now: OffsetDateTime) -> Result<(), Error> {
        let view = self.view();
        let wanted = wanted(&view.desired).global_namespaces;
        let clusters = clusters_of(rotate, view.clusters())?;
        let namespaces: Vec<&Name> = match &rotate.global_namespace {
            Some(gns) if !wanted.contains_key(gns) => {
                return Err(Error::NotFound(ResourceId::GlobalNamespace(gns.clone())));
            }
            Some(gns) => vec![gns],
            None => wanted.keys().collect(),
        };
        check_scope(rotate)?;
        check_steady(&view.made, rotate.level, &namespaces)?;
        match rotate.level {
            Level::Top => authorities.rotate_top_level(now)?,
            Level::Gns => namespaces.iter().try_for_each(|gns| match wanted.get(*gns) {
                Some(wanted) => authorities.rotate_gns(gns, wanted, now),
                None => Ok(()),
            })?,
            Level::Control => authorities.turn_agents(&clusters, true)?,
            level @ (Level::Issuing | Level::Leaf) => {
                let issuing = level == Level::Issuing;
                namespaces.iter().try_for_each(|gns| authorities.turn(gns, &clusters, issuing))?;
                if !issuing && rotate.global_namespace.is_none() {
                    authorities.turn_agents(&clusters, false)?;
                }
            }
        }
        Ok(())
    }

    /// SHA-256 of the top-level CAs, that which signs first.
    pub(super) fn top_level(&self) -> Vec<String> {
        let made = self.made();
        let Some(status) = &made.top_level else { return Vec::new() };
        let others = status.roots.iter().map(|root| root.fingerprint.as_str());
        let others = others.filter(|root| *root != status.signing());
        std::iter::once(status.signing()).chain(others).map(str::to_owned).collect()
    }

    /// Whether a public host's certificate is due, and not one of those that just couldn't be made.
    pub(super) fn hosts_are_due(&self) -> bool {
        let made = self.made();
        made.fault.is_none() && made.hosts_due.is_some_and(|due| due <= OffsetDateTime::now_utc())
    }

    /// Whether a root is being replaced, or is to be.
    fn is_stepping(&self) -> bool {
        let (made, now) = (self.made(), OffsetDateTime::now_utc());
        made.roots().any(|(_, root)| root.stage() != Stage::Steady || root.renews <= now)
    }

    /// How long nothing of the certificates is due.
    pub(super) fn idle(&self) -> Duration {
        let made = self.made();
        let rotating = made.roots().any(|(_, root)| root.stage() != Stage::Steady);
        if rotating {
            return LOOK;
        }
        let next =
            made.roots().map(|(_, root)| root.renews).chain(made.hosts_due.filter(|_| made.fault.is_none())).min();
        let left = next.map_or(MOST, |next| Duration::try_from(next - OffsetDateTime::now_utc()).unwrap_or_default());
        left.clamp(LOOK, MOST)
    }
}

/// Who asks for several must not find a part of them begun.
fn check_steady(made: &Made, level: Level, namespaces: &[&Name]) -> Result<(), Error> {
    let rotating = |gns: &&&Name| made.gns_roots.get(**gns).is_some_and(|root| root.stage() != Stage::Steady);
    match namespaces.iter().find(rotating).filter(|_| level == Level::Gns) {
        Some(gns) => Err(AuthorityError::Rotating(format!("the CA of the global namespace {gns}")).into()),
        None => Ok(()),
    }
}

fn clusters_of<'c>(rotate: &Rotate, known: impl Iterator<Item = &'c Name>) -> Result<BTreeSet<Name>, Error> {
    let mut known: BTreeSet<Name> = known.cloned().collect();
    if let Some(cluster) = &rotate.cluster {
        if !known.contains(cluster) {
            return Err(Error::NotFound(ResourceId::Cluster(cluster.clone())));
        }
        known.retain(|known| known == cluster);
    }
    Ok(known)
}

/// What a level has no part of must not be asked for.
fn check_scope(rotate: &Rotate) -> Result<(), Error> {
    let refused = |what: &str| Err(Error::Refused(what.to_owned()));
    match rotate {
        Rotate { level: Level::Top, global_namespace: Some(_), .. } => {
            refused("the top-level CA is the whole mesh's: leave the global namespace out")
        }
        Rotate { level: Level::Control, global_namespace: Some(_), .. } => {
            refused("a control CA is in no global namespace: leave that out")
        }
        Rotate { level: Level::Top | Level::Gns, cluster: Some(_), .. } => {
            refused("a root is every cluster's: leave the cluster out, or rotate the level `issuing`")
        }
        _ => Ok(()),
    }
}
