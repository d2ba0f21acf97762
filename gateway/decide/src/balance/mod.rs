//! Who serves the next request: first a cluster by weight, then an instance in turn.

mod cluster;
mod cursor;
mod ramp;
mod smooth;

pub use cluster::{By, Candidate, Scheme, weigh};
pub use cursor::{Cursor, FULL, Rota};
pub use ramp::Ramp;
pub use smooth::SmoothWeighted;
