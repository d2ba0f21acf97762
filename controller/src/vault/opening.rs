//! Which key seals the vault, and the way from one to another: all secrets change over in one transaction, or none.

use std::path::Path;

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::VaultError;
use super::key::{SealKey, SealKeys, open, own};
use crate::store::{Change, Store, Table};

/// Where the store says which key seals it.
const SEAL: &str = "seal";

/// What the store says of the key that seals it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    /// The key's name.
    key: String,
    /// Whether an operator keeps it; else it is the vault's own.
    given: bool,
}

/// What unseals the store as it is.
enum Opener {
    /// There is nothing in it.
    Nothing,
    Key(SealKey),
    /// The vault's own key as versions used it before there were others: with ChaCha20-Poly1305 (RFC 8439).
    First(LessSafeKey),
}

/// The key that seals the store, after changing over to it if it must.
pub(super) fn seal_key(store: &dyn Store, directory: &Path, keys: SealKeys) -> Result<SealKey, VaultError> {
    let path = own(directory);
    let SealKeys { current, previous } = keys;
    let given = current.is_some();
    let sealed = store.record(Table::Seals, SEAL)?.map(|bytes| serde_json::from_slice::<Seal>(&bytes));
    let sealed = sealed.transpose().map_err(|error| VaultError::Seal(error.to_string()))?;
    let key = match (current, &sealed) {
        (Some(key), _) => key,
        (None, Some(seal)) if seal.given => return Err(VaultError::KeyNeeded(seal.key.clone())),
        (None, _) => own_key(store, &path)?,
    };
    if sealed.as_ref().is_none_or(|seal| seal.key != key.name()) {
        let opener = opener(store, &path, sealed, previous, &key)?;
        change_over(store, &opener, &key, given)?;
    }
    if given && path.exists() {
        // Last, so that a crash leaves both keys rather than none.
        std::fs::remove_file(&path).map_err(|error| VaultError::Leftover(path.clone(), error))?;
        tracing::info!(path = %path.display(), "the vault's own key seals nothing any more, and was removed");
    }
    Ok(key)
}

/// The vault's own key; at the first start, a new one.
fn own_key(store: &dyn Store, path: &Path) -> Result<SealKey, VaultError> {
    match path.exists() {
        true => Ok(SealKey::read(path)?),
        false if store.records(Table::Secrets)?.is_empty() => SealKey::make(path),
        false => Err(VaultError::KeyMissing(path.to_owned())),
    }
}

fn opener(
    store: &dyn Store,
    path: &Path,
    sealed: Option<Seal>,
    previous: Option<SealKey>,
    key: &SealKey,
) -> Result<Opener, VaultError> {
    let Some(seal) = sealed else {
        return match store.records(Table::Secrets)?.is_empty() {
            true => Ok(Opener::Nothing),
            false => Ok(Opener::First(first_key(path)?)),
        };
    };
    let candidate = match seal.given {
        true => previous,
        false => Some(own_key(store, path)?),
    };
    let other = || VaultError::OtherKey { given: key.to_string(), sealed: seal.key.clone() };
    candidate.filter(|old| old.name() == seal.key).map(Opener::Key).ok_or_else(other)
}

fn first_key(path: &Path) -> Result<LessSafeKey, VaultError> {
    if !path.exists() {
        return Err(VaultError::KeyMissing(path.to_owned()));
    }
    let key = UnboundKey::new(&CHACHA20_POLY1305, &identity::files::read_private(path)?);
    Ok(LessSafeKey::new(key.map_err(|_| VaultError::KeyDamaged(path.to_owned()))?))
}

impl Opener {
    fn unseal(&self, reference: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Opener::Nothing => None,
            Opener::Key(key) => key.unseal(reference, sealed),
            Opener::First(key) => open(key, reference, sealed),
        }
    }
}

fn change_over(store: &dyn Store, opener: &Opener, key: &SealKey, given: bool) -> Result<(), VaultError> {
    let mut changes = Vec::new();
    for (reference, sealed) in store.records(Table::Secrets)? {
        let unsealable = || VaultError::Unsealable { reference: reference.clone(), key: "the key before".to_owned() };
        let secret = opener.unseal(&reference, &sealed).ok_or_else(unsealable)?;
        let sealed = key.seal(&reference, &secret).ok_or(VaultError::Randomness)?;
        changes.push(Change { table: Table::Secrets, key: reference, value: Some(sealed) });
    }
    let seal = serde_json::to_vec(&Seal { key: key.name().to_owned(), given });
    let seal = seal.map_err(|error| VaultError::Seal(error.to_string()))?;
    let secrets = changes.len();
    changes.push(Change { table: Table::Seals, key: SEAL.to_owned(), value: Some(seal) });
    store.change(&changes)?;
    tracing::info!(%key, secrets, "sealed the vault");
    Ok(())
}
