//! The last good world on disk, so that a restarted process serves with nobody in reach.
//!
//! ```text
//! world.json         the world, then a line with its SHA-256
//! secrets/<ref>.pem  one private key each
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::resource::SecretRef;
use config::wire::{Entries, RevisionPair, Secret};
use identity::files::{FileError, read_private, write_private};
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::Published;
use super::secrets::{self, hex};

/// No more than one write in this time, however fast the world changes.
const PAUSE: Duration = Duration::from_millis(200);
/// A large world takes long to write: after each write there is none for so many times as long.
const REST: u32 = 20;

/// The world as the file has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    revision: RevisionPair,
    entries: Arc<Entries>,
    #[serde(default, skip_serializing_if = "nothing")]
    understood: Arc<Entries>,
}

fn nothing(entries: &Entries) -> bool {
    entries.is_empty()
}

/// Where a process keeps the last good world.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in a process's state directory, which is made if it isn't there.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        make_private_dir(&folder.join("secrets"))?;
        Ok(Cache { folder: folder.to_owned() })
    }

    /// What was last kept. What is damaged is set aside and named in the log.
    pub fn load(&self) -> Option<Published> {
        let Kept { revision, entries, understood } = read_checked(&self.folder.join("world.json"))?;
        let secrets = Arc::new(self.load_secrets());
        Some(Published { revision, entries, understood, secrets })
    }

    /// Keeps this world in place of what was kept before: keys first, so that no certificate is without its own.
    ///
    /// # Errors
    /// When a file cannot be written. The old world is then still whole.
    pub fn store(&self, world: &Published) -> Result<(), FileError> {
        for secret in world.secrets.values() {
            let path = self.secret_path(secret.reference());
            if !path.exists() {
                write_private(&path, secret.pem().as_bytes())?;
            }
        }
        let (entries, understood) = (world.entries.clone(), world.understood.clone());
        let kept = Kept { revision: world.revision, entries, understood };
        write_checked(&self.folder.join("world.json"), &kept)?;
        self.remove_secrets_beside(&world.secrets);
        Ok(())
    }

    /// Keeps each new world, until its sender is gone.
    pub async fn keep(self, mut world: watch::Receiver<Option<Arc<Published>>>) {
        while world.changed().await.is_ok() {
            let newest = world.borrow_and_update().clone();
            let (cache, stored, begun) = (self.clone(), newest, Instant::now());
            let write = move || stored.map_or(Ok(()), |world| cache.store(&world));
            if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
                tracing::error!(%error, "the last good world could not be kept on disk");
            }
            tokio::time::sleep(PAUSE.max(begun.elapsed() * REST)).await;
        }
    }

    fn secret_path(&self, reference: &SecretRef) -> PathBuf {
        self.folder.join("secrets").join(format!("{}.pem", reference.key_sha256))
    }

    fn secret_files(&self) -> Vec<(SecretRef, PathBuf)> {
        let files = fs::read_dir(self.folder.join("secrets")).into_iter().flatten().flatten().map(|file| file.path());
        let named = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".pem")?.to_owned();
            Some((SecretRef { key_sha256: name.into() }, path))
        };
        files.filter_map(named).collect()
    }

    fn load_secrets(&self) -> BTreeMap<SecretRef, Secret> {
        let load = |(reference, path): (SecretRef, PathBuf)| match load_secret(&reference, &path) {
            Ok(secret) => Some((reference, secret)),
            Err(reason) => {
                set_aside(&path, &reason);
                None
            }
        };
        self.secret_files().into_iter().filter_map(load).collect()
    }

    fn remove_secrets_beside(&self, wanted: &BTreeMap<SecretRef, Secret>) {
        for (_, path) in self.secret_files().into_iter().filter(|(reference, _)| !wanted.contains_key(reference)) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a key that nothing needs could not be removed");
            }
        }
    }
}

fn load_secret(reference: &SecretRef, path: &Path) -> Result<Secret, String> {
    let bytes = read_private(path).map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
    let secret = Secret::new(reference.clone(), Zeroizing::new(text.to_owned()));
    secrets::check(&secret).map_err(|e| e.to_string())?;
    Ok(secret)
}

/// Makes a directory that only its owner can enter, with those above it.
///
/// # Errors
/// When it cannot be made.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| FileError::Io("make the directory", path.into(), e))
}

/// Writes a value with its checksum, 0600, so that a crash leaves the old or the new one whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write_checked(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let failed = |e: serde_json::Error| FileError::Io("write", path.into(), e.into());
    let mut text = serde_json::to_string(value).map_err(failed)?;
    let checksum = hex(digest(&SHA256, text.as_bytes()).as_ref());
    text.push('\n');
    text.push_str(&checksum);
    write_private(path, text.as_bytes())
}

/// Reads such a value. Nothing, if there is none; a damaged file is renamed `NAME.damaged` and named in the log.
pub fn read_checked<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a file of the state directory cannot be read");
            return None;
        }
    };
    let value = checked(&text).and_then(|json| serde_json::from_slice(json).map_err(|e| e.to_string()));
    value.map_err(|reason| set_aside(path, &reason)).ok()
}

fn checked(text: &[u8]) -> Result<&[u8], String> {
    let end = text.iter().rposition(|byte| *byte == b'\n').ok_or("it is cut off")?;
    let (json, checksum) = text.split_at(end);
    match checksum.get(1..) == Some(hex(digest(&SHA256, json).as_ref()).as_bytes()) {
        true => Ok(json),
        false => Err("its checksum is wrong".into()),
    }
}

/// Renames a damaged file, so that it can be looked at and does no more harm.
pub fn set_aside(path: &Path, reason: &str) {
    let mut aside = OsString::from(path);
    aside.push(".damaged");
    let renamed = fs::rename(path, &aside);
    tracing::error!(path = %path.display(), reason, ?renamed, "a file is damaged; set aside as NAME.damaged");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sync::secrets::reference_of;
    use identity::PrivateKey;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn world() -> Published {
        let key = PrivateKey::generate().unwrap().to_pem();
        let reference = reference_of(&key).unwrap();
        let revision = RevisionPair { global: 7, ..RevisionPair::default() };
        let entries = Arc::new(Entries::from([("a", json!({"b": 1}).into())]));
        let secrets = Arc::new(BTreeMap::from([(reference.clone(), Secret::new(reference, key))]));
        Published { revision, entries, secrets, ..Published::default() }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, world) = (Cache::open(folder.path()).unwrap(), world());
        assert!(cache.load().is_none());
        cache.store(&world).unwrap();
        let loaded = Cache::open(folder.path()).unwrap().load().unwrap();
        assert_eq!((loaded.revision, &loaded.entries), (world.revision, &world.entries));
        assert_eq!(loaded.secrets.keys().collect::<Vec<_>>(), world.secrets.keys().collect::<Vec<_>>());
        let (_, path) = cache.secret_files().remove(0);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        cache.store(&Published::default()).unwrap();
        assert!(cache.secret_files().is_empty());
    }

    #[test]
    fn what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (Cache::open(folder.path()).unwrap(), folder.path().join("world.json"));
        cache.store(&world()).unwrap();
        let text = fs::read_to_string(&path).unwrap().replace('7', "8");
        fs::write(&path, text).unwrap();
        assert!(cache.load().is_none());
        assert!(!path.exists() && folder.path().join("world.json.damaged").exists());
    }

    #[test]
    fn another_key_under_a_secrets_name_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.store(&world()).unwrap();
        let (_, path) = cache.secret_files().remove(0);
        write_private(&path, PrivateKey::generate().unwrap().to_pem().as_bytes()).unwrap();
        assert!(cache.load().unwrap().secrets.is_empty());
        assert!(!path.exists());
    }
}
