//! What processes say to one another: pure data, and its framing.
//!
//! Two streams speak it: an agent with the global controller, and a data plane (a *member*) with its agent. Both only
//! ever dial out. What the stream carries towards the data plane are keyed entries of the world; the layers between
//! pass them on as they came, also when they are newer than the layer itself.

mod ack;
mod ask;
pub mod feature;
pub mod frame;
pub mod json;
mod patch;
pub mod secret;
mod trust;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::keyed::Keyed;
use crate::resource::{GatewayAddresses, Name};

pub use ack::Part;
pub use ask::{Answer, Ask, Forget, Forgotten, Outcome, Unanswered};
pub use json::Json;
pub use secret::Secret;
pub use trust::{CertificateReport, ControlReport, Order, TrustReport, WorkloadsReport};

/// The version of this language. It grows when a side of the release before would misunderstand one of this; what only
/// some sides know of goes by [`feature`].
pub const PROTOCOL: u32 = 1;

/// Whether this release works with one that speaks that version: its own, the one before or the one after. Others refuse
/// one another with a clear error.
pub fn understands(protocol: u32) -> bool {
    protocol.abs_diff(PROTOCOL) <= 1
}

/// How far a data plane is: which desired and which observed state it acts on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RevisionPair {
    /// The controller's revision of the desired state.
    pub global: u64,
    /// The agent's position in its own observed state.
    pub agent: AgentSequence,
}

/// A position in the observed state of one agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentSequence {
    /// Which life of the agent: greater at each start and at each re-join.
    pub incarnation: u64,
    /// Counts the changes of that life.
    pub sequence: u64,
}

/// One keyed part of the world. The keys and values are [`world::Fact`](crate::world::Fact)s, unread here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is about.
    pub key: String,
    /// What is so now; nothing when it is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

/// The world as layers between pass it on. Cheap to clone, and to compare with what it was cloned from: the values are
/// shared.
pub type Entries = Keyed<Json>;

/// A step from one state of the world to the next. Nothing of it counts before its last part has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Where the receiver is after the last part.
    pub revision: RevisionPair,
    /// The entries are the whole world, and what isn't among them is no more.
    #[serde(default)]
    pub reset: bool,
    /// The folders of which nothing stays but what is among the entries. Only for a receiver that said what it
    /// [holds](Holdings).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// No further part follows.
    pub last: bool,
    /// What changes.
    pub entries: Vec<Entry>,
}

/// From whoever holds the world to whoever follows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Down {
    /// The stream is accepted.
    Welcome {
        /// The mesh's name: the trust domain of the control plane, and the suffix of those of every GNS.
        mesh: String,
        /// What the sender can do beyond the protocol; see [`feature`].
        #[serde(default)]
        features: Vec<String>,
    },
    /// What the sender has of what the follower sees. Only to one that can [resume](feature::RESUME), right after the
    /// welcome; the follower says the same of the world then.
    Holdings(Holdings),
    /// The world changes.
    Update(Update),
    /// So do these entries, of which each value is a merge patch (RFC 7396) of what the follower has: with the update that
    /// follows, of which it is a part. At most one to an update, and only to who [takes it](feature::PATCHES).
    Patch {
        /// The patches.
        entries: Vec<Entry>,
    },
    /// So that a dead stream is noticed.
    Beat,
    /// The stream ends, and why.
    Goodbye {
        /// For people.
        reason: String,
    },
    /// The follower, or a member of it, is asked something. Only said to those who [answer](feature::ASK).
    Ask(Ask),
    /// Something of a newer release: it means nothing here.
    #[serde(other)]
    Unknown,
}

/// From whoever follows the world to whoever holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Up {
    /// The first message.
    Hello(Hello),
    /// What an agent sees in its cluster.
    Observed(Observed),
    /// How far the sender is.
    Ack(Ack),
    /// So that a dead stream is noticed.
    Beat,
    /// The sender stops of its own will: it is to be forgotten at once, and the stream ends.
    Leaving,
    /// What was asked of it.
    Answer(Answer),
    /// What the sender has of the world, right after the welcome of a source that can [resume](feature::RESUME).
    Holdings(Holdings),
    /// Something of a newer release: it means nothing here.
    #[serde(other)]
    Unknown,
}

/// What a side has from an earlier stream, or from its disk, so that only the difference need be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// The digest of each folder of entries.
    #[serde(default)]
    pub folders: BTreeMap<String, String>,
    /// The digest of the secrets' references.
    #[serde(default)]
    pub secrets: String,
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The version of the program, for people.
    pub version: String,
    /// What the sender can do; an entry that needs more is not for it.
    #[serde(default)]
    pub features: Vec<String>,
    /// The agent's cluster, or the member's name.
    pub name: Name,
    /// Changes at each start of the process.
    pub boot: String,
    /// What the sender is.
    pub role: MemberRole,
    /// Where a gateway is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<GatewayAddresses>,
}

/// What a process that follows the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MemberRole {
    /// A cluster's local controller.
    Agent,
    /// A gateway.
    Gateway,
    /// A DNS server.
    Dns,
}

/// What an agent sees: as an update of its own world, in which only its own cluster may stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Where the controller is after the last part.
    pub at: AgentSequence,
    /// The entries are all that the agent sees.
    #[serde(default)]
    pub reset: bool,
    /// As in [`Update::replaces`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// No further part follows.
    pub last: bool,
    /// What changes.
    pub entries: Vec<Entry>,
}

/// How far a process is. A member speaks for itself, an agent for itself and for each of its members.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// What the sender acts on.
    pub at: RevisionPair,
    /// What it couldn't act on, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejection>,
    /// From an agent: its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberReport>,
    /// From a member: it takes no new requests, because it is about to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// From a gateway: what it sees of peers, for `tombolo peers`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub peers: Arc<Vec<PeerReport>>,
    /// Whom the sender believes, and what it holds. A root is dropped only once nobody needs it by what stands here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<TrustReport>,
    /// From an agent: the cluster's control CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlReport>,
    /// The parts that are left out, as they are as they were said last. Only to a source that [takes
    /// this](feature::ACK_DELTAS), as are the next three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<Part>,
    /// The same for the reports of members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub same_of: BTreeMap<Name, Vec<Part>>,
    /// Members that don't stand here are as they were said last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// But these are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Name>,
}

fn is_empty<T>(shared: &Arc<Vec<T>>) -> bool {
    shared.is_empty()
}

/// An entry that a process couldn't act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The entry's key.
    pub key: String,
    /// Why, for people.
    pub reason: String,
}

/// A member as its agent knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// The member's name, unique in its cluster.
    pub name: Name,
    /// What it is.
    pub role: MemberRole,
    /// Whether its stream is up.
    pub connected: bool,
    /// How long ago it was last heard, in milliseconds.
    pub silent_for_ms: u64,
    /// What it acts on.
    pub at: RevisionPair,
    /// What it couldn't act on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejection>,
    /// What it sees of peer gateways. Shared: in a large mesh there are thousands.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub peers: Arc<Vec<PeerReport>>,
    /// Whom it believes, and what it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<TrustReport>,
    /// It has left by its silence, but may return while its certificates live: it holds up no readiness, only the end
    /// of a root that it needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// It takes no new requests, because it is about to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// How one gateway sees another in one GNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// The GNS in whose identity they speak.
    pub global_namespace: Name,
    /// The other GNS in whose identity the one speaks that sees, where it is for calls from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
    /// The peer's cluster.
    pub cluster: Name,
    /// The peer's name.
    pub gateway: Name,
    /// Where it is dialled.
    pub address: String,
    /// How many tunnels to it are up.
    pub tunnels: u32,
    /// It says that it takes no new requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The gateway of its cluster that answers in its place, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<Name>,
    /// Why there is none, as the last attempt had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
