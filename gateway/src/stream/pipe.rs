//! Pipes: bytes go through one from socket to socket without coming into this process (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// There are no more at once: each has two descriptors, and keeps up to [`MOST`] bytes of the kernel's memory.
const PIPES: usize = 128;

/// Of the process's descriptors, pipes take no more than one in so many.
const SHARE: usize = 16;

/// No more is asked of a socket at once, in bytes. A pipe holds 16 pieces as they were received, of one to eight pages each.
const MOST: usize = 512 * 1024;

/// All that there may be.
pub struct Pipes(Arc<Semaphore>);

impl Pipes {
    /// Of a process that may have so many descriptors.
    pub fn new(descriptors: usize) -> Self {
        Pipes(Arc::new(Semaphore::new(PIPES.min(descriptors / SHARE / 2))))
    }

    /// An empty one, if there is one left.
    pub fn take(&self) -> Option<Pipe> {
        let permit = self.0.clone().try_acquire_owned().ok()?;
        let (end, beginning) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        Some(Pipe { beginning, end, _permit: permit })
    }

    /// How many more may be taken.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.available_permits()
    }
}

/// One of them.
pub struct Pipe {
    beginning: OwnedFd,
    end: OwnedFd,
    _permit: OwnedSemaphorePermit,
}

impl Pipe {
    /// Fills it with what a socket has received, and returns how many bytes that is. The pipe must be empty. None, and
    /// [`io::ErrorKind::WouldBlock`], say that nothing more can be spliced: nothing is there, the far end has ended, or urgent
    /// data comes next.
    pub fn fill(&self, from: &impl AsFd) -> io::Result<usize> {
        Ok(splice(from, None, &self.beginning, None, MOST, SpliceFlags::NONBLOCK)?)
    }

    /// Sends up to so many of its bytes, and returns how many went. It must hold them: [`io::ErrorKind::WouldBlock`] then says
    /// that the socket takes no more.
    pub fn empty(&self, to: &impl AsFd, held: usize) -> io::Result<usize> {
        Ok(splice(&self.end, None, to, None, held, SpliceFlags::NONBLOCK)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_descriptors_allow_and_each_comes_back() {
        let pipes = Pipes::new(64);
        let held = (pipes.take(), pipes.take());
        assert!(held.0.is_some() && held.1.is_some() && pipes.take().is_none());
        drop(held);
        assert!(pipes.take().is_some());
    }
}
