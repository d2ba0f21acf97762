//! What two gateways of one machine talk over: packets of JSON with file descriptors, over a Unix socket of a private
//! directory.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// A packet carries no more descriptors: the kernel's own bound is 253 (`SCM_MAX_FD`).
pub const DESCRIPTORS: usize = 64;
/// A packet is no longer, in bytes.
const LONGEST: usize = 128 * 1024;

/// So many successors may wait for their turn.
const WAITING: i32 = 8;

/// A socket whose packets keep their bounds, so that a descriptor always comes with its own message. The runtime knows
/// such sockets as streams only; what it does with them, to wait and to accept, is the same.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A socket that only this user can reach.
pub struct Listener(UnixListener);

/// The path at which a listener shall be found. It listens under another name beside it until then. The path is left
/// behind at the end: it may be a successor's by then.
pub struct Place {
    path: PathBuf,
    beside: PathBuf,
}

impl Place {
    /// The listener is found at the path from now on, in the place of whoever was there before.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn take(self) -> io::Result<()> {
        std::fs::rename(&self.beside, &self.path)
    }

    /// Whether somebody listens at the path now.
    pub(super) fn is_taken(&self) -> bool {
        matches!(Channel::dial(&self.path), Ok(Some(_)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It was taken, or its folder is gone: then nothing is left to do.
        _ = std::fs::remove_file(&self.beside);
    }
}

impl Listener {
    /// Listens, and shall be found at the path.
    ///
    /// # Errors
    /// When the socket cannot be made; above all when the path is longer than 100 bytes.
    pub fn beside(path: &Path) -> io::Result<(Self, Place)> {
        let beside = path.with_extension(std::process::id().to_string());
        // One of a process of this number that was killed.
        _ = std::fs::remove_file(&beside);
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&beside)?)?;
        let place = Place { path: path.to_owned(), beside };
        std::fs::set_permissions(&place.beside, Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, WAITING)?;
        Ok((Listener(UnixListener::from_std(socket.into())?), place))
    }

    /// The next peer of the same user; others are turned away.
    ///
    /// # Errors
    /// As accept(2).
    pub async fn accept(&self) -> io::Result<Channel> {
        loop {
            let channel = Channel(self.0.accept().await?.0);
            match channel.is_of_this_user()? {
                true => return Ok(channel),
                false => tracing::warn!("another user asked for this gateway's sockets, and was turned away"),
            }
        }
    }
}

/// A connection between two gateways.
pub struct Channel(UnixStream);

impl Channel {
    /// Dials whoever listens at the path; nothing where nobody does.
    ///
    /// # Errors
    /// When somebody may be there who cannot be reached, or is another user.
    pub fn dial(path: &Path) -> io::Result<Option<Self>> {
        let socket = socket()?;
        match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?).map_err(io::Error::from) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let channel = Channel(UnixStream::from_std(socket.into())?);
        match channel.is_of_this_user()? {
            true => Ok(Some(channel)),
            false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens there")),
        }
    }

    fn is_of_this_user(&self) -> io::Result<bool> {
        Ok(self.0.peer_cred()?.uid() == rustix::process::geteuid().as_raw())
    }

    /// Sends one message with at most [`DESCRIPTORS`] descriptors.
    ///
    /// # Errors
    /// When the peer is gone, or the message is too long.
    pub async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("too many descriptors for one packet"));
            }
            Ok(rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// The next message with its descriptors; nothing when the peer is gone.
    ///
    /// # Errors
    /// When what came is no such message.
    pub async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut text = vec![0; LONGEST];
        let received = match self.packet(&mut text).await {
            // The peer left something unread, which is told once. What it said before it went comes now.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.packet(&mut text).await,
            received => received,
        };
        let (length, descriptors) = match received? {
            (0, _) => return Ok(None),
            received => received,
        };
        let message = serde_json::from_slice(text.get(..length).unwrap_or_default())?;
        Ok(Some((message, descriptors)))
    }

    async fn packet(&self, text: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_fd(), text)).await
    }
}

/// Whether the peer is gone, by an error of [`Channel::send`].
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn receive(socket: BorrowedFd<'_>, text: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet was cut: too long, or no descriptors are left"));
    }
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    Ok((received.bytes, descriptors.collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn descriptors_come_with_their_own_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover.sock");
        assert!(Channel::dial(&path).unwrap().is_none(), "nobody is there");
        let (listener, place) = Listener::beside(&path).unwrap();
        assert!(Channel::dial(&path).unwrap().is_none(), "it waits");
        place.take().unwrap();
        let dialled = Channel::dial(&path).unwrap().unwrap();
        let accepted = listener.accept().await.unwrap();
        let file = std::fs::File::open(folder.path()).unwrap();
        accepted.send(&1, &[]).await.unwrap();
        accepted.send(&2, &[file.as_fd(); DESCRIPTORS]).await.unwrap();
        assert!(accepted.send(&3, &[file.as_fd(); 2 * DESCRIPTORS]).await.is_err());
        drop(accepted);
        let mut counts = Vec::new();
        while let Some((number, descriptors)) = dialled.receive::<usize>().await.unwrap() {
            counts.push((number, descriptors.len()));
        }
        assert_eq!(counts, [(1, 0), (2, DESCRIPTORS)]);
    }

    #[tokio::test]
    async fn a_successor_takes_the_path_and_a_dead_gateway_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover.sock");
        let (first, place) = Listener::beside(&path).unwrap();
        place.take().unwrap();
        let (second, place) = Listener::beside(&path).unwrap();
        place.take().unwrap();
        drop(first);
        assert!(Channel::dial(&path).unwrap().is_some());
        drop(second);
        assert!(Channel::dial(&path).unwrap().is_none());
    }
}
