//! The directory that holds a workload's identity: always one whole set of files, whenever it is read.
//!
//! ```text
//! cert.pem -> .current/cert.pem        the workload's certificate, and its issuing CA's
//! key.pem -> .current/key.pem          its private key, 0600
//! bundle.pem -> .current/bundle.pem    the roots of its GNS
//! federated -> .current/federated      those of each other GNS in which it may call something: TRUST-DOMAIN.pem
//! .current -> .set-…                   replaced by rename
//! ```
//!
//! Where the workload runs as another user than the agent, only the files are given to that user. The directory
//! stays the agent's: whoever could write into it could send the agent's writes elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

/// What the files hold, all in PEM.
pub struct Files<'f> {
    /// The chain, leaf first.
    pub chain: &'f str,
    /// The leaf's private key.
    pub key: &'f str,
    /// The roots.
    pub bundle: &'f str,
    /// Those of other trust domains, by their names.
    pub federated: &'f BTreeMap<String, String>,
}

/// Why a directory cannot hold an identity.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system said no.
    #[error("cannot {0} {1}: {2}")]
    Io(&'static str, PathBuf, #[source] io::Error),
    /// Others could send our writes elsewhere.
    #[error(
        "others than its owner can write into {0} (mode {1:o}), or its owner is another than this process's user: \
         chown and chmod it, or let the agent make it"
    )]
    Shared(PathBuf, u32),
    /// Files cannot be given away.
    #[error(
        "user {1} shall have the files in {0}, and this process may not give files away: run it as root, or as that \
         user, or let the workload use the socket"
    )]
    GiveAway(PathBuf, u32, #[source] io::Error),
}

const NAMES: [&str; 3] = ["cert.pem", "key.pem", "bundle.pem"];
const FEDERATED: &str = "federated";
const CURRENT: &str = ".current";
const SET: &str = ".set-";

/// Makes the directory if it is absent, and tries whether it can hold an identity of that user; `None` is this
/// process's own.
///
/// # Errors
/// When it cannot.
pub fn prepare(directory: &Path, uid: Option<u32>) -> Result<(), DirectoryError> {
    let failed = |what| move |error| DirectoryError::Io(what, directory.to_owned(), error);
    make_readable(directory).map_err(failed("make"))?;
    let trial = directory.join(".trial");
    let _ = fs::remove_file(&trial); // a crash may have left it
    let (own, given) = match new_file(&trial, 0o600) {
        Ok(file) => (file.metadata().map(|metadata| metadata.uid()), give(&file, &trial, uid)),
        Err(error) => return Err(failed("write into")(error)),
    };
    let _ = fs::remove_file(&trial);
    given?;
    let metadata = fs::symlink_metadata(directory).map_err(failed("look at"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    match metadata.is_dir() && mode & 0o022 == 0 && own.is_ok_and(|own| own == metadata.uid()) {
        true => Ok(()),
        false => Err(DirectoryError::Shared(directory.to_owned(), mode)),
    }
}

/// Puts an identity there in place of the last, in one step. Whoever reads meanwhile may still open the last set.
///
/// # Errors
/// When something cannot be written; the last set is then untouched.
pub fn write(directory: &Path, uid: Option<u32>, files: &Files<'_>) -> Result<(), DirectoryError> {
    prepare(directory, uid)?;
    let set = format!("{SET}{}", OffsetDateTime::now_utc().unix_timestamp_nanos());
    let folder = directory.join(&set);
    let written = write_set(&folder, uid, files).and_then(|()| point(directory, CURRENT, Path::new(&set)));
    if written.is_err() {
        let _ = fs::remove_dir_all(&folder); // it may never have been made
        return written;
    }
    for name in NAMES.into_iter().chain([FEDERATED]) {
        let target = Path::new(CURRENT).join(name);
        if fs::read_link(directory.join(name)).ok().as_ref() != Some(&target) {
            point(directory, name, &target)?;
        }
    }
    remove_old_sets(directory);
    Ok(())
}

fn write_set(folder: &Path, uid: Option<u32>, files: &Files<'_>) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io("make", folder.to_owned(), error);
    make_readable(folder).map_err(failed)?;
    for (name, text) in NAMES.into_iter().zip([files.chain, files.key, files.bundle]) {
        let mode = if name == "key.pem" { 0o600 } else { 0o644 };
        write_file(&folder.join(name), mode, text, uid)?;
    }
    let federated = folder.join(FEDERATED);
    make_readable(&federated).map_err(failed)?;
    for (domain, roots) in files.federated {
        write_file(&federated.join(format!("{domain}.pem")), 0o644, roots, uid)?;
    }
    for folder in [&federated, folder] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

fn write_file(path: &Path, mode: u32, text: &str, uid: Option<u32>) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io("write", path.to_owned(), error);
    let mut file = new_file(path, mode).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    give(&file, path, uid)
}

/// Makes a directory that the workload can look into, whatever this process's umask is; one that is there stays as it is.
pub(crate) fn make_readable(directory: &Path) -> io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// By descriptor, so that what is given away is what was made.
fn give(file: &File, path: &Path, uid: Option<u32>) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io("look at", path.to_owned(), error);
    let own = file.metadata().map_err(failed)?.uid();
    match uid.filter(|uid| *uid != own) {
        Some(uid) => {
            let folder = path.parent().unwrap_or(path).to_owned();
            fchown(file, Some(uid), None).map_err(|error| DirectoryError::GiveAway(folder, uid, error))
        }
        None => Ok(()),
    }
}

/// Makes a link, or turns it elsewhere, by rename.
fn point(directory: &Path, name: &str, target: &Path) -> Result<(), DirectoryError> {
    let (link, new) = (directory.join(name), directory.join(format!(".new-{}", name.trim_start_matches('.'))));
    let failed = |error| DirectoryError::Io("write", link.clone(), error);
    let _ = fs::remove_file(&new); // a crash may have left it
    symlink(target, &new).and_then(|()| fs::rename(&new, &link)).map_err(failed)?;
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// All but the current set and the one before it, which somebody may be reading.
fn remove_old_sets(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut sets: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    sets.retain(|name| name.starts_with(SET));
    sets.sort_by_key(|name| (name.len(), name.clone())); // by their number, the oldest first
    let old = sets.len().saturating_sub(2);
    for set in sets.into_iter().take(old) {
        if let Err(error) = fs::remove_dir_all(directory.join(&set)) {
            tracing::warn!(directory = %directory.display(), set, %error, "an old identity could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(directory: &Path) -> [String; 3] {
        NAMES.map(|name| fs::read_to_string(directory.join(name)).unwrap())
    }

    static NONE: BTreeMap<String, String> = BTreeMap::new();

    fn files(number: &str) -> Files<'_> {
        Files { chain: number, key: number, bundle: number, federated: &NONE }
    }

    #[test]
    fn roots_of_others_come_and_go_with_the_set() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("cart");
        let federated = BTreeMap::from([("bank.mesh".to_owned(), "roots".to_owned())]);
        write(&directory, None, &Files { federated: &federated, ..files("1") }).unwrap();
        assert_eq!(fs::read_to_string(directory.join("federated/bank.mesh.pem")).unwrap(), "roots");
        write(&directory, None, &files("2")).unwrap();
        assert_eq!(fs::read_dir(directory.join("federated")).unwrap().count(), 0);
    }

    #[test]
    fn a_reader_sees_one_set_whole_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run/cart");
        for number in ["1", "2", "3", "4"] {
            write(&directory, None, &files(number)).unwrap();
            assert_eq!(read(&directory), [number; 3]);
        }
        let sets = fs::read_dir(&directory).unwrap().flatten();
        let sets = sets.filter(|entry| entry.file_name().to_string_lossy().starts_with(SET)).count();
        assert_eq!(sets, 2, "the current set, and the one before it");
        let mode = fs::metadata(directory.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = write(folder.path(), None, &files("1"));
        assert!(matches!(refused, Err(DirectoryError::Shared(_, 0o777))), "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left there");
    }

    #[test]
    fn what_stood_there_under_a_files_name_is_replaced_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (directory, elsewhere) = (folder.path().join("cart"), folder.path().join("elsewhere"));
        fs::create_dir(&directory).unwrap();
        fs::write(&elsewhere, "mine").unwrap();
        symlink(&elsewhere, directory.join("key.pem")).unwrap();
        write(&directory, None, &files("1")).unwrap();
        assert_eq!(
            (read(&directory), fs::read_to_string(&elsewhere).unwrap()),
            (["1"; 3].map(String::from), "mine".into())
        );
    }
}
