//! What is wrong with a manifest.

use std::fmt;
use std::sync::Arc;

use crate::resource::ResourceId;
use crate::validate::Fault;

/// One thing that is wrong in what people wrote: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, or what else the text came from.
    pub source: Arc<str>,
    /// The line, from 1, where there is text.
    pub line: Option<usize>,
    /// The resource, as far as it can be told.
    pub id: Option<ResourceId>,
    /// Where in the manifest, what is wrong there, and what to do.
    pub fault: Fault,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(id) = &self.id {
            write!(f, ": {id}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for ManifestError {}
