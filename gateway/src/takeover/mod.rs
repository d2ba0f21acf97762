//! How a gateway takes over from the running one of the same name, without a moment in which nobody listens
//! (docs/decisions/0006-takeover.md).
//!
//! ```text
//! successor                          running gateway
//!     ── Hello ────────────────────────▶   stops following its agent
//!     ◀─ Terms, then Peers and Sockets ─   still serves
//!   builds itself, follows the agent,
//!   opens tunnels, checks instances
//!     ── Ready ────────────────────────▶   accepts no more
//!     ◀───────────────────────── Yours ──
//!   accepts
//!     ── Serving ──────────────────────▶   drains, and ends
//! ```
//!
//! Up to `Serving` the running gateway goes on as if nothing had happened when the successor is gone; from `Sockets` on
//! the successor serves at once when the running one is gone. If the running one goes on for another reason, it says so
//! before it closes the channel. Once it has said `Yours` it has none: a successor that is slow then serves in the end.

mod channel;
mod claim;
mod offer;

pub use channel::Place;
pub use claim::{Claim, claim};
pub use offer::{Aside, Offer};

use std::io;
use std::time::Duration;

use config::resource::Name;
use config::wire::RevisionPair;
use serde::{Deserialize, Serialize};

use crate::tunnel::pool::PeerKey;

/// The language between the two. Gateways of another one refuse each other.
const PROTOCOL: u32 = 1;

/// An answer that needs no work comes within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A successor is ready within this time, or gives up.
const READY: Duration = Duration::from_secs(60);

/// What the two say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
enum Message {
    /// The successor: who it is.
    Hello { protocol: u32, name: Name },
    /// The running gateway: what it acts on, so that a successor must too before it serves; how many peers follow, to
    /// which it must have a tunnel; and how many sockets.
    Terms { revision: RevisionPair, peers: usize, sockets: usize },
    /// Some of the peers (GNS, cluster, gateway) that can be reached.
    Peers { peers: Vec<Reached> },
    /// Some of the sockets, as descriptors.
    Sockets,
    /// The successor can serve.
    Ready,
    /// The running gateway accepts no more.
    Yours,
    /// The successor accepts.
    Serving,
    /// The running gateway goes on, and says why.
    Refused { reason: String },
}

/// A peer that can be reached: GNS, cluster, gateway.
type Reached = (Name, Name, Name);

/// What a gateway has, and its successor must have too before it serves.
#[derive(Debug, Clone, PartialEq)]
struct Terms {
    revision: RevisionPair,
    peers: Vec<Reached>,
}

fn reached(key: PeerKey) -> Reached {
    (key.global_namespace, key.cluster, key.gateway)
}

/// Why a gateway was not taken over.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TakeoverError {
    #[error("the running gateway cannot be talked to: {0}")]
    Talk(#[from] io::Error),
    #[error("the running gateway said nothing for {PATIENCE:?}")]
    Silent,
    #[error("the running gateway ended meanwhile: try again")]
    Ended,
    #[error("the running gateway goes on: {0}")]
    Refused(String),
    #[error("another gateway runs here by now")]
    Replaced,
    #[error("the running gateway speaks out of turn: is it of another version?")]
    OutOfTurn,
    #[error("not ready to take over after {READY:?}: {0}")]
    NotReady(String),
}

#[cfg(test)]
mod tests;
