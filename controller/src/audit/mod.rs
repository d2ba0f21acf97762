//! Who did what, when and from where: one JSON line for each change and for each certificate.
//!
//! A line is on disk *before* what it tells takes effect, and what cannot be written down is not done. So a line may
//! tell of something that failed right after it, as when the database could not be written; the next line says so.
//! Lines name resources and serial numbers, never secrets.

mod entry;
mod log;

pub use entry::Entry;
pub use log::{AuditError, AuditLog, read};
