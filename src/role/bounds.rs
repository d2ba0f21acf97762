//! The bounds of a gateway, as flags: 0 is none.

use std::num::NonZeroUsize;
use std::time::Duration;

use config::resource::cluster::Cidr;
use gateway::workers::Layout;
use gateway::{connections, overload};

/// How much a gateway takes on.
#[derive(clap::Args, Debug, Clone)]
pub struct Bounds {
    /// How old a client's connection may become, in seconds, give or take a tenth; then it is asked to end, and requests on
    /// it finish. 0 for any age.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    max_connection_age: u64,
    /// How many threads serve connections; without it, one for each core that the process may use.
    #[arg(long, value_name = "NUMBER")]
    workers: Option<NonZeroUsize>,
    /// How many connections there may be; 0 for as many as the process has descriptors for. More are closed at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    max_connections: usize,
    /// How many connections one client may have (one IPv4 address, or one IPv6 /64); 0 for any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    max_connections_per_client: usize,
    /// Clients that may have any number of connections.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    connection_limit_exempt: Vec<Cidr>,
    /// How many requests may wait for an answer at once; 0 for any number. Further ones are refused with 503.
    #[arg(long, value_name = "NUMBER", default_value_t = 25_000)]
    max_requests: usize,
    /// How long work may wait for its turn, in milliseconds, before a share of new requests is refused with 503, so that
    /// the others are served in time; 0 for ever.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    max_lag: u64,
}

impl Bounds {
    /// Of a connection's age.
    pub fn max_age(&self) -> Option<Duration> {
        bound(self.max_connection_age).map(Duration::from_secs)
    }

    /// Of threads.
    pub fn workers(&self) -> Layout {
        self.workers.map_or_else(Layout::default, Layout::Threads)
    }

    /// Of the number of connections.
    pub fn connections(&self) -> connections::Limits {
        connections::Limits {
            total: bound(self.max_connections),
            per_client: bound(self.max_connections_per_client),
            exempt: self.connection_limit_exempt.clone(),
        }
    }

    /// Of work.
    pub fn overload(&self) -> overload::Limits {
        overload::Limits { requests: bound(self.max_requests), lag: bound(self.max_lag).map(Duration::from_millis) }
    }
}

fn bound<N: Default + PartialEq>(number: N) -> Option<N> {
    (number != N::default()).then_some(number)
}
