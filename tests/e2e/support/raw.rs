//! HTTP/1.1 by hand: what is sent is what the test wrote, byte for byte, and answers are read one at a time.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::http::{Answer, PATIENCE, Wire};

/// A connection.
pub struct Raw {
    stream: BufReader<Box<dyn Wire>>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Head {
    fn has(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    }

    fn is_bodiless(&self) -> bool {
        self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304)
    }
}

impl Raw {
    /// Over a TCP or TLS connection.
    pub fn over(stream: impl Wire) -> Raw {
        Raw { stream: BufReader::new(Box::new(stream)) }
    }

    /// Sends these bytes, all at once.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next head, be it an interim one.
    pub async fn head(&mut self) -> Head {
        let line = self.line().await;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        Head { status: status.unwrap_or_else(|| panic!("not a status line: {line:?}")), headers: self.fields().await }
    }

    /// The next answer, without the interim ones before it, to a request that was no HEAD.
    pub async fn answer(&mut self) -> Answer {
        let mut head = self.head().await;
        while head.status.is_informational() {
            head = self.head().await;
        }
        self.rest(head).await
    }

    /// What follows a head (RFC 9112 section 6.3).
    pub async fn rest(&mut self, head: Head) -> Answer {
        let mut body = Vec::new();
        let mut trailers = HeaderMap::new();
        if head.is_bodiless() {
        } else if head.has("transfer-encoding", "chunked") {
            while let length @ 1.. = self.chunk_length().await {
                self.take(length, &mut body).await;
                assert_eq!(self.line().await, "", "a chunk ends with its length");
            }
            trailers = self.fields().await;
        } else if let Some(length) = head.headers.get("content-length") {
            self.take(length.to_str().unwrap().parse().unwrap(), &mut body).await;
        } else {
            tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut body)).await.expect("its end").unwrap();
        }
        Answer { status: head.status, headers: head.headers, body: Bytes::from(body), trailers }
    }

    /// Whether the server has closed the connection; waits until it does, or says more.
    pub async fn has_ended(&mut self) -> bool {
        let more = tokio::time::timeout(PATIENCE, self.stream.fill_buf()).await.expect("it ends");
        more.map_or(true, <[u8]>::is_empty)
    }

    async fn take(&mut self, length: u64, into: &mut Vec<u8>) {
        let mut limited = (&mut self.stream).take(length);
        let taken = tokio::time::timeout(PATIENCE, limited.read_to_end(into)).await.expect("the body").unwrap();
        assert_eq!(taken as u64, length, "the body is cut");
    }

    async fn chunk_length(&mut self) -> u64 {
        let line = self.line().await;
        u64::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a chunk's length: {line:?}"))
    }

    async fn fields(&mut self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else {
                assert_eq!(line, "");
                return fields;
            };
            fields.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("a line").unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the connection ended within {line:?}")).to_owned()
    }
}
