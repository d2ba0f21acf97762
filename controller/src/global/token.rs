//! Join tokens: single use, short-lived, bound to the name of one cluster. Only their digests are kept.

use std::sync::Arc;

use config::resource::Name;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::secret::{random, sha256_hex};
use crate::store::{Record, Records, Store, StoreError, Table};

/// How long a token is good.
const LIFE: Duration = Duration::minutes(15);
/// How long it is remembered after that, so that whoever comes late is told why it is refused.
const MEMORY: Duration = Duration::days(1);
/// So many tokens are remembered.
const MAX_TOKENS: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct JoinToken {
    cluster: Name,
    /// Seconds since 1970.
    expires: i64,
    used: bool,
}

impl Record for JoinToken {
    const TABLE: Table = Table::Tokens;
}

/// Why a token doesn't admit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenRefusal {
    #[error("this token is not of this mesh, or was forgotten long ago: {REMEDY}")]
    Foreign,
    #[error("this token is for the cluster {bound}, not {asked}: join under that name, or {REMEDY}")]
    OtherCluster { bound: Name, asked: Name },
    #[error("this token was used already, and each is good for one joining: {REMEDY}")]
    Used,
    #[error("this token expired, {LIFE} after it was made: {REMEDY}")]
    Expired,
    #[error("more than {MAX_TOKENS} tokens were made within a day: wait, or use those")]
    TooMany,
    #[error("the system gave no randomness")]
    Randomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

const REMEDY: &str = "make a new one with `tombolo token create --cluster NAME`";

/// The join tokens.
pub(crate) struct JoinTokens(Records<JoinToken>);

impl JoinTokens {
    pub(crate) fn new(store: &Arc<dyn Store>) -> Self {
        JoinTokens(Records::new(Arc::clone(store)))
    }

    /// Makes a token for a cluster, and returns its secret.
    pub(crate) fn create(&self, cluster: &Name, now: OffsetDateTime) -> Result<Zeroizing<String>, TokenRefusal> {
        self.forget(now)?;
        let secret = random().ok_or(TokenRefusal::Randomness)?;
        let token = JoinToken { cluster: cluster.clone(), expires: (now + LIFE).unix_timestamp(), used: false };
        self.0.put(&sha256_hex(secret.as_bytes()), &token)?;
        Ok(secret)
    }

    /// Whether the secret admits the cluster now.
    pub(crate) fn check(&self, secret: &str, cluster: &Name, now: OffsetDateTime) -> Result<(), TokenRefusal> {
        admit(self.0.get(&sha256_hex(secret.as_bytes()))?, cluster, now).map(drop)
    }

    /// The same, and it never does again.
    pub(crate) fn redeem(&self, secret: &str, cluster: &Name, now: OffsetDateTime) -> Result<(), TokenRefusal> {
        let spent = |token| admit(token, cluster, now).map(|token| JoinToken { used: true, ..token });
        self.0.change(&sha256_hex(secret.as_bytes()), spent).map(drop)
    }

    fn forget(&self, now: OffsetDateTime) -> Result<(), TokenRefusal> {
        let tokens = self.0.all()?;
        let old = |token: &JoinToken| token.expires < (now - MEMORY).unix_timestamp();
        let (old, kept): (Vec<_>, Vec<_>) = tokens.iter().partition(|(_, token)| old(token));
        old.into_iter().try_for_each(|(key, _)| self.0.remove(key))?;
        if kept.len() < MAX_TOKENS { Ok(()) } else { Err(TokenRefusal::TooMany) }
    }
}

fn admit(token: Option<JoinToken>, cluster: &Name, now: OffsetDateTime) -> Result<JoinToken, TokenRefusal> {
    match token {
        None => Err(TokenRefusal::Foreign),
        Some(token) if token.used => Err(TokenRefusal::Used),
        Some(token) if token.expires < now.unix_timestamp() => Err(TokenRefusal::Expired),
        Some(token) if token.cluster != *cluster => {
            Err(TokenRefusal::OtherCluster { bound: token.cluster, asked: cluster.clone() })
        }
        Some(token) => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::EmbeddedStore;

    #[test]
    fn a_token_admits_one_cluster_once_and_not_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).unwrap());
        let (tokens, now) = (JoinTokens::new(&store), OffsetDateTime::UNIX_EPOCH + Duration::days(9000));
        let (west, east) = ("west".parse().unwrap(), "east".parse().unwrap());
        let secret = tokens.create(&west, now).unwrap();
        assert!(matches!(tokens.check(&secret, &east, now), Err(TokenRefusal::OtherCluster { .. })));
        assert!(matches!(tokens.check(&secret, &west, now + LIFE * 2), Err(TokenRefusal::Expired)));
        assert!(matches!(tokens.redeem("other", &west, now), Err(TokenRefusal::Foreign)));
        tokens.check(&secret, &west, now).unwrap();
        tokens.redeem(&secret, &west, now).unwrap();
        assert!(matches!(tokens.redeem(&secret, &west, now), Err(TokenRefusal::Used)));
        tokens.create(&east, now + LIFE + MEMORY * 2).unwrap();
        assert!(matches!(tokens.check(&secret, &west, now), Err(TokenRefusal::Foreign)), "old tokens are forgotten");
    }

    #[test]
    fn tokens_outlive_a_restart_and_their_secrets_are_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (west, now) = ("west".parse().unwrap(), OffsetDateTime::UNIX_EPOCH);
        let open = || -> Arc<dyn Store> { Arc::new(EmbeddedStore::open(directory.path()).unwrap()) };
        let secret = JoinTokens::new(&open()).create(&west, now).unwrap();
        let database = std::fs::read(directory.path().join("controller.redb")).unwrap();
        assert!(!database.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
        JoinTokens::new(&open()).redeem(&secret, &west, now).unwrap();
        assert!(matches!(JoinTokens::new(&open()).check(&secret, &west, now), Err(TokenRefusal::Used)));
    }
}
