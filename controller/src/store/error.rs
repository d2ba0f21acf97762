//! Why the store cannot do what it should.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use thiserror::Error;

/// What to do about a store that is lost or damaged.
const REMEDY: &str = "restore it from a backup (`tombolo restore`), with the key that seals it. Without a backup, move \
                      the whole state directory away and start anew: that makes a new CA, so clusters join again";

/// Why the store cannot do what it should.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the database {0} is in use by another process: is a controller of this state directory running already?")]
    InUse(PathBuf),
    /// Its content makes no sense.
    #[error("the database {path} is damaged ({reason}): {REMEDY}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It isn't there, and once was.
    #[error("the database {path} is gone, though {trace} says that there was one: {REMEDY}")]
    Gone {
        /// The file.
        path: PathBuf,
        /// What tells of it.
        trace: PathBuf,
    },
    /// Others may read it.
    #[error(
        "the database {0} can be used by others than its owner (mode {1:o}): chmod 600, and consider whether somebody \
         has a copy of the tokens' digests and the sealed secrets in it"
    )]
    Exposed(PathBuf, u32),
    /// Written by a newer version.
    #[error(
        "the database {path} has format {found}, this version of tombolo reads {expected}: use the newer version; \
         nothing in it was changed"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What the file has.
        found: u64,
        /// What we read.
        expected: u64,
    },
    /// The system said no.
    #[error("cannot use the database {path}: {source}{}", remedy(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A change was not written, and the store is as it was.
    #[error("nothing was changed, because the database {path} cannot be written: {source}{}", remedy(.source))]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A change failed on its way to the disk, and the store cannot be read again to see whether it counts.
    #[error(
        "whether this was changed is not known before the database {path} can be read again: writing it failed \
         ({source}){}. `tombolo history` tells then; if it isn't there, repeat it", remedy(.source)
    )]
    Doubtful {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else was faster.
    #[error(
        "the desired state is at revision {head}, not {expected}, because somebody changed it meanwhile: try again"
    )]
    Overtaken {
        /// Where the writer thought it was.
        expected: u64,
        /// Where it is.
        head: u64,
    },
    /// A revision that isn't kept.
    #[error("there is no revision {asked} any more or yet: {oldest} to {head} are kept (`tombolo history`)")]
    NoRevision {
        /// What was asked for.
        asked: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        head: u64,
    },
}

impl StoreError {
    /// Why the disk doesn't do what it should, where it is that.
    #[must_use]
    pub fn disk(&self) -> Option<&io::Error> {
        match self {
            StoreError::Io { source, .. }
            | StoreError::Unwritten { source, .. }
            | StoreError::Doubtful { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Whether the system has no more room to write to.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What to do about a disk that refuses.
#[must_use]
pub fn remedy(error: &io::Error) -> &'static str {
    match is_full(error) {
        true => "; make room on that disk: reading and traffic go on meanwhile, and writing does by itself afterwards",
        false => "",
    }
}
