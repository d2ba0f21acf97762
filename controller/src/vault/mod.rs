//! Where secrets are: sealed in the store, by a key that an operator gives from a file or the environment, or else by
//! one that stands in a file beside the database.
//!
//! A copy of the database alone gives nothing away. Each secret is sealed with AES-256-GCM under a random nonce, and its
//! reference is authenticated with it, so that sealed secrets cannot be swapped.

mod key;
mod opening;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use identity::files::FileError;
use thiserror::Error;
use zeroize::Zeroizing;

pub use key::{SealKey, SealKeyError, SealKeys};

use crate::store::{Store, StoreError, Table};

/// Sealed secrets by reference.
pub struct Vault {
    store: Arc<dyn Store>,
    key: SealKey,
}

/// Why the vault cannot do what it should.
#[derive(Debug, Error)]
pub enum VaultError {
    /// A key's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key.
    #[error(transparent)]
    Key(#[from] SealKeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The vault's own key is gone, its secrets are not.
    #[error("{0} is missing, and the database holds secrets that were sealed with it: restore it from a backup")]
    KeyMissing(PathBuf),
    /// The file is no key.
    #[error("{0} is damaged (it should have 32 bytes): restore it from a backup")]
    KeyDamaged(PathBuf),
    /// An operator keeps the key, and didn't give it.
    #[error("the database is sealed with key {0}, which isn't here: give it with --seal-key-file or TOMBOLO_SEAL_KEY")]
    KeyNeeded(String),
    /// An operator gave another key.
    #[error(
        "the database is sealed with key {sealed}, not with that of {given}: give the right key, or, to seal it anew, \
         also the old one with --old-seal-key-file or TOMBOLO_OLD_SEAL_KEY"
    )]
    OtherKey {
        /// The key that is there.
        given: String,
        /// The name of the one that is needed.
        sealed: String,
    },
    /// Another key, or a damaged secret.
    #[error("the secret {reference} is damaged, or was not sealed with {key}: restore key and database together")]
    Unsealable {
        /// Which secret.
        reference: String,
        /// The key.
        key: String,
    },
    /// What the store says of its key.
    #[error("what the database says of its sealing key cannot be read ({0}): restore it from a backup")]
    Seal(String),
    /// A key that shall not stay.
    #[error("{0} seals nothing any more, and cannot be removed: {1}; remove it")]
    Leftover(PathBuf, #[source] std::io::Error),
    /// No text.
    #[error("the secret {0} is no text, though it is sealed as it should be")]
    NotText(String),
    /// No randomness.
    #[error("the system gave no randomness to seal a secret with")]
    Randomness,
}

impl Vault {
    /// Opens the vault with these keys. With none given, its own stands in `directory`, and is made for a store that holds
    /// no secret yet. A store that another key seals is sealed anew, if that key is there.
    ///
    /// # Errors
    /// When a key is missing, not the right one, damaged, or readable by others than its owner. Nothing is changed then.
    pub fn open(store: Arc<dyn Store>, directory: &Path, keys: SealKeys) -> Result<Self, VaultError> {
        let key = opening::seal_key(&*store, directory, keys)?;
        Ok(Vault { store, key })
    }

    /// Seals a secret under its reference, in place of what was there.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put(&self, reference: &str, secret: &Zeroizing<String>) -> Result<(), VaultError> {
        let sealed = self.key.seal(reference, secret.as_bytes()).ok_or(VaultError::Randomness)?;
        Ok(self.store.set(Table::Secrets, reference, Some(&sealed))?)
    }

    /// Unseals a secret.
    ///
    /// # Errors
    /// When the store cannot be read, or the secret was sealed with another key.
    pub fn get(&self, reference: &str) -> Result<Option<Zeroizing<String>>, VaultError> {
        let Some(sealed) = self.store.record(Table::Secrets, reference)? else { return Ok(None) };
        let unsealable = || VaultError::Unsealable { reference: reference.to_owned(), key: self.key.to_string() };
        let secret = self.key.unseal(reference, &sealed).ok_or_else(unsealable)?;
        let text = std::str::from_utf8(&secret).map_err(|_| VaultError::NotText(reference.to_owned()))?;
        Ok(Some(Zeroizing::new(text.to_owned())))
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
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
