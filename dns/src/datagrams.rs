//! Datagrams by the batch: one system call receives or sends many, which costs a third of one call for each.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// How many datagrams are received or sent at once.
pub(crate) const BATCH: usize = 32;

/// Whence a datagram came, as the system tells it: so an answer goes to the very same address, with its zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender(SockaddrStorage);

impl Sender {
    /// Nothing for what is neither IPv4 nor IPv6.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let v4 = self.0.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| self.0.as_sockaddr_in6().map(|address| address.ip().into()))
    }
}

/// What came last. Each datagram has room for `LONGEST` bytes; the rest of a longer one is cut off.
pub(crate) struct Inbox<const LONGEST: usize> {
    room: Box<[[u8; LONGEST]; BATCH]>,
    /// The length and the sender of each.
    came: Vec<(usize, Option<Sender>)>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl<const LONGEST: usize> Inbox<LONGEST> {
    pub(crate) fn new() -> Self {
        let room = Box::new([[0; LONGEST]; BATCH]);
        Inbox { room, came: Vec::with_capacity(BATCH), headers: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Takes up to [`BATCH`] datagrams in place of those that it has; those are gone also if it fails.
    pub(crate) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        self.came.clear();
        let mut room = self.room.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        let came = recvmmsg(socket.as_raw_fd(), &mut self.headers, &mut room, MsgFlags::empty(), None)?;
        self.came.extend(came.map(|message| (message.bytes, message.address.map(Sender))));
        Ok(())
    }

    /// The datagrams, in the order in which they came.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Sender)> {
        let came = self.came.iter().zip(self.room.iter());
        came.filter_map(|((length, sender), packet)| Some((packet.get(..*length)?, (*sender)?)))
    }
}

/// What is still to be sent.
pub(crate) struct Outbox {
    packets: Vec<Vec<u8>>,
    to: Vec<Option<SockaddrStorage>>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Outbox { packets: Vec::new(), to: Vec::new(), headers: MultiHeaders::preallocate(BATCH, None) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn push(&mut self, packet: Vec<u8>, to: Sender) {
        self.packets.push(packet);
        self.to.push(Some(to.0));
    }

    /// Sends up to [`BATCH`] of the first; only those that were sent are gone. An error is the first one's, and may be
    /// lasting: see [`skip`](Self::skip).
    pub(crate) fn send(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let packets: Vec<_> = self.packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
        let fd = socket.as_raw_fd();
        let sent = sendmmsg(fd, &mut self.headers, &packets, &self.to, [], MsgFlags::empty())?.count();
        self.forget(sent);
        Ok(())
    }

    /// Gives the first one up.
    pub(crate) fn skip(&mut self) {
        self.forget(1);
    }

    fn forget(&mut self, first: usize) {
        let first = first.min(self.packets.len());
        self.packets.drain(..first);
        self.to.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;

    use super::*;

    const LONGEST: usize = 64;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket
    }

    /// So many, however many calls that takes.
    fn receive(socket: &UdpSocket, number: usize) -> Vec<(Vec<u8>, Sender)> {
        let mut inbox = Inbox::<LONGEST>::new();
        let mut came = Vec::new();
        while came.len() < number {
            inbox.receive(socket).unwrap();
            came.extend(inbox.datagrams().map(|(packet, sender)| (packet.to_vec(), sender)));
        }
        came
    }

    #[test]
    fn each_datagram_has_its_length_and_an_answer_reaches_its_sender() {
        let server = socket();
        let clients: Vec<_> = (0..3).map(|_| socket()).collect();
        let packet = |n: usize| vec![n as u8; n];
        // Datagrams of one machine are queued as they are sent.
        for n in 0..BATCH + 8 {
            clients.get(n % 3).unwrap().send_to(&packet(n), server.local_addr().unwrap()).unwrap();
        }
        let mut outbox = Outbox::new();
        for (n, (came, sender)) in receive(&server, BATCH + 8).into_iter().enumerate() {
            assert_eq!((came.clone(), sender.ip()), (packet(n), "127.0.0.1".parse().ok()));
            outbox.push(came, sender);
        }
        outbox.send(&server).unwrap();
        assert!(!outbox.is_empty(), "one batch at a time");
        outbox.send(&server).unwrap();
        assert!(outbox.is_empty());
        for n in 0..BATCH + 8 {
            let mut answer = [0; LONGEST];
            let length = clients.get(n % 3).unwrap().recv(&mut answer).unwrap();
            assert_eq!(answer.get(..length).unwrap(), packet(n));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_off() {
        let (server, client) = (socket(), socket());
        client.send_to(&[7; LONGEST + 1], server.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&server, 1).first().unwrap().0, [7; LONGEST]);
    }

    #[test]
    fn what_cannot_be_sent_is_skipped_alone() {
        let (server, client) = (socket(), socket());
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        let sender = receive(&server, 1).first().unwrap().1;
        let mut outbox = Outbox::new();
        outbox.push(b"first".to_vec(), sender);
        outbox.push(vec![0; 70_000], sender);
        outbox.push(b"last".to_vec(), sender);
        outbox.send(&server).unwrap();
        assert!(outbox.send(&server).is_err(), "longer than a datagram can be");
        outbox.skip();
        outbox.send(&server).unwrap();
        assert!(outbox.is_empty());
        let answers = receive(&client, 2);
        assert_eq!(answers.into_iter().map(|(packet, _)| packet).collect::<Vec<_>>(), [&b"first"[..], b"last"]);
    }

    #[test]
    fn nothing_is_kept_of_what_came_before() {
        let (server, client) = (socket(), socket());
        server.set_nonblocking(true).unwrap();
        let mut inbox = Inbox::<LONGEST>::new();
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        inbox.receive(&server).unwrap();
        assert_eq!(inbox.datagrams().count(), 1);
        assert_eq!(inbox.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(inbox.datagrams().count(), 0);
    }
}
