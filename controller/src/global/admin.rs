//! The admin context: what the command line needs to speak with a controller.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use identity::files::{FileError, read_private, write_private};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::core::Core;
use super::error::Error;

/// Where a controller is, how it is known, and the token that it knows. Has no `Debug`: the token belongs in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminContext {
    /// `https://HOST:PORT`.
    pub server: String,
    /// The top-level CA's certificate in PEM.
    pub ca: String,
    /// The API token.
    pub token: Zeroizing<String>,
}

/// Writes an admin context, 0600, and makes its folder when it is absent.
///
/// # Errors
/// When the file or its folder cannot be written.
pub fn write_admin_context(path: &Path, context: &AdminContext) -> Result<(), FileError> {
    let io = |error| FileError::Io("write", path.to_owned(), error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    }
    let json = serde_json::to_vec_pretty(context).map_err(|error| io(std::io::Error::other(error)))?;
    write_private(path, &Zeroizing::new(json))
}

/// Reads what [`write_admin_context`] wrote; `None` when there is nothing sound.
#[must_use]
pub fn read_admin_context(path: &Path) -> Option<AdminContext> {
    serde_json::from_slice(&read_private(path).ok()?).ok()
}

/// Sees to it that the file holds the admin's token, with this server and CA: what it has is kept if it is right, else
/// the admin gets a new token in place of the old one.
pub(super) fn ensure_admin(core: &Core, path: &Path, server: String) -> Result<(), Error> {
    let old = read_admin_context(path).filter(|old| core.api_tokens.knows(&old.token));
    let token = match &old {
        Some(old) => old.token.clone(),
        None => core.replace_admin_token()?,
    };
    let context = AdminContext { server, ca: core.ca_pem(), token };
    if old.as_ref() != Some(&context) {
        write_admin_context(path, &context)?;
        tracing::info!(path = %path.display(), "wrote the admin context");
    }
    Ok(())
}
