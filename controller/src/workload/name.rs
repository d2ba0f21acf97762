//! Which workload is meant, and who it is on this machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use config::resource::Name;

/// The namespace of a service that is named without one.
const DEFAULT_NAMESPACE: &str = "default";

/// A service of the own cluster, written `NAMESPACE/NAME`, or `NAME` for one in the namespace `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: Name,
    /// The service.
    pub name: Name,
}

/// Why a text names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no service: write NAMESPACE/NAME, or NAME for one in the namespace {DEFAULT_NAMESPACE}")]
pub struct ServiceNameError(String);

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        let part = |part: &str| part.parse().map_err(|_| ServiceNameError(text.to_owned()));
        Ok(ServiceName { namespace: part(namespace)?, name: part(name)? })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What an operator says of a workload on the agent's machine, written `[NAMESPACE/]NAME,uid=UID[,dir=DIR]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The service of which it is an instance.
    pub service: ServiceName,
    /// The user as whom it runs: by this the system vouches for it.
    pub uid: u32,
    /// Where its identity is kept for it, if it wants files.
    pub directory: Option<PathBuf>,
}

/// Why a text declares no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// The service.
    #[error(transparent)]
    Service(#[from] ServiceNameError),
    /// No user.
    #[error("{0:?} doesn't say which user the workload runs as: add ,uid=UID")]
    NoUser(String),
    /// A user that is no number.
    #[error("{0:?} is no user's number: `id -u USER` tells it")]
    User(String),
    /// Something else.
    #[error("{0:?} is neither uid=UID nor dir=DIR, or stands there twice")]
    Unknown(String),
    /// A path that depends on where the agent was started.
    #[error("{0:?} is no absolute path")]
    Directory(String),
}

impl FromStr for Declaration {
    type Err = DeclarationError;

    fn from_str(text: &str) -> Result<Self, DeclarationError> {
        let mut parts = text.split(',');
        let service = parts.next().unwrap_or_default().parse()?;
        let (mut uid, mut directory) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("uid", number)) if uid.is_none() => {
                    uid = Some(number.parse().map_err(|_| DeclarationError::User(number.to_owned()))?);
                }
                Some(("dir", path)) if directory.is_none() => directory = Some(absolute(path)?),
                _ => return Err(DeclarationError::Unknown(part.to_owned())),
            }
        }
        let uid = uid.ok_or_else(|| DeclarationError::NoUser(text.to_owned()))?;
        Ok(Declaration { service, uid, directory })
    }
}

fn absolute(path: &str) -> Result<PathBuf, DeclarationError> {
    let found = PathBuf::from(path);
    if found.is_absolute() { Ok(found) } else { Err(DeclarationError::Directory(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_declaration_says_who_a_user_is() {
        let cart: Declaration = "shop/cart,uid=1001,dir=/run/cart".parse().unwrap();
        assert_eq!((cart.service.to_string().as_str(), cart.uid), ("shop/cart", 1001));
        assert_eq!(cart.directory, Some("/run/cart".into()));
        let short: Declaration = "cart,uid=0".parse().unwrap();
        assert_eq!((short.service.to_string().as_str(), short.directory), ("default/cart", None));
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        let fault = |text: &str| text.parse::<Declaration>().unwrap_err();
        assert!(matches!(fault("cart"), DeclarationError::NoUser(_)));
        assert!(matches!(fault("cart,uid=ada"), DeclarationError::User(_)));
        assert!(matches!(fault("cart,uid=-1"), DeclarationError::User(_)));
        assert!(matches!(fault("cart,uid=1,uid=2"), DeclarationError::Unknown(_)));
        assert!(matches!(fault("cart,uid=1,gid=2"), DeclarationError::Unknown(_)));
        assert!(matches!(fault("cart,uid=1,dir=run"), DeclarationError::Directory(_)));
        assert!(matches!(fault("a/b/c,uid=1"), DeclarationError::Service(_)));
        assert!(matches!(fault("../cart,uid=1"), DeclarationError::Service(_)));
    }
}
