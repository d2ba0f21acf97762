//! Keys that seal, and where operators keep them.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use identity::files::{self, FileError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The key's length in bytes.
const LEN: usize = 32;
/// What a key's name is made of, besides the key.
const NAME: &[u8] = b"tombolo seal key name 1";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum SealKeyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} is no sealing key: it is 32 bytes, raw, in hexadecimal or in base64, as `openssl rand -hex 32` makes")]
    NotAKey(String),
    #[error("both a file and {0} give a sealing key: keep one of the two")]
    Twice(&'static str),
}

/// A key of AES-256-GCM (NIST SP 800-38D), known by a name that tells nothing of it. It has no `Clone`, and its `Debug`
/// shows the name only; the copy inside `ring` cannot be wiped.
pub struct SealKey {
    key: LessSafeKey,
    name: String,
    place: String,
}

/// What an operator gave to seal with; nothing, if the vault shall keep its own key.
#[derive(Debug, Default)]
pub struct SealKeys {
    /// The key that seals from now on.
    pub current: Option<SealKey>,
    /// The key that sealed up to now, where that was another.
    pub previous: Option<SealKey>,
}

impl SealKey {
    /// The key in a file, or else in an environment variable; `None` when neither is there.
    ///
    /// # Errors
    /// When the file cannot be read or others may read it, both are there, or what is there is no key.
    pub fn given(file: Option<&Path>, variable: &'static str) -> Result<Option<Self>, SealKeyError> {
        let text = env::var_os(variable).filter(|text| !text.is_empty());
        match (file, text.map(|text| Zeroizing::new(text.into_encoded_bytes()))) {
            (Some(_), Some(_)) => Err(SealKeyError::Twice(variable)),
            (Some(path), None) => Self::read(path).map(Some),
            (None, Some(text)) => Self::parse(&text, variable.to_owned()).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The key in a file.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or it is no key.
    pub fn read(path: &Path) -> Result<Self, SealKeyError> {
        Self::parse(&files::read_private(path)?, path.display().to_string())
    }

    /// Makes a key and its file.
    pub(super) fn make(path: &Path) -> Result<Self, super::VaultError> {
        let mut key = Zeroizing::new([0; LEN]);
        SystemRandom::new().fill(&mut *key).map_err(|_| super::VaultError::Randomness)?;
        files::write_private(path, &*key)?;
        Ok(Self::read(path)?)
    }

    fn parse(bytes: &[u8], place: String) -> Result<Self, SealKeyError> {
        let no_key = || SealKeyError::NotAKey(place.clone());
        let key = decoded(bytes).ok_or_else(no_key)?;
        let name = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), NAME);
        let name = crate::sync::secrets::hex(name.as_ref().get(..8).unwrap_or_default());
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(|_| no_key())?);
        Ok(SealKey { key, name, place })
    }

    /// By what it is known.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Seals a secret for its reference under a random nonce, which stands before it.
    pub(super) fn seal(&self, reference: &str, secret: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        // All room at once: a buffer that grows leaves copies of the secret behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(secret);
        let nonce_again = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce_again, Aad::from(reference), &mut *sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Unseals what was sealed for that reference.
    pub(super) fn unseal(&self, reference: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        open(&self.key, reference, sealed)
    }
}

/// Unseals with a key of any algorithm.
pub(super) fn open(key: &LessSafeKey, reference: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(reference), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

/// Raw, in hexadecimal, or in base64 of either alphabet, padded or not.
fn decoded(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if bytes.len() == LEN {
        return Some(Zeroizing::new(bytes.to_vec()));
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let base64 = text.trim_end_matches('=');
    let found = match text.len() {
        64 => hexadecimal(text),
        _ => STANDARD_NO_PAD.decode(base64).or_else(|_| URL_SAFE_NO_PAD.decode(base64)).ok(),
    };
    found.map(Zeroizing::new).filter(|key| key.len() == LEN)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| pair.iter().try_fold(0, |sum, byte| Some(sum << 4 | digit(byte)?))).collect()
}

impl fmt::Display for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (key {})", self.place, self.name)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealKey").field(&self.name).finish()
    }
}

/// The file of the key that the vault keeps itself.
pub(super) fn own(directory: &Path) -> PathBuf {
    directory.join("vault.key")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(bytes: &[u8]) -> Result<SealKey, SealKeyError> {
        SealKey::parse(bytes, "the file".into())
    }

    #[test]
    fn a_key_is_known_in_each_of_its_forms() {
        let raw = [0xfb; LEN];
        let (hex, base64) = ("fb".repeat(32), STANDARD_NO_PAD.encode(raw));
        let forms = [hex.clone(), hex.to_uppercase(), format!("{hex}\n"), format!("{base64}="), base64];
        let name = key(&raw).unwrap().name;
        let named = |text: String| key(text.as_bytes()).unwrap().name;
        assert!(forms.into_iter().chain([URL_SAFE_NO_PAD.encode(raw)]).all(|form| named(form) == name));
        assert_ne!(key(&[0xfc; LEN]).unwrap().name, name);
        assert!(!format!("{:?}", key(&raw).unwrap()).contains("251"));
    }

    #[test]
    fn what_is_no_key_is_not_shown() {
        for wrong in ["", "s3cret", &"ab".repeat(31), &"zz".repeat(32), &"ab".repeat(33)] {
            let error = key(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the file is no sealing key") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn every_bit_of_what_is_sealed_counts() {
        let key = key(&[7; LEN]).unwrap();
        let sealed = key.seal("a", b"secret").unwrap();
        assert_eq!(*key.unseal("a", &sealed).unwrap(), b"secret");
        assert!(key.unseal("b", &sealed).is_none(), "under another reference");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped.iter_mut().skip(bit / 8).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            assert!(key.unseal("a", &flipped).is_none(), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|length| key.unseal("a", sealed.get(..length).unwrap()).is_none()), "cut");
    }
}
