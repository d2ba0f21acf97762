//! File descriptors: as many as the system gives, and one kept back for the day when there is none.

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system has no bound, so many are reckoned with.
const PLENTY: usize = 1 << 20;

/// Raises the soft limit of this process to the hard one, and returns how many it may have.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors stays as it is");
    }
    let limit = if raised.is_ok() { maximum } else { current };
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PLENTY)
}

/// A descriptor that can be given up, so that a connection can be accepted and closed when there is no other.
pub struct Spare(Option<File>);

impl Spare {
    /// Keeps one back, if there is one.
    pub fn keep() -> Self {
        Spare(File::open("/dev/null").ok())
    }

    /// Gives it up until [`Spare::retake`]; false when there was none.
    pub fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Keeps one back again.
    pub fn retake(&mut self) {
        if self.0.is_none() {
            *self = Spare::keep();
        }
    }
}
