//! How the agent gets into the mesh: once with a token, afterwards with what it kept.
//!
//! ```text
//! agent.pem       the agent's certificate, those of the top-level CA, and the key
//! controller      the controller's address
//! joined-by       SHA-256 of the top-level CA that the join token pinned
//! control-ca.pem  the cluster control CA with its key, see control.rs
//! member.token    by which gateways and DNS servers enrol here
//! incarnation     counts the agent's lives
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use config::resource::{Address, Name};
use identity::ca::CaError;
use identity::files::{FileError, write_private};
use identity::{PrivateKey, Role, RoleKind, SpiffeId, TrustDomain};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::control::ControlView;
use super::{AgentError, Settings};
use crate::http::csr;
use crate::http::message::{JOIN, Join, Joined};
use crate::http::token::Token;
use crate::member::credential::{Credential, enrolment_client};
use crate::member::read_token;
use crate::secret::random;

/// An agent in its mesh.
pub(super) struct Admission {
    pub(super) credential: Credential,
    pub(super) controller: Address,
    pub(super) cluster: Name,
    pub(super) mesh: TrustDomain,
}

/// Where the agent keeps its credential.
pub(super) fn credential_path(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.pem")
}

/// Takes up the credential on disk, or joins with the token.
pub(super) async fn admit(settings: &Settings) -> Result<Admission, AgentError> {
    let token: Option<Token> = settings.join.as_deref().map(|text| text.parse()).transpose()?;
    let path = credential_path(&settings.state_dir);
    let kept = path.exists().then(|| Credential::load(&path)).transpose()?;
    match (kept, token) {
        // What else is in the state directory belongs to that mesh and cluster too.
        (Some(kept), Some(token)) if !is_of(settings, &kept, &token) => Err(AgentError::AlreadyIn(kept.id().clone())),
        (Some(kept), Some(token)) if !settings.replace => {
            write_private(&joined_by(settings), token.ca_sha256.as_bytes())?; // an earlier release did not
            tracing::info!(id = %kept.id(), "already in the mesh; the join token is not used");
            admission(settings, kept)
        }
        (_, Some(token)) => join(settings, &token).await,
        (Some(kept), None) => admission(settings, kept),
        (None, None) => Err(AgentError::NoToken(settings.state_dir.clone())),
    }
}

/// Also by the very token with which it joined, whichever top-level CAs have taken one another's place since.
fn is_of(settings: &Settings, kept: &Credential, token: &Token) -> bool {
    let joined_by = fs::read_to_string(joined_by(settings)).is_ok_and(|pin| pin.trim() == token.ca_sha256);
    kept.id().cluster() == Some(token.cluster.as_str()) && (joined_by || kept.believes(&token.ca_sha256))
}

fn joined_by(settings: &Settings) -> PathBuf {
    settings.state_dir.join("joined-by")
}

fn admission(settings: &Settings, credential: Credential) -> Result<Admission, AgentError> {
    if !credential.is_alive() {
        return Err(AgentError::Expired(credential.id().clone()));
    }
    let cluster = credential.id().cluster().and_then(|name| name.parse().ok());
    let mesh = credential.id().trust_domain().clone();
    let path = settings.state_dir.join("controller");
    let kept = || fs::read_to_string(&path).ok()?.trim().parse().ok();
    let controller = settings.controller.clone().or_else(kept).ok_or(AgentError::NoController(path.clone()))?;
    Ok(Admission { cluster: cluster.ok_or(AgentError::NoToken(path))?, credential, controller, mesh })
}

async fn join(settings: &Settings, token: &Token) -> Result<Admission, AgentError> {
    let role = Role::Agent { cluster: token.cluster.to_string() };
    let id = SpiffeId::new(TrustDomain::mesh(&token.mesh)?, role)?;
    let key = PrivateKey::generate().map_err(CaError::from)?;
    let request = Join {
        secret: token.secret.to_string(),
        cluster: token.cluster.clone(),
        csr: csr::make(&id, &key).map_err(crate::member::credential::CredentialError::from)?,
        labels: settings.labels.clone(),
        replace: settings.replace,
    };
    let address = settings.controller.clone().unwrap_or_else(|| token.address.clone());
    let reached = Token { address: address.clone(), ..token.clone() };
    let client = enrolment_client(&reached, RoleKind::Controller)?;
    let answer: Joined = client.post(JOIN, &request).await.map_err(AgentError::Join)?;
    let credential = Credential::new(&id, &answer.certificate, &answer.ca, &answer.order, &key)?;
    write_private(&joined_by(settings), token.ca_sha256.as_bytes())?;
    write_private(&settings.state_dir.join("controller"), address.to_string().as_bytes())?;
    credential.store(&credential_path(&settings.state_dir))?;
    tracing::info!(%id, "joined the mesh");
    admission(settings, credential)
}

/// Where the agent writes the token for members.
pub(super) fn member_token_path(state_dir: &Path) -> PathBuf {
    state_dir.join("member.token")
}

/// Writes the token for members, with the secret of the last one, so that what was handed out stays good; unless the
/// control CA that it pinned is gone, because what was on disk is of another life.
pub(super) fn write_member_token(
    state_dir: &Path,
    address: Address,
    mesh: &TrustDomain,
    cluster: &Name,
    control: &ControlView,
) -> Result<Token, AgentError> {
    let path = member_token_path(state_dir);
    let ca_sha256 = control.report.signing.clone();
    let known = |token: &Token| control.report.roots.iter().any(|root| root.order.root == token.ca_sha256);
    let kept = read_token(&path).ok().filter(known);
    let secret = match kept {
        Some(kept) => kept.secret,
        None => random().ok_or(AgentError::Randomness)?,
    };
    let token = Token { address, mesh: mesh.to_string(), cluster: cluster.clone(), ca_sha256, secret };
    let text = Zeroizing::new(format!("{token}\n"));
    write_private(&path, text.as_bytes())?;
    Ok(token)
}

/// A number greater than that of any life before: the time in milliseconds, or, if the clock went back, one more
/// than last time.
pub(super) fn next_incarnation(state_dir: &Path) -> Result<u64, FileError> {
    let path = state_dir.join("incarnation");
    let last: u64 = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let next = now.max(last.saturating_add(1));
    write_private(&path, next.to_string().as_bytes())?;
    Ok(next)
}
