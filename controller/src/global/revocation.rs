//! Who is believed no longer: clusters, gateways, workloads.

use config::resource::ResourceId;
use config::revoked::Revoked;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::core::Core;
use super::error::Error;
use crate::access::{Administer, Permit};
use crate::ca::Authorities;

/// Who is to be believed no longer, or again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// Who.
    pub revoked: Revoked,
}

impl Core {
    /// From now on nobody believes them: every data plane is told at once, and cuts what they have open. Blocks.
    pub(crate) fn revoke(&self, permit: &Permit<Administer>, Revoke { revoked }: &Revoke) -> Result<(), Error> {
        let cluster = revoked.cluster();
        if !self.view().clusters().any(|known| known == cluster) {
            return Err(Error::NotFound(ResourceId::Cluster(cluster.clone())));
        }
        let by = permit.name().to_owned();
        self.change_belief(permit, "certificates.revoke", revoked, |authorities| {
            authorities.revoke(revoked, &by, OffsetDateTime::now_utc()).map_err(Error::from)
        })
    }

    /// They are believed again, and so is every certificate of theirs that is still in its life. Blocks.
    pub(crate) fn reinstate(&self, permit: &Permit<Administer>, Revoke { revoked }: &Revoke) -> Result<(), Error> {
        self.change_belief(permit, "certificates.reinstate", revoked, |authorities| {
            authorities.reinstate(revoked).map_err(Error::from)
        })
    }

    fn change_belief(
        &self,
        permit: &Permit<Administer>,
        what: &str,
        revoked: &Revoked,
        change: impl FnOnce(&mut Authorities) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut authorities = self.authorities();
        self.audit.record(&permit.entry(what).on(revoked))?;
        change(&mut authorities)?;
        tracing::warn!(%revoked, what, "whom to believe has changed");
        self.settle(&mut authorities, self.view().desired);
        Ok(())
    }
}
