//! Where the desired state is kept: a log of revisions, each an immutable blob that one compare-and-set of the head
//! makes visible. So a batch of any size is atomic, on an embedded database as on a replicated one.
//!
//! Beside the log stand small [`Records`] of what is not desired state: tokens, enrolments, sealed secrets.

mod contents;
mod embedded;
mod error;
mod history;
mod records;
mod revision;

use std::collections::BTreeMap;
use std::fmt;

pub use contents::{BackupError, Contents};
pub use embedded::{EmbeddedStore, HISTORY};
pub use error::{StoreError, is_full, remedy};
pub use history::{Changed, History, Page, Row};
pub use records::{Record, Records};
pub use revision::{Desired, Gap, Owner, Revision, Stored};

/// Which small records: each is a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Join tokens, by the SHA-256 of their secret.
    Tokens,
    /// Which clusters are enrolled, by name.
    Enrolments,
    /// The opaque names of gateways, by `GNS/cluster`.
    Labels,
    /// API tokens, by the SHA-256 of the token.
    ApiTokens,
    /// GNS CAs' certificates as the top-level CA signed them, by `GNS/fingerprint`: for audit. And that of a top-level
    /// CA as the one before it signed it, by `@top-level/fingerprint`.
    CrossSigned,
    /// Certificates for public hosts, by `GNS/public service`.
    HostCertificates,
    /// How far the rotation of each root is: `gns/NAME` and `top-level`.
    Rotations,
    /// Who is believed no longer, by how people name them.
    Revocations,
    /// Sealed secrets, by reference.
    Secrets,
    /// Which key seals them.
    Seals,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Tokens => "tokens",
            Table::Enrolments => "enrolments",
            Table::Labels => "labels",
            Table::ApiTokens => "apiTokens",
            Table::CrossSigned => "crossSigned",
            Table::HostCertificates => "hostCertificates",
            Table::Rotations => "rotations",
            Table::Revocations => "revocations",
            Table::Secrets => "secrets",
            Table::Seals => "seals",
        }
    }
}

/// What a record shall be.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: String,
    /// Its content; `None` to remove it.
    pub value: Option<Vec<u8>>,
}

/// What keeps revisions and records. Each call is one transaction and is on disk when it returns; calls block. What
/// fails has changed nothing, but where the error is [`StoreError::Doubtful`].
pub trait Store: fmt::Debug + Send + Sync {
    /// The whole desired state.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> Result<Desired, StoreError>;

    /// The revision of the desired state.
    ///
    /// # Errors
    /// When it cannot be read.
    fn head(&self) -> Result<u64, StoreError>;

    /// The newest revisions before one, or of all; at most so many, and fewer where they are long.
    ///
    /// # Errors
    /// When they cannot be read.
    fn page(&self, before: Option<u64>, limit: usize) -> Result<Page, StoreError>;

    /// The desired state at an earlier revision.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] when there is none, or none any more; when it cannot be read.
    fn at(&self, revision: u64) -> Result<Desired, StoreError>;

    /// All that is in it, as of one moment.
    ///
    /// # Errors
    /// When it cannot be read.
    fn contents(&self) -> Result<Contents, StoreError>;

    /// Appends a revision if the head is still `expected`, and returns the new head.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when the head is another, and then nothing is written.
    fn append(&self, expected: u64, revision: &Revision) -> Result<u64, StoreError>;

    /// All records of a table, by key.
    ///
    /// # Errors
    /// When they cannot be read.
    fn records(&self, table: Table) -> Result<BTreeMap<String, Vec<u8>>, StoreError>;

    /// One record.
    ///
    /// # Errors
    /// When it cannot be read.
    fn record(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets a record (`None` removes it) if it still is `expected`; says whether it was.
    ///
    /// # Errors
    /// When it cannot be written.
    fn swap(&self, table: Table, key: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<bool, StoreError>;

    /// Sets records, whatever they were: all of them, or none.
    ///
    /// # Errors
    /// When they cannot be written.
    fn change(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Sets a record (`None` removes it), whatever it was.
    ///
    /// # Errors
    /// When it cannot be written.
    fn set(&self, table: Table, key: &str, new: Option<&[u8]>) -> Result<(), StoreError> {
        loop {
            let old = self.record(table, key)?;
            if self.swap(table, key, old.as_deref(), new)? {
                return Ok(());
            }
        }
    }
}
