//! The files of the audit log: the newest has the given name, older ones `.1`, `.2`, … after it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Entry;
use crate::store::remedy;

/// So many bytes has a file at the most before a new one is begun.
const FULL: u64 = 8 * 1024 * 1024;
/// So many older files are kept; the oldest goes when there are more.
const OLDER: u32 = 8;

/// Why something could not be written down, and was therefore not done.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {path} cannot be {what}: {source}; nothing is done that isn't written down there{}", remedy(.source))]
pub struct AuditError {
    path: PathBuf,
    what: &'static str,
    #[source]
    source: io::Error,
}

/// The audit log of one process.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    full: u64,
    file: Mutex<File>,
}

impl AuditLog {
    /// Opens the log, 0600, and makes it if it is absent.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: PathBuf) -> Result<Self, AuditError> {
        Self::with_size(path, FULL)
    }

    fn with_size(path: PathBuf, full: u64) -> Result<Self, AuditError> {
        let file = open(&path).and_then(|mut file| end_line(&mut file).map(|()| file));
        let file = file.map_err(|source| AuditError { path: path.clone(), what: "opened", source })?;
        Ok(AuditLog { path, full, file: Mutex::new(file) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line; it is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// When it isn't.
    pub fn record(&self, entry: &Entry) -> Result<(), AuditError> {
        let failed = |source| AuditError { path: self.path.clone(), what: "written", source };
        let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.make_room(&mut file, line.len() as u64).and_then(|()| append(&mut file, &line));
        written.and_then(|()| file.sync_data()).map_err(failed)
    }

    fn make_room(&self, file: &mut File, wanted: u64) -> io::Result<()> {
        if file.metadata()?.len().saturating_add(wanted) <= self.full {
            return Ok(());
        }
        for number in (0..OLDER).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        *file = open(&self.path)?;
        Ok(())
    }
}

/// The whole line, or nothing of it: on a full disk the first half of a line may find room.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(line).inspect_err(|_| {
        _ = file.set_len(before); // else the line is ended at the next opening, and left out
    })
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Whoever widened it, nobody else shall read on.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A crash may have left half a line: the next begins on its own.
fn end_line(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// The newest entries of a log, at most `limit`, the oldest of them first. A line that is damaged is left out. Blocks.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn read(path: &Path, limit: usize) -> Result<Vec<Entry>, AuditError> {
    let mut newest = VecDeque::new();
    for number in (0..=OLDER).rev() {
        let path = numbered(path, number);
        read_file(&path, limit, &mut newest).map_err(|source| AuditError { path, what: "read", source })?;
    }
    Ok(newest.into())
}

fn read_file(path: &Path, limit: usize, newest: &mut VecDeque<Entry>) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(entry) = serde_json::from_slice(&line?) {
            newest.push_back(entry);
        }
        if newest.len() > limit {
            newest.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn entry(number: usize) -> Entry {
        Entry::new("ada", "apply").on(format!("Cluster/c{number}")).detail("revision", number)
    }

    #[test]
    fn what_was_written_is_read_back_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::with_size(path.clone(), 1000).unwrap();
        (0..200).for_each(|number| log.record(&entry(number)).unwrap());
        let kept = read(&path, usize::MAX).unwrap();
        assert_eq!(kept.last().unwrap().on, ["Cluster/c199"]);
        assert!(kept.len() > 50 && kept.len() < 150, "{}: some are kept, and not all", kept.len());
        let files = fs::read_dir(folder.path()).unwrap().flatten();
        let modes: Vec<u32> = files.map(|file| file.metadata().unwrap().permissions().mode() & 0o777).collect();
        assert!(modes.len() == 1 + OLDER as usize && modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
        assert_eq!(read(&path, 3).unwrap(), kept[kept.len() - 3..]);
    }

    #[test]
    fn half_a_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        AuditLog::open(path.clone()).unwrap().record(&entry(1)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        AuditLog::open(path.clone()).unwrap().record(&entry(2)).unwrap();
        let on: Vec<_> = read(&path, 9).unwrap().into_iter().flat_map(|entry| entry.on).collect();
        assert_eq!(on, ["Cluster/c1", "Cluster/c2"]);
    }
}
