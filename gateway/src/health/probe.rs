//! One active check of one instance.

use std::net::SocketAddr;

use config::resource::HealthProtocol;
use config::snapshot::{Accept, Check};
use decide::health::Probed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::call;
use crate::upstream::secure::{Inside, Security, Wire};

/// A status line is no longer than this, in bytes, even with a long reason.
const STATUS_LINE: usize = 256;

/// Where an instance is checked, and how it is spoken to.
pub(super) struct Checked {
    pub(super) address: SocketAddr,
    pub(super) security: Security,
    pub(super) inside: Inside,
}

/// How the instance is, by this check.
pub(super) async fn probe(at: &Checked, check: &Check) -> Probed {
    match timeout(check.timeout.duration(), answer(at, check)).await {
        Ok(Ok(true)) => Probed::Well,
        Ok(Ok(false)) => Probed::Ill,
        Ok(Err(_)) | Err(_) => Probed::Silent,
    }
}

async fn answer(checked: &Checked, check: &Check) -> std::io::Result<bool> {
    let at = checked.address;
    let mut stream = checked.security.open(at, checked.inside).await.map_err(std::io::Error::other)?;
    match check.protocol {
        HealthProtocol::Http if check.prior_knowledge => {
            call::get(stream, at, &check.path).await.map(|status| accepts(check.accept, status))
        }
        HealthProtocol::Http => http(&mut stream, at, check).await,
        HealthProtocol::Grpc => call::serves(stream, at).await,
        HealthProtocol::Tcp => Ok(true),
    }
}

fn accepts(accept: Accept, status: u16) -> bool {
    match accept {
        Accept::Success => (200..400).contains(&status),
        Accept::BelowServerError => status < 500,
    }
}

async fn http(stream: &mut Wire, at: SocketAddr, check: &Check) -> std::io::Result<bool> {
    let path = &check.path;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nuser-agent: tombolo-health\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::with_capacity(STATUS_LINE);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(status(&line).is_some_and(|status| accepts(check.accept, status)))
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
