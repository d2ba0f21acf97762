//! How the tunnel of a stream begins, inside TLS: the origin asks, the destination answers, then the stream's own bytes
//! follow in both directions.
//!
//! The origin asks with a PROXY header of version 2: between whom the client's connection was made, and, in values of the
//! types for private use, what it is for. The destination answers with one byte for its verdict, one for the length of a
//! text, and the text: who serves, or why nobody does. Until then the origin sends nothing more, so that it can still go
//! elsewhere.

use std::io;

use bytes::BytesMut;
use config::resource::Name;
use decide::proxy_header::{self, Addresses, Extra, Header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::metadata::Received;
use crate::refusal::Refusal;

/// The cluster that shall deliver the stream.
const CLUSTER: u8 = 0xe0;
/// The service.
const SERVICE: u8 = 0xe1;
/// The service's port, in two bytes.
const PORT: u8 = 0xe2;
/// The version, where one was asked for.
const VERSION: u8 = 0xe3;
/// Who called, as a SPIFFE ID, where the origin was shown one.
const SOURCE: u8 = 0xe4;

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// What the origin asks for, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What the stream is for.
    pub wanted: Received<Name>,
    /// Between whom the client's connection was made.
    pub between: Addresses,
    /// Who called, as a SPIFFE ID, where the origin was shown one; not looked at yet.
    pub source: Option<String>,
}

/// What the destination says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The stream goes to this instance, as `CLUSTER/VERSION/INSTANCE`.
    Accepted(String),
    /// It goes nowhere, and no instance has seen it; the refusal's code.
    Refused(String),
}

impl Asked {
    /// As it is sent.
    pub fn write(&self) -> Vec<u8> {
        let Received { cluster, service, port, version } = &self.wanted;
        let text = |kind, name: &Name| Extra { kind, value: name.as_str().into() };
        let mut extras = vec![text(CLUSTER, cluster), text(SERVICE, service)];
        extras.push(Extra { kind: PORT, value: port.to_be_bytes().into() });
        extras.extend(version.as_ref().map(|version| text(VERSION, version)));
        extras.extend(self.source.as_ref().map(|source| Extra { kind: SOURCE, value: source.as_bytes().into() }));
        proxy_header::write(&Header { addresses: Some(self.between), extras })
    }

    /// Reads it from a peer.
    ///
    /// # Errors
    /// [`Refusal::ClientGone`] when the peer breaks off, [`Refusal::ForbiddenPeer`] when it sends anything else.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Asked, Refusal> {
        let mut read = BytesMut::with_capacity(512);
        loop {
            match proxy_header::read(&read).map_err(|_| Refusal::ForbiddenPeer)? {
                Some((header, length)) if length == read.len() => {
                    return Asked::of(&header).ok_or(Refusal::ForbiddenPeer);
                }
                Some(_) => return Err(Refusal::ForbiddenPeer),
                None => match from.read_buf(&mut read).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Refusal::ClientGone),
                },
            }
        }
    }

    fn of(header: &Header) -> Option<Asked> {
        let value = |kind| header.extras.iter().find(|extra| extra.kind == kind).map(|extra| extra.value.as_slice());
        let name = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<Name>().ok();
        let version = match value(VERSION) {
            Some(version) => Some(name(version)?),
            None => None,
        };
        let (cluster, service) = (name(value(CLUSTER)?)?, name(value(SERVICE)?)?);
        let port = u16::from_be_bytes(value(PORT)?.try_into().ok()?);
        let source = match value(SOURCE) {
            Some(source) => Some(std::str::from_utf8(source).ok()?.to_owned()),
            None => None,
        };
        Some(Asked { wanted: Received { cluster, service, port, version }, between: header.addresses?, source })
    }
}

impl Verdict {
    /// Sends it.
    pub async fn send(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (verdict, text) = match self {
            Verdict::Accepted(served_by) => (ACCEPTED, served_by),
            Verdict::Refused(code) => (REFUSED, code),
        };
        let text = text.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(text.as_bytes());
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        to.write_all(&[&[verdict, length], text].concat()).await?;
        to.flush().await
    }

    /// Reads it.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Verdict> {
        let mut head = [0; 2];
        from.read_exact(&mut head).await?;
        let [verdict, length] = head;
        let mut text = vec![0; length.into()];
        from.read_exact(&mut text).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        match verdict {
            ACCEPTED => Ok(Verdict::Accepted(text)),
            REFUSED => Ok(Verdict::Refused(text)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's verdict makes no sense")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn asked(version: Option<&str>) -> Asked {
        let [cluster, service] = ["south", "db"].map(|name| name.parse().unwrap());
        Asked {
            wanted: Received { cluster, service, port: 5432, version: version.map(|name| name.parse().unwrap()) },
            between: Addresses {
                source: "192.0.2.1:4000".parse().unwrap(),
                destination: "192.0.2.2:5432".parse().unwrap(),
            },
            source: version.map(|_| "spiffe://shop.mesh/cluster/north/ns/shop/svc/web".to_owned()),
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_read() {
        for asked in [asked(None), asked(Some("v1"))] {
            assert_eq!(Asked::read(&mut &asked.write()[..]).await, Ok(asked));
        }
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let whole = asked(None).write();
        assert_eq!(Asked::read(&mut &whole[..whole.len() - 1]).await, Err(Refusal::ClientGone));
        assert_eq!(Asked::read(&mut &[&whole[..], b"x"].concat()[..]).await, Err(Refusal::ForbiddenPeer));
        assert_eq!(Asked::read(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).await, Err(Refusal::ForbiddenPeer));
        let nothing = proxy_header::write(&Header { addresses: None, extras: Vec::new() });
        assert_eq!(Asked::read(&mut &nothing[..]).await, Err(Refusal::ForbiddenPeer));
    }

    #[tokio::test]
    async fn verdicts_are_read_and_the_streams_bytes_left() {
        let accepted = Verdict::Accepted("south/v1/127.0.0.1:5432".into());
        let long = Verdict::Refused("x".repeat(300));
        let mut sent = Vec::new();
        accepted.send(&mut sent).await.unwrap();
        long.send(&mut sent).await.unwrap();
        sent.extend(b"rest");
        let mut from = &sent[..];
        assert_eq!(Verdict::read(&mut from).await.unwrap(), accepted);
        assert_eq!(Verdict::read(&mut from).await.unwrap(), Verdict::Refused("x".repeat(255)));
        assert_eq!(from, b"rest");
        assert!(Verdict::read(&mut &[7, 0][..]).await.is_err());
    }
}
