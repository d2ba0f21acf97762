//! Tokens: all that a newcomer must know to ask for admission, in one line of text to copy.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::resource::{Address, Name};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What every token begins with, so that people and secret scanners know it.
const PREFIX: &str = "tombolo1.";

/// A join token, made by the controller for a cluster, or a member token, made by an agent for its data planes.
/// Its `Debug` doesn't show the secret; its `Display` is the whole text.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where to ask.
    pub address: Address,
    /// The mesh's name.
    pub mesh: String,
    /// The cluster that may join, or whose member one becomes.
    pub cluster: Name,
    /// SHA-256 of the CA certificate (top-level CA or cluster control CA, in DER), in lower-case hexadecimal.
    pub ca_sha256: String,
    /// What admits.
    pub secret: Zeroizing<String>,
}

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no token, or not all of it: copy the whole line that begins with {PREFIX}")]
pub struct TokenError;

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    address: Address,
    mesh: &'a str,
    cluster: Name,
    ca: &'a str,
    secret: &'a str,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, cluster) = (self.address.clone(), self.cluster.clone());
        let text = Text { address, mesh: &self.mesh, cluster, ca: &self.ca_sha256, secret: &self.secret };
        let json = Zeroizing::new(serde_json::to_vec(&text).map_err(|_| fmt::Error)?);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} of {}, at {})", self.cluster, self.mesh, self.address)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError)?);
        let text: Text<'_> = serde_json::from_slice(&json).map_err(|_| TokenError)?;
        Ok(Token {
            address: text.address,
            mesh: text.mesh.to_owned(),
            cluster: text.cluster,
            ca_sha256: text.ca.to_owned(),
            secret: Zeroizing::new(text.secret.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_survives_being_copied_but_not_being_cut() {
        let token = Token {
            address: "127.0.0.1:7443".parse().unwrap(),
            mesh: "mesh.example".into(),
            cluster: "west".parse().unwrap(),
            ca_sha256: "ab".into(),
            secret: Zeroizing::new("s3cret".into()),
        };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert_eq!(text[..text.len() - 1].parse::<Token>(), Err(TokenError));
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
