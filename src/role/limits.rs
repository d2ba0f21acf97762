//! How much of anything one client of a gateway gets, as flags.

use config::resource::cluster::Cidr;
use gateway::Limits;

/// The limits of a gateway, and whom it believes. What is absent is the default of [`Limits`].
#[derive(clap::Args, Debug, Clone, Default)]
pub struct LimitArgs {
    /// The header fields of a request, in bytes; 64 KiB unless given. More is answered 431.
    #[arg(long = "limit-header-bytes", value_name = "BYTES")]
    header_bytes: Option<usize>,
    /// The number of header fields of a request; 100 unless given. More is answered 431.
    #[arg(long = "limit-header-count", value_name = "COUNT")]
    header_count: Option<usize>,
    /// The target of a request, in bytes; 8 KiB unless given. More is answered 414.
    #[arg(long = "limit-target-bytes", value_name = "BYTES")]
    target_bytes: Option<usize>,
    /// The body of a request, in bytes; not limited unless given. More is answered 413.
    #[arg(long = "limit-body-bytes", value_name = "BYTES")]
    body_bytes: Option<u64>,
    /// The streams that a client may have open at once on one HTTP/2 connection; 128 unless given.
    #[arg(long = "limit-streams", value_name = "COUNT")]
    streams: Option<u32>,
    /// The streams that a client may reset in a second, in the long run, on one HTTP/2 connection; 100 unless given.
    #[arg(long = "limit-resets", value_name = "COUNT")]
    resets: Option<u32>,
    /// Proxies in front of the gateway, as IP/PREFIX, separated by commas: their X-Forwarded-For, -Proto and -Host, or
    /// Forwarded, are believed and continued. Everybody else's are replaced.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_hops: Vec<Cidr>,
}

impl LimitArgs {
    /// The limits that these make.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.head.header_bytes = self.header_bytes.unwrap_or(limits.head.header_bytes);
        limits.head.header_count = self.header_count.unwrap_or(limits.head.header_count);
        limits.head.target_bytes = self.target_bytes.unwrap_or(limits.head.target_bytes);
        Limits {
            body_bytes: self.body_bytes,
            streams: self.streams.unwrap_or(limits.streams),
            resets_per_second: self.resets.unwrap_or(limits.resets_per_second),
            ..limits
        }
    }
}
