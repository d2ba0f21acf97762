//! What happens to traffic.
//!
//! Read [`request`] first: it is the life of a request, in order, as [`stream`] is for a connection whose bytes are passed
//! on unread. The other files are what they need: [`listener`]
//! accepts connections, [`plan`] is what it decides by, [`upstream`] and [`tunnel`] carry it on, [`health`] says
//! where it may go, [`refusal`] and [`respond`] are how it ends when it may not, and [`record`] is what is left of it.

pub mod access;
pub mod choose;
pub mod connections;
pub mod descriptors;
pub mod exchange;
pub mod explain;
pub mod health;
pub mod http1;
pub mod http2;
pub mod inputs;
pub mod ledger;
pub mod lifetime;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod ndjson;
pub mod news;
pub mod overload;
pub mod plan;
pub mod planner;
pub mod record;
pub mod refusal;
pub mod request;
pub mod respond;
pub mod runtime;
pub mod settings;
pub mod standings;
pub mod stream;
pub mod takeover;
pub mod trace;
pub mod tunnel;
pub mod turns;
pub mod upstream;
pub mod view;
pub mod workers;

pub use inputs::{Identities, Inputs, Secrets};
pub use limits::Limits;
pub use runtime::{BuildError, Gateway};
pub use settings::Settings;
