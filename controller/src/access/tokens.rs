//! API tokens: who has which role. Only their digests are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use config::resource::Name;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::caller::Caller;
use super::role::Role;
use crate::secret::{equal, random, sha256_hex};
use crate::store::{Record, Records, Store, StoreError, Table};

/// So many tokens there may be: each call is compared with all of them.
const MAX_TOKENS: usize = 1000;

/// An API token, kept by the SHA-256 of its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiToken {
    name: String,
    /// What was made before there were roles was the admin's.
    #[serde(default = "admin")]
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    global_namespaces: Option<BTreeSet<Name>>,
    /// Seconds since 1970.
    #[serde(default)]
    created: i64,
    /// Seconds since 1970; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

fn admin() -> Role {
    Role::Admin
}

impl Record for ApiToken {
    const TABLE: Table = Table::ApiTokens;
}

/// What a token shall be.
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) name: Name,
    pub(crate) role: Role,
    /// The GNSs to which it is limited; none for all of the mesh.
    pub(crate) global_namespaces: BTreeSet<Name>,
    pub(crate) expires: Option<OffsetDateTime>,
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRow {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The GNSs to which it is limited; none for all of the mesh.
    #[serde(default)]
    pub global_namespaces: BTreeSet<Name>,
    /// When it was made, in seconds since 1970; 0 when that isn't known.
    pub created: i64,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires: Option<i64>,
}

/// Why a token isn't made, found or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("there is a token {0:?} already: revoke it first, or choose another name")]
    Taken(String),
    #[error("there is no token {0:?}: `tombolo token list` shows those there are")]
    Unknown(String),
    #[error("{0:?} is the last admin's token that never ends: make another first, or nobody administers the mesh")]
    LastAdmin(String),
    #[error("an admin is not limited to global namespaces: leave them out, or make an editor or viewer")]
    LimitedAdmin,
    #[error("there are {MAX_TOKENS} API tokens, and there may be no more: revoke those that nobody uses")]
    TooMany,
    #[error("the system gave no randomness")]
    Randomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tokens by digest.
type Known = BTreeMap<String, ApiToken>;

/// The API tokens.
pub(crate) struct ApiTokens {
    records: Records<ApiToken>,
    /// By digest, as in the store. Whoever writes holds the lock until the store has it.
    known: RwLock<Known>,
}

impl ApiTokens {
    pub(crate) fn open(store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let records: Records<ApiToken> = Records::new(Arc::clone(store));
        let known = RwLock::new(records.all()?);
        Ok(ApiTokens { records, known })
    }

    /// Who holds this token, if anybody does now. Compares with every token there is, in a time that tells nothing.
    pub(crate) fn holder(&self, token: &str, from: IpAddr, now: OffsetDateTime) -> Option<Caller> {
        let digest = sha256_hex(token.as_bytes());
        let known = self.read();
        let found =
            known.iter().fold(None, |found, (key, token)| if equal(key, &digest) { Some(token) } else { found });
        let alive = found.filter(|token| token.expires.is_none_or(|end| now.unix_timestamp() < end))?;
        Some(Caller::new(&alive.name, alive.role, alive.global_namespaces.clone(), from))
    }

    /// Whether somebody was given this token, whatever became of its time.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let known = self.read();
        known.contains_key(&sha256_hex(token.as_bytes()))
    }

    /// Why such a token cannot be made, if so.
    pub(crate) fn check(&self, new: &NewToken) -> Result<(), TokenFault> {
        may_create(&self.read(), new)
    }

    /// Makes a token, and returns its text, which nobody can tell again. Blocks.
    pub(crate) fn create(&self, new: &NewToken, now: OffsetDateTime) -> Result<Zeroizing<String>, TokenFault> {
        let mut known = self.write();
        may_create(&known, new)?;
        let limits = new.global_namespaces.clone();
        let token = ApiToken {
            name: new.name.to_string(),
            role: new.role,
            global_namespaces: (!limits.is_empty()).then_some(limits),
            created: now.unix_timestamp(),
            expires: new.expires.map(OffsetDateTime::unix_timestamp),
        };
        self.put(&mut known, token)
    }

    /// Makes the admin's token anew, in place of the old one. Blocks.
    pub(crate) fn replace_admin(&self, now: OffsetDateTime) -> Result<Zeroizing<String>, TokenFault> {
        const ADMIN: &str = "admin";
        let mut known = self.write();
        self.remove(&mut known, ADMIN)?;
        let (name, created) = (ADMIN.to_owned(), now.unix_timestamp());
        let token = ApiToken { name, role: Role::Admin, global_namespaces: None, created, expires: None };
        self.put(&mut known, token)
    }

    /// Whether a token can be revoked.
    pub(crate) fn check_revoke(&self, name: &str) -> Result<(), TokenFault> {
        may_revoke(&self.read(), name)
    }

    /// Ends a token: the next call with it is refused. Blocks.
    pub(crate) fn revoke(&self, name: &str) -> Result<(), TokenFault> {
        let mut known = self.write();
        may_revoke(&known, name)?;
        self.remove(&mut known, name)
    }

    /// All tokens, by name.
    pub(crate) fn rows(&self) -> Vec<TokenRow> {
        let known = self.read();
        let mut rows: Vec<TokenRow> = known.values().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, known: &mut Known, token: ApiToken) -> Result<Zeroizing<String>, TokenFault> {
        let text = random().ok_or(TokenFault::Randomness)?;
        let digest = sha256_hex(text.as_bytes());
        self.records.put(&digest, &token)?;
        known.insert(digest, token);
        Ok(text)
    }

    fn remove(&self, known: &mut Known, name: &str) -> Result<(), TokenFault> {
        let of_name = known.iter().filter(|(_, token)| token.name == name);
        let digests: Vec<String> = of_name.map(|(digest, _)| digest.clone()).collect();
        for digest in digests {
            self.records.remove(&digest)?;
            known.remove(&digest);
        }
        Ok(())
    }
}

fn may_create(known: &Known, new: &NewToken) -> Result<(), TokenFault> {
    match () {
        () if new.role == Role::Admin && !new.global_namespaces.is_empty() => Err(TokenFault::LimitedAdmin),
        () if known.values().any(|token| token.name == new.name.as_str()) => {
            Err(TokenFault::Taken(new.name.to_string()))
        }
        () if known.len() >= MAX_TOKENS => Err(TokenFault::TooMany),
        () => Ok(()),
    }
}

fn may_revoke(known: &Known, name: &str) -> Result<(), TokenFault> {
    let lasting = |token: &&ApiToken| token.role == Role::Admin && token.expires.is_none();
    match known.values().find(|token| token.name == name) {
        None => Err(TokenFault::Unknown(name.to_owned())),
        Some(token) if lasting(&token) && known.values().filter(lasting).count() == 1 => {
            Err(TokenFault::LastAdmin(name.to_owned()))
        }
        Some(_) => Ok(()),
    }
}

impl fmt::Debug for ApiTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokens").finish_non_exhaustive()
    }
}

fn row(token: &ApiToken) -> TokenRow {
    let ApiToken { name, role, global_namespaces, created, expires } = token.clone();
    TokenRow { name, role, global_namespaces: global_namespaces.unwrap_or_default(), created, expires }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::Duration;

    use super::super::permit::Inspect;
    use super::*;
    use crate::store::EmbeddedStore;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn new(name: &str, role: Role, gns: &[&str]) -> NewToken {
        let global_namespaces = gns.iter().map(|gns| gns.parse().unwrap()).collect();
        NewToken { name: name.parse().unwrap(), role, global_namespaces, expires: None }
    }

    #[test]
    fn a_token_is_good_until_it_is_revoked_or_ends_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || ApiTokens::open(&(Arc::new(EmbeddedStore::open(directory.path()).unwrap()) as _)).unwrap();
        let tokens = open();
        let ci = tokens.create(&new("ci", Role::Viewer, &["shop"]), NOW).unwrap();
        let end = Some(NOW + Duration::HOUR);
        let brief = tokens.create(&NewToken { expires: end, ..new("brief", Role::Editor, &[]) }, NOW).unwrap();
        drop(tokens);
        let tokens = open();
        assert!(tokens.holder(&ci, HERE, NOW).unwrap().permit::<Inspect>().is_ok());
        assert!(tokens.holder(&brief, HERE, NOW).is_some());
        assert!(tokens.holder(&brief, HERE, NOW + Duration::HOUR).is_none());
        for wrong in ["", "x", &ci[1..], &ci.to_uppercase()] {
            assert!(tokens.holder(wrong, HERE, NOW).is_none());
        }
        tokens.revoke("ci").unwrap();
        assert!(tokens.holder(&ci, HERE, NOW).is_none());
        drop(tokens);
        assert_eq!(open().rows().iter().map(|row| row.name.clone()).collect::<Vec<_>>(), ["brief"]);
        let database = std::fs::read(directory.path().join("controller.redb")).unwrap();
        assert!(!database.windows(brief.len()).any(|bytes| bytes == brief.as_bytes()), "the text is kept");
    }

    #[test]
    fn somebody_always_administers_the_mesh() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = ApiTokens::open(&(Arc::new(EmbeddedStore::open(directory.path()).unwrap()) as _)).unwrap();
        tokens.replace_admin(NOW).unwrap();
        assert!(matches!(tokens.revoke("admin"), Err(TokenFault::LastAdmin(_))));
        let brief = NewToken { expires: Some(NOW + Duration::HOUR), ..new("brief", Role::Admin, &[]) };
        tokens.create(&brief, NOW).unwrap();
        assert!(matches!(tokens.revoke("admin"), Err(TokenFault::LastAdmin(_))), "the other one ends");
        tokens.create(&new("ada", Role::Admin, &[]), NOW).unwrap();
        assert!(matches!(tokens.create(&new("ada", Role::Viewer, &[]), NOW), Err(TokenFault::Taken(_))));
        assert!(matches!(tokens.create(&new("bob", Role::Admin, &["shop"]), NOW), Err(TokenFault::LimitedAdmin)));
        tokens.revoke("admin").unwrap();
        assert!(matches!(tokens.revoke("admin"), Err(TokenFault::Unknown(_))));
    }

    #[test]
    fn a_token_from_before_there_were_roles_is_the_admins() {
        let token: ApiToken = serde_json::from_str(r#"{"name":"admin"}"#).unwrap();
        assert_eq!((token.role, token.global_namespaces, token.expires), (Role::Admin, None, None));
    }
}
