//! Who is believed no longer: clusters, gateways, workloads.

use config::resource::ResourceId;
use config::revoked::Revoked;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::core::Core;
use super::error::Error;
use crate::access::{Administer, Permit};
use crate::ca::{AuthorityError, Revocation};

/// Who is to be believed no longer, or again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// Who.
    pub revoked: Revoked,
}

impl Core {
    /// From now on nobody believes them: every data plane is told at once, and cuts what they have open. Returns who is
    /// revoked then. Blocks.
    pub(crate) fn revoke(
        &self,
        permit: &Permit<Administer>,
        Revoke { revoked }: &Revoke,
    ) -> Result<Vec<Revocation>, Error> {
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, false)?;
        let (view, cluster) = (self.view(), revoked.cluster());
        if !view.clusters().any(|known| known == cluster) {
            return Err(Error::NotFound(ResourceId::Cluster(cluster.clone())));
        }
        if authorities.is_revoked(revoked) {
            return Err(AuthorityError::RevokedAlready(revoked.clone()).into());
        }
        self.audit.record(&permit.entry("certificates.revoke").on(revoked))?;
        authorities.revoke(revoked, permit.name(), OffsetDateTime::now_utc())?;
        tracing::warn!(%revoked, "revoked");
        self.settle(&mut authorities, view.desired);
        Ok(authorities.revocations())
    }

    /// They are believed again, and so is every certificate of theirs that is still in its life. Returns who is revoked
    /// then. Blocks.
    pub(crate) fn reinstate(
        &self,
        permit: &Permit<Administer>,
        Revoke { revoked }: &Revoke,
    ) -> Result<Vec<Revocation>, Error> {
        let mut authorities = self.authorities();
        self.catch_up(&mut authorities, false)?;
        if !authorities.is_revoked(revoked) {
            return Err(AuthorityError::NotRevoked(revoked.clone()).into());
        }
        self.audit.record(&permit.entry("certificates.reinstate").on(revoked))?;
        authorities.reinstate(revoked)?;
        tracing::warn!(%revoked, "no longer revoked");
        self.settle(&mut authorities, self.view().desired);
        Ok(authorities.revocations())
    }
}
