//! Who decides the world: the global controller, and the agent that is its arm in a cluster.
//!
//! ```text
//! api ──▶ global ──▶ store    desired state: a log of revisions
//!           │  ▲ └──▶ ca ──▶ vault
//!    entries│  │observed, acknowledgements
//!           ▼  │
//!         sync ══ one HTTP/2 stream, dialled by the agent ══ sync ── local ── gateways and DNS servers
//! ```

pub mod access;
mod api;
pub mod audit;
pub mod ca;
pub mod global;
pub mod http;
pub mod local;
pub mod member;
mod secret;
pub mod store;
pub mod sync;
pub mod vault;
pub mod workload;
