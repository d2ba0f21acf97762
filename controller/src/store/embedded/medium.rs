//! What a database stands on: a file, which may refuse to be written or synced.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, DatabaseError, StorageBackend};

/// So many bytes are copied at once.
const PIECE: usize = 64 * 1024;

/// Where a database's bytes are. Can be opened again, after the last opening was let go.
pub(super) trait Medium: fmt::Debug + Send + Sync {
    /// Opens it; only one at a time may have it open.
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError>;
}

/// A file.
#[derive(Debug)]
pub(super) struct FileMedium(pub(super) PathBuf);

impl FileMedium {
    /// The file, to be read and written.
    pub(super) fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.0)
    }
}

impl Medium for FileMedium {
    fn open(&self) -> Result<Box<dyn StorageBackend>, DatabaseError> {
        Ok(Box::new(FileBackend::new(self.file()?)?))
    }
}

/// A backend that remembers that a sync failed.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Box<dyn StorageBackend>,
    unsynced: Arc<AtomicBool>,
}

impl Watched {
    /// Takes up a backend after a failure. A sync that failed may have left bytes that the system shows and the disk does
    /// not have, and the system will not write them again by itself: so all of them are written anew, and synced.
    pub(super) fn resume(inner: Box<dyn StorageBackend>, unsynced: &Arc<AtomicBool>) -> io::Result<Self> {
        if unsynced.load(Ordering::Acquire) {
            rewrite(&*inner)?;
            unsynced.store(false, Ordering::Release);
        }
        Ok(Watched { inner, unsynced: Arc::clone(unsynced) })
    }
}

/// A copy in memory of what is there; nothing if somebody else has it open.
pub(super) fn copy(medium: &dyn Medium) -> Result<Option<InMemoryBackend>, DatabaseError> {
    let (backend, copy) = (medium.open()?, InMemoryBackend::new());
    let free = backend.try_lock_range(Bound::Unbounded, Bound::Unbounded);
    if matches!(free, Ok(false)) {
        return Ok(None);
    }
    let length = backend.len()?;
    copy.set_len(length)?;
    pieces(length).try_for_each(|(at, length)| {
        let mut piece = vec![0; length];
        backend.read(at, &mut piece)?;
        copy.write(at, &piece)
    })?;
    backend.close()?;
    Ok(Some(copy))
}

/// Where each piece begins, and how long it is.
fn pieces(length: u64) -> impl Iterator<Item = (u64, usize)> {
    let rest = move |at: u64| usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
    (0..length).step_by(PIECE).map(move |at| (at, rest(at)))
}

fn rewrite(backend: &dyn StorageBackend) -> io::Result<()> {
    pieces(backend.len()?).try_for_each(|(at, length)| {
        let mut piece = vec![0; length];
        backend.read(at, &mut piece)?;
        // What was never written reads as zeros, and would need room that it doesn't have yet.
        let written = piece.iter().any(|byte| *byte != 0);
        if written { backend.write(at, &piece) } else { Ok(()) }
    })?;
    backend.sync_data()
}

type Range = Bound<u64>;

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.unsynced.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
