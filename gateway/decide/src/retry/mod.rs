//! Which failed attempts at a request are made again.

mod budget;
mod policy;

pub use budget::Budget;
pub use policy::{Attempt, MAX_ATTEMPTS, Outcome, Reason, Verdict, decide, must_change_cluster, pause_before};
