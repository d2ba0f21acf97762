//! What admins do: say who may use the API, and read what was done.

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::core::Core;
use super::error::Error;
use crate::access::{Administer, NewToken, Permit, TokenRow};
use crate::audit::{self, Entry};

impl Core {
    /// Makes an API token, and returns its text. Blocks.
    pub(crate) fn create_api_token(
        &self,
        permit: &Permit<Administer>,
        new: &NewToken,
    ) -> Result<Zeroizing<String>, Error> {
        self.api_tokens.check(new)?;
        let entry = permit.entry("token.create").on(&new.name).detail("role", new.role);
        let scope = new.global_namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        self.audit.record(&if scope.is_empty() { entry } else { entry.detail("globalNamespaces", scope) })?;
        Ok(self.api_tokens.create(new, OffsetDateTime::now_utc())?)
    }

    /// The API tokens.
    pub(crate) fn api_tokens(&self, _: &Permit<Administer>) -> Vec<TokenRow> {
        self.api_tokens.rows()
    }

    /// Ends an API token. Blocks.
    pub(crate) fn revoke_api_token(&self, permit: &Permit<Administer>, name: &str) -> Result<(), Error> {
        self.api_tokens.check_revoke(name)?;
        self.audit.record(&permit.entry("token.revoke").on(name))?;
        Ok(self.api_tokens.revoke(name)?)
    }

    /// Gives the admin another token than before. Blocks.
    pub(super) fn replace_admin_token(&self) -> Result<Zeroizing<String>, Error> {
        self.audit.record(&Entry::new("this process", "token.create").on("admin").detail("role", "admin"))?;
        Ok(self.api_tokens.replace_admin(OffsetDateTime::now_utc())?)
    }

    /// The newest entries of the audit log, the oldest of them first. Blocks.
    pub(crate) fn audited(&self, _: &Permit<Administer>, limit: usize) -> Result<Vec<Entry>, Error> {
        Ok(audit::read(self.audit.path(), limit)?)
    }
}
