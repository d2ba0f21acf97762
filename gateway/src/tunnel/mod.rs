//! Tunnels: supervised connections to the gateways of other clusters, in a GNS's identity, and the health they carry.
//!
//! [`supervisor`] keeps as many as are wanted; [`dial`] makes one; [`pulse`] notices its death; [`report`] is what the
//! far end says about itself over it, and [`reports`] what this gateway says; [`neighbours`] is what was said of where
//! further gateways are; [`pool`] is where a request finds a tunnel. A stream has one of its own, made when it is needed:
//! [`stream`] is how that begins.

pub mod dial;
pub mod metadata;
mod neighbours;
pub mod pool;
pub mod pulse;
pub mod report;
pub mod reports;
pub mod stream;
pub mod supervisor;
