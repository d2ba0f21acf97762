//! The socket, and who is at its other end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer;
use super::tolerant::Tolerant;
use crate::local::workloads::keeper::Standings;
use crate::workload::directory::make_readable;

/// So many connections may one user have at once, so that none keeps the others out.
const CONNECTIONS: usize = 64;
/// So many users may have connections at once.
const USERS: usize = 256;
/// So many calls at once on one connection: a client follows identities, bundles, or both.
const STREAMS: u32 = 16;
/// After a failed accept (no descriptors left, as a rule).
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody has it.
    #[error("another process answers on {0}: end it, or give another --workload-socket")]
    InUse(PathBuf),
    /// It would have to be removed.
    #[error("{0} is there, and is no socket: remove it, or give another --workload-socket")]
    NoSocket(PathBuf),
    /// The system said no.
    #[error("cannot {0} the socket {1}: {2}")]
    Io(&'static str, PathBuf, #[source] io::Error),
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(in crate::local) struct Socket {
    listener: StdListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Makes the socket, in the place of one that nobody listens on. Everybody may connect: who it is decides what they
    /// get. To keep users out altogether, close its folder to them.
    ///
    /// # Errors
    /// When somebody listens there, something else is there, or it cannot be made.
    pub(in crate::local) fn bind(path: PathBuf) -> Result<Self, SocketError> {
        let failed = |what| {
            let path = path.clone();
            move |error| SocketError::Io(what, path, error)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_readable(folder).map_err(failed("make the folder of"))?;
        }
        remove_dead(&path)?;
        let listener = StdListener::bind(&path).map_err(failed("make"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed("open"))?;
        listener.set_nonblocking(true).map_err(failed("use"))?;
        let inode = fs::symlink_metadata(&path).map_err(failed("look at"))?.ino();
        Ok(Socket { listener, path, inode })
    }

    /// Answers whoever calls, for as long as it is polled; with it end all connections.
    pub(in crate::local::workloads) async fn serve(
        self,
        standings: watch::Receiver<Arc<Standings>>,
    ) -> Result<(), SocketError> {
        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        let listener = listener.map_err(|error| SocketError::Io("use", self.path.clone(), error))?;
        let (users, mut connections) = (Users::default(), JoinSet::new());
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => admit(stream, &users, &standings, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "a workload's connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A successor may have made its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path); // the next start does it else
        }
    }
}

fn remove_dead(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(_) => fs::remove_file(path).map_err(|error| SocketError::Io("replace", path.to_owned(), error)),
    }
}

fn admit(
    stream: UnixStream,
    users: &Users,
    standings: &watch::Receiver<Arc<Standings>>,
    connections: &mut JoinSet<()>,
) {
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => return tracing::warn!(%error, "nobody vouches for a caller of the workload socket"),
    };
    let Some(seat) = users.admit(uid) else {
        return tracing::warn!(uid, "too many connections to the workload socket; the newest was closed");
    };
    let standings = standings.clone();
    connections.spawn(async move {
        let service = service_fn(move |request| {
            let answer = answer(uid, standings.clone(), request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(STREAMS).max_header_list_size(16 * 1024);
        if let Err(error) = builder.serve_connection(TokioIo::new(Tolerant::new(stream)), service).await {
            tracing::debug!(uid, %error, "a workload's connection ended");
        }
        drop(seat);
    });
}

/// How many connections each user has.
#[derive(Debug, Clone, Default)]
struct Users(Arc<Mutex<BTreeMap<u32, usize>>>);

/// One of a user's connections.
#[derive(Debug)]
struct Seat {
    users: Users,
    uid: u32,
}

impl Users {
    fn admit(&self, uid: u32) -> Option<Seat> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = counts.get(&uid).map_or(counts.len() < USERS, |count| *count < CONNECTIONS);
        room.then(|| {
            *counts.entry(uid).or_default() += 1;
            Seat { users: self.clone(), uid }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
        }
        counts.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_user_keeps_no_other_out() {
        let users = Users::default();
        let mut seats: Vec<Seat> = (0..CONNECTIONS).map(|_| users.admit(1).unwrap()).collect();
        assert!(users.admit(1).is_none() && users.admit(2).is_some());
        seats.pop();
        assert!(users.admit(1).is_some(), "a seat is free again");
        drop(seats);
        assert!(users.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/workload.sock");
        let first = Socket::bind(path.clone()).unwrap();
        assert!(matches!(Socket::bind(path.clone()), Err(SocketError::InUse(_))));
        drop(first);
        assert!(!path.exists(), "its file goes with it");
        drop(StdListener::bind(&path).unwrap());
        drop(Socket::bind(path.clone()).unwrap());
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::bind(path), Err(SocketError::NoSocket(_))));
    }
}
