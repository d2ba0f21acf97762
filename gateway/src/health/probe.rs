//! One active check of one instance.

use std::net::SocketAddr;

use config::resource::{HealthProtocol, Protocol};
use config::snapshot::{Accept, Check};
use decide::health::Probed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::call;
use crate::upstream::secure::{Inside, Security, Wire};

/// A status line is no longer than this, in bytes, even with a long reason.
const STATUS_LINE: usize = 256;

/// Where an instance is checked, and how it is spoken to.
pub struct Checked {
    /// Its address.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub security: Security,
    /// What is spoken inside.
    pub inside: Inside,
}

/// What a check found.
#[derive(Debug, thiserror::Error)]
pub enum Found {
    /// It is as it should be.
    #[error("it is well")]
    Well,
    /// It answers with a status that isn't well.
    #[error("it answers its check with {0}")]
    Status(u16),
    /// It answers, but no HTTP.
    #[error("it does not speak HTTP/1.1 on this port")]
    NoHttp,
    /// It says of itself that it doesn't serve.
    #[error("it says that it does not serve (gRPC health)")]
    NotServing,
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(std::io::Error),
    /// Nothing in time.
    #[error("it does not answer within {0:?}")]
    Late(std::time::Duration),
}

/// How the instance is, by this check.
pub(super) async fn probe(at: &Checked, check: &Check) -> Probed {
    match look(at, check, check.timeout.duration()).await {
        Found::Well => Probed::Well,
        Found::Status(_) | Found::NoHttp | Found::NotServing => Probed::Ill,
        Found::Broken(_) | Found::Late(_) => Probed::Silent,
    }
}

/// Checks an instance once.
pub async fn look(at: &Checked, check: &Check, patience: std::time::Duration) -> Found {
    let looked = timeout(patience, answer(at, check)).await;
    looked.map_or(Found::Late(patience), |answered| answered.unwrap_or_else(Found::Broken))
}

/// Whether an instance speaks what its port shall speak, without a request for anything.
pub async fn speaks(at: &Checked, protocol: Protocol, patience: std::time::Duration) -> Found {
    let speaking = async {
        let mut stream = at.security.open(at.address, at.inside).await.map_err(std::io::Error::other)?;
        match protocol {
            // To the server as a whole, which may answer as it likes (RFC 9110 section 9.3.7).
            Protocol::Http => {
                let status = http(&mut stream, at.address, "OPTIONS *").await?;
                Ok(status.map_or(Found::NoHttp, |_| Found::Well))
            }
            Protocol::Http2 | Protocol::Grpc => call::beats(stream).await.map(|()| Found::Well),
            Protocol::Tcp | Protocol::Tls => Ok(Found::Well),
        }
    };
    timeout(patience, speaking).await.map_or(Found::Late(patience), |spoken| spoken.unwrap_or_else(Found::Broken))
}

async fn answer(checked: &Checked, check: &Check) -> std::io::Result<Found> {
    let at = checked.address;
    let mut stream = checked.security.open(at, checked.inside).await.map_err(std::io::Error::other)?;
    match check.protocol {
        HealthProtocol::Http if check.prior_knowledge => {
            call::get(stream, at, &check.path).await.map(|status| judge(check.accept, status))
        }
        HealthProtocol::Http => {
            let status = http(&mut stream, at, &format!("GET {}", check.path)).await?;
            Ok(status.map_or(Found::NoHttp, |status| judge(check.accept, status)))
        }
        HealthProtocol::Grpc => {
            call::serves(stream, at).await.map(|serves| if serves { Found::Well } else { Found::NotServing })
        }
        HealthProtocol::Tcp => Ok(Found::Well),
    }
}

fn judge(accept: Accept, status: u16) -> Found {
    if accepts(accept, status) { Found::Well } else { Found::Status(status) }
}

fn accepts(accept: Accept, status: u16) -> bool {
    match accept {
        Accept::Success => (200..400).contains(&status),
        Accept::BelowServerError => status < 500,
    }
}

/// The status of the answer to a request of this line, if it is one of HTTP/1.
async fn http(stream: &mut Wire, at: SocketAddr, line: &str) -> std::io::Result<Option<u16>> {
    let request = format!("{line} HTTP/1.1\r\nhost: {at}\r\nuser-agent: tombolo-health\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::with_capacity(STATUS_LINE);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(status(&line))
}

/// The status in `HTTP/1.1 200 OK` (RFC 9112 section 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
    digits.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 500\r\n"), Some(500));
        for wrong in ["", "HTTP/1.1", "HTTP/1.1 2", "HTTP/2 200", "SSH-2.0-x", "HTTP/1.1 999 x", "HTTP/1.1 abc"] {
            assert_eq!(status(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
