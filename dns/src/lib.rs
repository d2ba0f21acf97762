//! What a name means: a small authoritative DNS server for the names of global namespaces and of public hosts.
//!
//! [`answer()`] decides and is pure. [`DnsServer`] is what others build and run; between the two, `message` reads and
//! writes DNS messages, `limit` bounds what one network may make us send, and `udp` and `tcp` move bytes, `datagrams`
//! many at a time. The message formats are hickory's. Its server is not used: that bounds neither connections nor the
//! tasks that datagrams start, and reserves memory for as many questions as a packet claims to hold.

mod answer;
mod datagrams;
mod explain;
#[cfg(test)]
mod fixture;
mod health;
mod limit;
mod message;
mod metrics;
mod select;
mod server;
mod tcp;
mod udp;

pub use answer::{Answer, Data, Question, QuestionType, SERVER_LABELS, Soa, answer};
pub use health::{GatewayState, Health, Serving};
pub use server::{BuildError, DnsServer, RunError, Settings};
