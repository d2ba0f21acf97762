//! Which instances are fit to serve: active checks, and what requests themselves show.
//!
//! An instance has one [`Tracker`] and one [`Streak`]. The streak is all that a request touches when things go well;
//! the tracker sits behind a mutex and is touched by checks, failed connects and full streaks only.

mod admit;
mod streak;
mod tracker;

pub use admit::{Admit, may_eject};
pub use streak::{STREAK_LIMIT, Streak};
pub use tracker::{State, Thresholds, Tracker, Transition, Why};
