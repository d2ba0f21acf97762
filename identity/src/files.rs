//! Files that hold secrets: 0600, replaced as a whole. The crate's only IO.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use zeroize::Zeroizing;

/// The most bytes that a file of ours has: keys, chains and bundles are far smaller.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What went wrong, with which file.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system said no.
    #[error("cannot {0} {1}: {2}")]
    Io(&'static str, PathBuf, #[source] io::Error),
    /// Others can read it.
    #[error("{0} can be read by others than its owner (mode {1:o}); its keys may be known: replace them, or chmod 600")]
    Exposed(PathBuf, u32),
    /// Not a file of ours.
    #[error("{0} has more than {MAX_FILE} bytes")]
    TooLong(PathBuf),
}

/// Write a file that only its owner can read, so that a crash at any moment leaves the old or the new one whole.
///
/// # Errors
/// When the folder or the file cannot be written; the old file is then untouched.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary); // it may never have been made
        return Err(FileError::Io("write", path.into(), error));
    }
    sync_folder(path).map_err(|e| FileError::Io("sync the folder of", path.into(), e))
}

/// Read such a file into memory that is wiped.
///
/// # Errors
/// When it cannot be read, is too long, or others than its owner may read it.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |e| FileError::Io("read", path.into(), e);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed(path.into(), mode));
    }
    if metadata.len() > MAX_FILE {
        return Err(FileError::TooLong(path.into()));
    }
    // Full size at once: a buffer that grows leaves copies behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(MAX_FILE).read_to_end(&mut contents).map_err(failed)?;
    Ok(contents)
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// A name that no other writer uses, in the same folder, because only there a rename is atomic.
fn temporary_beside(path: &Path) -> PathBuf {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{}.tmp", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(*read_private(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn an_exposed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write_private(&path, b"key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_private(&path), Err(FileError::Exposed(_, 0o644))));
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_private(folder.path(), b"x").is_err(), "a folder was replaced");
        assert!(write_private(&folder.path().join("no/such"), b"x").is_err());
    }
}
