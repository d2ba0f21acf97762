//! Who is who: SPIFFE names, trust bundles, the verifiers of both ends of a handshake, and the certificate
//! authorities that make what they verify.
//!
//! ```text
//! top-level CA ──────────────┬─ agent, controller            spiffe://<mesh>/…   control plane, by a pinned root
//!   └┄ cross-signs, for audit│
//! cluster control CA ────────┼─ agent's server, members      spiffe://<mesh>/…   inside one cluster, likewise
//! GNS CA (a root) ─ issuing CA ─ gateway, workload           spiffe://<gns>.<mesh>/…   data plane
//! ```
//!
//! The crate is pure: no sockets, no clock (every function takes `now`), and, but for [`files`], no IO.

pub mod bundle;
pub mod ca;
pub mod csr;
pub mod facts;
pub mod files;
pub mod key;
pub mod keyed;
pub mod pem;
pub mod refusal;
pub mod spiffe;
pub mod tls;
pub mod trust;
pub mod verify;

pub use bundle::{Bundles, TrustBundle};
pub use csr::SigningRequest;
pub use facts::{Facts, Serial, fingerprint};
pub use key::PrivateKey;
pub use keyed::{Identity, KeyedCertificate};
pub use refusal::Refusal;
pub use spiffe::{Role, RoleKind, SpiffeId, TrustDomain};
pub use trust::{Pinned, Trust, TrustView};
pub use verify::{Accept, peer_identity};
