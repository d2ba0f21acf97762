//! Which connections come in at all: no more than the process has descriptors for, and no more of a client than it may
//! have; and which idle ones go first when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::resource::cluster::Cidr;

use crate::lifetime::Lifetime;

/// Besides those of clients, a gateway needs so many descriptors: listeners, tunnels, instances, files.
const RESERVED: usize = 128;

/// So many at once may be on their way to prove that they come from a peer. Each has 10 s for it.
const UNPROVEN: usize = 256;

/// When connections become too many, so many idle ones are asked to end.
const MAKE_ROOM: usize = 64;
/// They are those that have been idle for longest among so many, the next ones each time.
const LOOKED_AT: usize = 1_024;
/// Not more often than this.
const MAKE_ROOM_AGAIN: Duration = Duration::from_millis(200);

/// How many connections there may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Altogether; without one, what the process's descriptors allow.
    pub total: Option<usize>,
    /// Of one client, if at all: an IPv4 address, or an IPv6 /64.
    pub per_client: Option<usize>,
    /// Clients that may have any number.
    pub exempt: Vec<Cidr>,
}

/// Who opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// Whoever wants a service: bounded.
    Client,
    /// Whoever says that it is another gateway: there are few of them, and much hangs on each. Until it has
    /// [proven](Ticket::prove) it, it is bounded, too, and apart from clients.
    Peer,
}

/// Why a connection is closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// There are as many connections as there may be.
    Total,
    /// The client has as many as it may have.
    PerClient,
    /// There is no descriptor left.
    Descriptors,
    /// There are as many as there may be that have yet to prove that they are peers.
    Unproven,
}

impl Shed {
    /// All of them.
    pub const ALL: [Shed; 4] = [Shed::Total, Shed::PerClient, Shed::Descriptors, Shed::Unproven];

    /// As in the metric's label. Stable.
    pub fn code(self) -> &'static str {
        match self {
            Shed::Total => "total",
            Shed::PerClient => "per_client",
            Shed::Descriptors => "descriptors",
            Shed::Unproven => "unproven",
        }
    }
}

/// The open connections of a gateway.
pub struct Connections {
    total: usize,
    limits: Limits,
    /// Of clients, and of peers that have proven to be such.
    open: AtomicUsize,
    unproven: AtomicUsize,
    most_unproven: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
    lifetimes: Mutex<Lifetimes>,
    began: Instant,
    /// When room was last made, in milliseconds since the begin.
    made_room: AtomicU64,
}

#[derive(Default)]
struct Lifetimes {
    next: u64,
    /// Up to here they were looked at when room was last made.
    looked_at: u64,
    all: BTreeMap<u64, Arc<Lifetime>>,
}

/// A connection that came in, until dropped.
#[must_use]
pub struct Ticket {
    connections: Arc<Connections>,
    /// Where it is counted by client.
    client: Option<IpAddr>,
    proven: bool,
}

impl Ticket {
    /// Its opener has proven that it is a peer. Nothing changes for a client.
    pub fn prove(&mut self) {
        if !std::mem::replace(&mut self.proven, true) {
            self.connections.unproven.fetch_sub(1, Ordering::Relaxed);
            self.connections.open.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let counted = if self.proven { &self.connections.open } else { &self.connections.unproven };
        counted.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut by_client = lock(&self.connections.by_client);
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
    }
}

/// A connection that may be asked to end, until dropped.
#[must_use]
pub struct Registered {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.connections.lifetimes).all.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// None yet, of a process that may have so many descriptors.
    pub fn new(limits: Limits, descriptors: usize) -> Self {
        let possible = descriptors.saturating_sub(RESERVED.max(descriptors / 5)).max(descriptors / 4);
        Connections {
            total: limits.total.unwrap_or(possible),
            limits,
            open: AtomicUsize::new(0),
            unproven: AtomicUsize::new(0),
            // Of few descriptors, they take no more than a half of those that clients don't get.
            most_unproven: UNPROVEN.min(descriptors.saturating_sub(possible) / 2),
            by_client: Mutex::default(),
            lifetimes: Mutex::default(),
            began: Instant::now(),
            made_room: AtomicU64::new(0),
        }
    }

    /// A connection was accepted: may it stay?
    ///
    /// # Errors
    /// When it may not, and why.
    pub fn admit(self: &Arc<Self>, opener: Opener, client: IpAddr) -> Result<Ticket, Shed> {
        let (counted, most, shed) = match opener {
            Opener::Client => (&self.open, self.total, Shed::Total),
            Opener::Peer => (&self.unproven, self.most_unproven, Shed::Unproven),
        };
        let before = counted.fetch_add(1, Ordering::Relaxed);
        // From here on, dropping the ticket takes it back.
        let mut ticket = Ticket { connections: self.clone(), client: None, proven: opener == Opener::Client };
        if before >= most {
            return Err(shed);
        }
        if opener == Opener::Client {
            ticket.client = self.count(client)?;
        }
        Ok(ticket)
    }

    fn count(&self, client: IpAddr) -> Result<Option<IpAddr>, Shed> {
        let Some(limit) = self.limits.per_client else { return Ok(None) };
        if self.limits.exempt.iter().any(|range| range.contains(client)) {
            return Ok(None);
        }
        let client = counted_as(client);
        let mut by_client = lock(&self.by_client);
        let count = by_client.entry(client).or_default();
        if *count >= limit {
            return Err(Shed::PerClient);
        }
        *count += 1;
        Ok(Some(client))
    }

    /// From now on the connection may be asked to end when there are too many.
    pub fn register(self: &Arc<Self>, lifetime: &Arc<Lifetime>) -> Registered {
        let mut lifetimes = lock(&self.lifetimes);
        let number = lifetimes.next;
        lifetimes.next += 1;
        lifetimes.all.insert(number, lifetime.clone());
        drop(lifetimes);
        Registered { connections: self.clone(), number }
    }

    /// There are too many: asks some to end that have been idle for long.
    pub fn make_room(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.made_room.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= MAKE_ROOM_AGAIN.as_millis() as u64;
        let turn = self.made_room.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        if !due || turn.is_err() {
            return;
        }
        let all = lock(&self.lifetimes).look_at(LOOKED_AT);
        let idle = all.iter().filter(|one| !one.is_ending()).filter_map(|one| Some((one.idle()?, one)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        idle.iter().take(MAKE_ROOM).for_each(|(_, lifetime)| lifetime.end());
    }
}

impl Lifetimes {
    /// The next ones, so many at the most; the first ones again after the last.
    fn look_at(&mut self, most: usize) -> Vec<Arc<Lifetime>> {
        let ahead = self.all.range(self.looked_at..);
        let next: Vec<_> = ahead.chain(self.all.range(..self.looked_at)).take(most).collect();
        let looked_at = next.last().map_or(0, |(number, _)| *number + 1);
        let next = next.into_iter().map(|(_, lifetime)| lifetime.clone()).collect();
        self.looked_at = looked_at;
        next
    }
}

/// Whoever has an IPv6 address has its /64 (RFC 6177), and is one client.
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn connections(limits: Limits) -> Arc<Connections> {
        Arc::new(Connections::new(limits, 1024))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_are_no_more_than_descriptors_allow_but_peers_come_in() {
        let connections = Arc::new(Connections::new(Limits::default(), 256));
        let open = |opener| connections.admit(opener, ip("192.0.2.1"));
        let held: Vec<_> = std::iter::from_fn(|| open(Opener::Client).ok()).collect();
        assert_eq!(held.len(), 128);
        assert_eq!(open(Opener::Client).err(), Some(Shed::Total));
        let mut peers: Vec<_> = std::iter::from_fn(|| open(Opener::Peer).ok()).collect();
        assert_eq!((peers.len(), open(Opener::Peer).err()), (64, Some(Shed::Unproven)));
        peers.iter_mut().for_each(Ticket::prove);
        assert!(open(Opener::Peer).is_ok(), "who has proven what it is makes room for the next");
        drop((held, peers));
        assert_eq!(connections.open.load(Ordering::Relaxed) + connections.unproven.load(Ordering::Relaxed), 0);
        assert!(open(Opener::Client).is_ok());
    }

    #[test]
    fn a_client_has_no_more_than_its_share_unless_it_is_exempt() {
        let limits =
            Limits { per_client: Some(2), exempt: vec!["198.51.100.0/24".parse().unwrap()], ..Limits::default() };
        let connections = connections(limits);
        let open = |from| connections.admit(Opener::Client, ip(from));
        let held: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2:0:0:1"].map(open).into();
        assert!(held.iter().all(Result::is_ok));
        for full in ["192.0.2.1", "2001:db8::3"] {
            assert_eq!(open(full).err(), Some(Shed::PerClient), "{full}");
        }
        for other in ["192.0.2.2", "2001:db8:0:1::1"] {
            assert!(open(other).is_ok(), "{other}");
        }
        let exempt: Vec<_> = (0..10).map(|_| open("198.51.100.7")).collect();
        assert!(exempt.iter().all(Result::is_ok));
        drop(held);
        assert!(open("192.0.2.1").is_ok());
        drop(exempt);
        assert!(lock(&connections.by_client).is_empty(), "nothing is left of clients that are gone");
    }

    #[test]
    fn whoever_says_nothing_to_the_peers_port_takes_no_client_s_place() {
        let connections = Arc::new(Connections::new(Limits { total: Some(1), ..Limits::default() }, 1024));
        let _silent: Vec<_> = (0..100).map(|_| connections.admit(Opener::Peer, ip("192.0.2.1"))).collect();
        assert!(connections.admit(Opener::Client, ip("192.0.2.2")).is_ok());
    }

    #[test]
    fn all_are_looked_at_in_turn() {
        let connections = connections(Limits::default());
        let all: Vec<_> = (0..5).map(|_| Arc::new(Lifetime::default())).collect();
        let _registered: Vec<_> = all.iter().map(|one| connections.register(one)).collect();
        let look_at = |most| {
            let seen = lock(&connections.lifetimes).look_at(most);
            seen.iter().filter_map(|one| all.iter().position(|other| Arc::ptr_eq(one, other))).collect::<Vec<_>>()
        };
        assert_eq!([look_at(2), look_at(2), look_at(2), look_at(9)].concat(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn idle_ones_make_room_and_busy_ones_stay() {
        let connections = connections(Limits::default());
        let all: Vec<_> = (0..MAKE_ROOM + 2).map(|_| Arc::new(Lifetime::default())).collect();
        let _registered: Vec<_> = all.iter().map(|one| connections.register(one)).collect();
        let _busy: Vec<_> = all.iter().take(2).map(Lifetime::begin).collect();
        connections.make_room();
        let ending: Vec<_> = all.iter().map(|one| one.is_ending()).collect();
        assert_eq!(ending, [vec![false; 2], vec![true; MAKE_ROOM]].concat());
    }
}
