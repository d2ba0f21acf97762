//! Secrets that are compared, not used as keys: tokens. Only their digests are kept.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::sync::secrets::hex;

/// The SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// A new secret of 256 random bits, in hexadecimal; `None` when the system has no randomness.
pub(crate) fn random() -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *bytes).ok()?;
    let mut text = Zeroizing::new(String::with_capacity(64));
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).for_each(|nibble| {
        text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
    });
    Some(text)
}

/// Whether two digests are equal, in a time that doesn't tell where they differ.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    let difference = one.bytes().zip(other.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_are_long_and_compared_whole() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.len(), 64);
        assert!(equal(&one, &one) && !equal(&one, &other) && !equal(&one, "") && !equal("", &one));
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
