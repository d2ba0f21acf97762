//! The stream by which one process follows another's world: an agent the global controller's, a member its agent's.
//!
//! Both streams are the same code. Who holds a world implements [`Source`] and puts [`server::handler`] into its
//! router; who follows one runs [`client::follow`]. Entries and secrets pass through unread.
//!
//! ```text
//! follower                                    source
//!    ── Hello ──────────────────────────────▶  Source::open(peer, hello)
//!    ◀─────────────────────────── Welcome ──
//!    ◀─ Holdings ─▶                            what each side has from before, where both can resume
//!    ◀── secrets, Update (reset … last) ────   the whole of Feed::world, or what the follower doesn't hold
//!    ── Observed (reset … last) ────────────▶  Session::observed          (agents only)
//!    ◀── secrets, Patch, Update (… last) ───   what changed since, always to the newest: steps are coalesced
//!    ── Ack ────────────────────────────────▶  Session::acknowledged
//!    ◀── Ask ───────────────────────────────   what an Asker is asked    (followers with the feature only)
//!    ── Answer ─────────────────────────────▶  in any order
//!    ◀─ Beat ─▶                                after 2 s in which nothing else was said
//!    ── Leaving ────────────────────────────▶  Session::leaving           (a clean stop)
//!    ◀─────────────────────────── Goodbye ──   the last word, whyever the stream ends
//! ```

pub mod cache;
pub mod client;
mod patches;
mod pipe;
pub mod reading;
pub mod relay;
mod resume;
pub mod secrets;
pub mod server;
mod steps;
mod understood;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::resource::SecretRef;
use config::wire::{Ack, Entries, Hello, Observed, RevisionPair, Secret};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::ClientCertificate;

/// Where the stream is served, by controllers and agents alike.
pub const PATH: &str = "/v1alpha1/sync";
/// A side that said nothing for so long sends a beat.
pub const BEAT: Duration = Duration::from_secs(2);
/// A side that heard nothing for so long, or could not get rid of a frame for so long, drops the stream.
pub const SILENCE: Duration = Duration::from_secs(10);

/// A world as it is passed on: whole, and never changed once published.
#[derive(Clone, Default)]
pub struct Published {
    /// How new it is.
    pub revision: RevisionPair,
    /// What is known.
    pub entries: Arc<Entries>,
    /// Of entries whose meaning needs what this release doesn't have: what they last said without.
    pub understood: Arc<Entries>,
    /// The secrets that the entries name, and no others: whoever follows gets all of them.
    pub secrets: Arc<BTreeMap<SecretRef, Secret>>,
}

/// Who holds a world that others follow.
pub trait Source: Send + Sync + 'static {
    /// The mesh's name, for the welcome.
    fn mesh(&self) -> String;

    /// A follower came. `peer` is the certificate that let its connection in, and may count no more: check it. `hello`
    /// is what it says of itself; the protocol's version is already checked. Called once for each stream, possibly while an older one of the same follower still
    /// lives: cancel that one's [`Feed::end`] if the new one succeeds it.
    ///
    /// # Errors
    /// Why this follower gets no world. It reads the reason, and dials again later.
    fn open(&self, peer: &ClientCertificate, hello: &Hello) -> Result<Feed, Refusal>;
}

/// What a source gives to one follower.
pub struct Feed {
    /// The world for this follower. The first value is sent whole, then what differs in the newest; values that come
    /// faster than the follower takes them are skipped. When the sender is dropped, the stream ends.
    pub world: watch::Receiver<Arc<Published>>,
    /// What the follower says goes here. Dropped when the stream is lost or ends.
    pub session: Box<dyn Session>,
    /// What the follower is asked.
    pub questions: relay::Questions,
    /// Cancelled by the source to end this stream: a successor came, the follower left the mesh, the process stops.
    /// (Make it a child of the shutdown's token: then no stream holds the shutdown up.)
    pub end: CancellationToken,
}

/// One follower's stream, at its source. Its methods are called one at a time, in order, from the stream's own task:
/// they must not block. Its `Drop` is the moment in which the stream is lost.
pub trait Session: Send {
    /// Anything was heard, also a mere beat. Called before the other methods.
    fn heard(&mut self) {}

    /// The follower sees this: a whole step, its parts already joined (`last` is set). With `reset` the entries are
    /// all that it sees, else what changed since the last step of this stream. The first of a stream is a `reset`, or
    /// what differs from [`Self::seen`]: then nothing stays of the folders that it `replaces`.
    ///
    /// # Errors
    /// Why nothing of it counts. The stream ends with this reason.
    fn observed(&mut self, step: Observed) -> Result<(), Refusal>;

    /// What is known of what the follower sees, from its earlier streams. Asked once, when the stream begins.
    fn seen(&self) -> Entries {
        Entries::new()
    }

    /// The follower is so far: the whole, also when only what changed was sent.
    fn acknowledged(&mut self, ack: Arc<Ack>);

    /// The follower leaves of its own will, and doesn't come back soon. The stream ends with this.
    fn leaving(&mut self) {}
}

/// Why a stream is refused or ended, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);
