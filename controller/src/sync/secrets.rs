//! What is asked of secrets on their way: that they are what they say they are, and that somebody needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::resource::SecretRef;
use config::wire::{Entries, Json, Secret};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring::sign::any_supported_type;
use serde_json::Value;

/// The field of a reference.
const NAME: &str = "keySha256";

/// Why a secret is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum SecretError {
    #[error("the secret {0} is no private key of a type that TLS can use")]
    NotAKey(Arc<str>),
    #[error("the secret that is sent as {0} is the key with SHA-256 {1}")]
    Foreign(Arc<str>, Arc<str>),
}

/// Whether the key is the one that its reference means.
///
/// # Errors
/// When it is another, or none.
pub fn check(secret: &Secret) -> Result<(), SecretError> {
    let wanted = &secret.reference().key_sha256;
    let found = reference_of(secret.pem()).ok_or_else(|| SecretError::NotAKey(wanted.clone()))?;
    match found.key_sha256 == *wanted {
        true => Ok(()),
        false => Err(SecretError::Foreign(wanted.clone(), found.key_sha256)),
    }
}

/// By which reference a private key in PEM is found; `None` when it is no key that TLS can use.
pub fn reference_of(pem: &str) -> Option<SecretRef> {
    let key = any_supported_type(&*identity::pem::decode_key(pem).ok()?).ok()?;
    Some(SecretRef { key_sha256: hex(digest(&SHA256, key.public_key()?.as_ref()).as_ref()).into() })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keeps what an entry names: a secret lives no longer than the certificates that need it.
pub fn retain_named(secrets: &mut BTreeMap<SecretRef, Secret>, entries: &Entries) {
    let mut named = BTreeSet::new();
    entries.values().for_each(|value| named.extend(names(value)));
    secrets.retain(|reference, _| named.contains(&*reference.key_sha256));
}

/// Whether the entry names a secret.
pub fn names_any(value: &Json) -> bool {
    !names(value).is_empty()
}

/// The names are what this is about: most entries have none, and needn't be read.
fn names(value: &Json) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    if value.as_str().contains(NAME)
        && let Ok(value) = value.read()
    {
        collect_names(&value, &mut named);
    }
    named
}

/// Entries are unread here, and may be newer than this program: whatever looks like a reference is one.
fn collect_names(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            named.extend(fields.get(NAME).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect_names(value, named));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_names(value, named)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use identity::PrivateKey;
    use serde_json::json;

    #[test]
    fn only_the_key_that_is_meant_is_taken() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let reference = reference_of(&key.to_pem()).unwrap();
        assert_eq!(check(&Secret::new(reference.clone(), key.to_pem())), Ok(()));
        let foreign = check(&Secret::new(reference.clone(), other.to_pem()));
        assert!(matches!(foreign, Err(SecretError::Foreign(..))));
        let garbage = check(&Secret::new(reference, String::from("no key").into()));
        assert!(matches!(garbage, Err(SecretError::NotAKey(_))));
    }

    #[test]
    fn what_nobody_names_is_dropped() {
        let secret = |name: &str| {
            let reference = SecretRef { key_sha256: name.into() };
            (reference.clone(), Secret::new(reference, String::new().into()))
        };
        let mut secrets = BTreeMap::from([secret("named"), secret("foreign")]);
        let entries = Entries::from([("c", json!({"a": [{"secretRef": {"keySha256": "named"}}]}).into())]);
        retain_named(&mut secrets, &entries);
        assert_eq!(secrets.keys().map(|r| &*r.key_sha256).collect::<Vec<_>>(), ["named"]);
    }
}
