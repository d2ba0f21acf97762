//! A DNS client of a few lines: one question, and what comes back (RFC 1035, section 4).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

pub const A: u16 = 1;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;

pub const NOERROR: u8 = 0;
pub const NXDOMAIN: u8 = 3;
pub const REFUSED: u8 = 5;

/// How a question is sent.
#[derive(Debug, Clone, Copy)]
pub enum Over {
    Udp,
    Tcp,
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub code: u8,
    /// The server has authority over the name.
    pub authoritative: bool,
    /// The A records, in order.
    pub addresses: Vec<IpAddr>,
    /// The types of the records in the authority section.
    pub authority: Vec<u16>,
}

/// Asks one question.
pub async fn ask(at: SocketAddr, over: Over, name: &str, kind: u16) -> Result<Reply, String> {
    let query = query(name, kind);
    let asked = async {
        match over {
            Over::Udp => ask_udp(at, &query).await,
            Over::Tcp => ask_tcp(at, &query).await,
        }
    };
    match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
        Ok(Ok(reply)) => Ok(parse(&reply, query.len())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no reply in time".to_owned()),
    }
}

async fn ask_udp(at: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(at).await?;
    socket.send(query).await?;
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

async fn ask_tcp(at: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_u16(query.len().try_into().unwrap()).await?;
    stream.write_all(query).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// One question, recursion desired, no EDNS.
fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0x70, 0x6d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len().try_into().unwrap());
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend(1u16.to_be_bytes());
    query
}

/// Reads the reply to a question of this length; the question is repeated at its head.
fn parse(reply: &[u8], question: usize) -> Reply {
    let number = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    assert_eq!(number(0), 0x706d, "a reply to another question");
    let (answers, authorities) = (number(6), number(8));
    let mut parsed = Reply { code: reply[3] & 15, authoritative: reply[2] & 4 != 0, ..Reply::default() };
    let mut at = question;
    for record in 0..answers + authorities {
        at = after_name(reply, at);
        let (kind, length) = (number(at), number(at + 8) as usize);
        let data = &reply[at + 10..at + 10 + length];
        match kind {
            A if record < answers => parsed.addresses.push(Ipv4Addr::new(data[0], data[1], data[2], data[3]).into()),
            _ if record >= answers => parsed.authority.push(kind),
            _ => {}
        }
        at += 10 + length;
    }
    parsed
}

/// Where a name ends: at its root label, or at a pointer (RFC 1035, section 4.1.4).
fn after_name(reply: &[u8], mut at: usize) -> usize {
    loop {
        match reply[at] {
            0 => return at + 1,
            length if length >= 0xc0 => return at + 2,
            length => at += 1 + length as usize,
        }
    }
}
