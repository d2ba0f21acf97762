//! Which instances are fit to serve: active checks, and what requests themselves show.
//!
//! An instance has one [`Tracker`], its [`Streaks`] and its [`Share`]. The latter two are all that a request touches when
//! things go well; the tracker sits behind a mutex and is touched by checks, failed connects and ejections only.

mod admit;
mod ejection;
mod share;
mod shown;
mod streaks;
mod tracker;

pub use admit::{Admit, may_eject, panics};
pub use share::{Share, Tally};
pub use shown::{Fault, Shown};
pub use streaks::Streaks;
pub use tracker::{Probed, State, Thresholds, Tracker, Transition, Why};
