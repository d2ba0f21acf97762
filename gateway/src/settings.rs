//! What a gateway is told when it starts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::resource::cluster::Cidr;
use config::resource::{GatewayAddresses, Name};

use crate::limits::Limits;
use crate::workers::Layout;
use crate::{connections, overload};

/// The settings of one gateway, fixed for its life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, unique in its cluster.
    pub name: Name,
    /// Where public services answer over HTTP; nowhere when absent.
    pub http: Option<SocketAddr>,
    /// Where public services answer over HTTPS; nowhere when absent.
    pub https: Option<SocketAddr>,
    /// Where gateways of other clusters come in; nowhere when absent.
    pub east_west: Option<SocketAddr>,
    /// The address on which this cluster's workloads reach services, each on its own port; nowhere when absent.
    pub mesh: Option<IpAddr>,
    /// Connections to the public ports from these networks begin with a PROXY header, which says who called.
    pub proxy_protocol_from: Vec<Cidr>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// How much of anything one client gets.
    pub limits: Limits,
    /// Proxies in front of this gateway, whose account of the way a request came is believed.
    pub trusted_hops: Vec<Cidr>,
    /// How long new connections are still accepted after a stop was asked for, so that clients and DNS notice.
    pub drain_wait: Duration,
    /// How long requests may still run after that.
    pub drain_timeout: Duration,
    /// How old a client's connection may become, give or take a tenth; any age when absent.
    pub max_age: Option<Duration>,
    /// How many connections there may be.
    pub connections: connections::Limits,
    /// How much work is taken on.
    pub overload: overload::Limits,
    /// Who serves connections.
    pub workers: Layout,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

impl Settings {
    /// Where others reach this gateway, as it announces itself.
    pub fn addresses(&self) -> GatewayAddresses {
        let east_west = self.east_west.and_then(|at| at.to_string().parse().ok());
        let public = self.https.or(self.http).map(|at| at.ip());
        GatewayAddresses { name: self.name.clone(), east_west, public, mesh: self.mesh }
    }
}
