//! Where secrets are: sealed in the store, by a key that stands in a file of its own.
//!
//! A copy of the database alone gives nothing away. Each secret is sealed with ChaCha20-Poly1305 (RFC 8439) under a
//! random nonce, and its reference is authenticated with it, so that sealed secrets cannot be swapped.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use identity::files::{self, FileError};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError, Table};

const FILE: &str = "vault.key";

/// Sealed secrets by reference.
pub struct Vault {
    store: Arc<dyn Store>,
    key: LessSafeKey,
    path: PathBuf,
}

/// Why the vault cannot do what it should.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The key's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key is gone, its secrets are not.
    #[error("{0} is missing, and the database holds secrets that were sealed with it: restore it from a backup")]
    KeyMissing(PathBuf),
    /// The file is no key.
    #[error("{0} is damaged (it should have 32 bytes): restore it from a backup")]
    KeyDamaged(PathBuf),
    /// Another key, or a damaged secret.
    #[error("the secret {reference} was not sealed with the key in {key}: restore that file and the database together")]
    Unsealable {
        /// Which secret.
        reference: String,
        /// The key's file.
        key: PathBuf,
    },
    /// No randomness.
    #[error("the system gave no randomness to seal a secret with")]
    Randomness,
}

impl Vault {
    /// Opens the vault whose key is in `directory`. With a store that holds no secret yet, makes the key.
    ///
    /// # Errors
    /// When the key is missing but needed, damaged, or readable by others than its owner.
    pub fn open(store: Arc<dyn Store>, directory: &Path) -> Result<Self, VaultError> {
        let path = directory.join(FILE);
        if !path.exists() {
            make_key(&*store, &path)?;
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &files::read_private(&path)?);
        let key = LessSafeKey::new(key.map_err(|_| VaultError::KeyDamaged(path.clone()))?);
        Ok(Vault { store, key, path })
    }

    /// Seals a secret under its reference, in place of what was there.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, reference: &str, secret: &Zeroizing<String>) -> Result<(), VaultError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let room = NONCE_LEN + secret.len() + CHACHA20_POLY1305.tag_len();
        // All room at once: a buffer that grows leaves copies of the secret behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(room));
        sealed.extend_from_slice(secret.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(reference), &mut *sealed)
            .map_err(|_| VaultError::Randomness)?;
        Ok(self.store.set(Table::Secrets, reference, Some(&[&nonce[..], &sealed].concat()))?)
    }

    /// Unseals a secret.
    ///
    /// # Errors
    /// When the store cannot be read, or the secret was sealed with another key.
    pub fn get(&self, reference: &str) -> Result<Option<Zeroizing<String>>, VaultError> {
        let Some(sealed) = self.store.record(Table::Secrets, reference)? else { return Ok(None) };
        self.unseal(reference, &sealed)
            .map(Some)
            .ok_or_else(|| VaultError::Unsealable { reference: reference.to_owned(), key: self.path.clone() })
    }

    /// Forgets a secret.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove(&self, reference: &str) -> Result<(), VaultError> {
        Ok(self.store.set(Table::Secrets, reference, None)?)
    }

    /// The references of all secrets.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn references(&self) -> Result<Vec<String>, VaultError> {
        Ok(self.store.records(Table::Secrets)?.into_keys().collect())
    }

    fn unseal(&self, reference: &str, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = self.key.open_in_place(nonce, Aad::from(reference), &mut buffer).ok()?;
        std::str::from_utf8(secret).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

fn make_key(store: &dyn Store, path: &Path) -> Result<(), VaultError> {
    if !store.records(Table::Secrets)?.is_empty() {
        return Err(VaultError::KeyMissing(path.to_owned()));
    }
    let key = Zeroizing::new(random::<32>()?);
    Ok(files::write_private(path, &*key)?)
}

fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| VaultError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::EmbeddedStore;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn secrets_come_back_only_under_their_own_reference() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).unwrap());
        let vault = Vault::open(Arc::clone(&store), directory.path()).unwrap();
        vault.put("a", &secret("the key of a")).unwrap();
        assert_eq!(vault.get("a").unwrap().unwrap().as_str(), "the key of a");
        assert!(vault.get("b").unwrap().is_none());
        let sealed = store.record(Table::Secrets, "a").unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("key of a"));
        assert!(store.swap(Table::Secrets, "b", None, Some(&sealed)).unwrap());
        assert!(matches!(vault.get("b"), Err(VaultError::Unsealable { .. })));
        vault.remove("a").unwrap();
        assert_eq!(vault.references().unwrap(), ["b"]);
    }

    #[test]
    fn the_key_is_private_and_its_loss_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path()).unwrap());
        let vault = Vault::open(Arc::clone(&store), directory.path()).unwrap();
        vault.put("a", &secret("x")).unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::metadata(directory.path().join("controller.redb")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Vault::open(Arc::clone(&store), directory.path()),
            Err(VaultError::File(FileError::Exposed(..)))
        ));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Vault::open(store, directory.path()), Err(VaultError::KeyMissing(_))));
    }
}
