//! The admin context: what the command line needs to speak with a controller.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use identity::files::{FileError, read_private, write_private};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::Error;
use crate::secret::{equal, random, sha256_hex};
use crate::store::{Record, Records, Store, Table};

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

/// An API token, known by the SHA-256 of its text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiToken {
    /// For people.
    name: String,
}

impl Record for ApiToken {
    const TABLE: Table = Table::ApiTokens;
}

/// The digests of the API tokens.
#[derive(Debug)]
pub(crate) struct ApiTokens(Vec<String>);

const ADMIN: &str = "admin";

impl ApiTokens {
    /// Reads the tokens, and sees to it that the file at `path` holds the admin's, with this server and CA: what it
    /// has is kept if it is right, else the admin gets a new token in place of the old one.
    pub(super) fn open(store: &Arc<dyn Store>, path: Option<&Path>, server: String, ca: String) -> Result<Self, Error> {
        let records: Records<ApiToken> = Records::new(Arc::clone(store));
        if let Some(path) = path {
            let known: Vec<String> = records.all()?.into_keys().collect();
            let old = read_admin_context(path).filter(|old| known.contains(&sha256_hex(old.token.as_bytes())));
            let token = match &old {
                Some(old) => old.token.clone(),
                None => make_admin(&records)?,
            };
            let context = AdminContext { server, ca, token };
            if old.as_ref() != Some(&context) {
                write_admin_context(path, &context)?;
                tracing::info!(path = %path.display(), "wrote the admin context");
            }
        }
        Ok(ApiTokens(records.all()?.into_keys().collect()))
    }

    /// Whether somebody was given this token.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let digest = sha256_hex(token.as_bytes());
        self.0.iter().fold(false, |found, known| found | equal(known, &digest))
    }
}

fn make_admin(records: &Records<ApiToken>) -> Result<Zeroizing<String>, Error> {
    let token = random().ok_or_else(|| Error::Internal("the system gave no randomness".to_owned()))?;
    for (digest, old) in records.all()? {
        if old.name == ADMIN {
            records.remove(&digest)?;
        }
    }
    records.put(&sha256_hex(token.as_bytes()), &ApiToken { name: ADMIN.to_owned() })?;
    Ok(token)
}
