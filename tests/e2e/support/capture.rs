//! An instance that believes nothing: it reads what a gateway sends byte by byte, by the strictest reading there is, and
//! keeps it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Arrived {
    /// The value of a header that must stand at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(is, _)| is == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} is repeated: {self:?}");
        first
    }
}

/// What has arrived so far.
#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    requests: Vec<Arrived>,
    faults: Vec<String>,
}

impl Capture {
    /// Serves until the test's runtime ends; answers everything with `ok`.
    pub async fn serve(at: SocketAddr) -> Capture {
        let capture = Capture::default();
        let listener = TcpListener::bind(at).await.unwrap();
        let serving = capture.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        capture
    }

    /// Everything that arrived whole. Panics if anything arrived that a strict server refuses.
    pub fn requests(&self) -> Vec<Arrived> {
        let seen = self.0.lock().unwrap();
        assert!(seen.faults.is_empty(), "{} malformed requests arrived: {:#?}", seen.faults.len(), seen.faults);
        seen.requests.clone()
    }

    async fn converse(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let read = read(&mut stream, &mut bytes).await;
            let kept = match read {
                Ok(Some(request)) => {
                    let is_check = request.header("user-agent") == Some("tombolo-health");
                    (!is_check).then(|| self.0.lock().unwrap().requests.push(request));
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
                }
                Ok(None) => return,
                Err(fault) => {
                    return self.0.lock().unwrap().faults.push(fault);
                }
            };
            if kept.is_err() {
                return;
            }
        }
    }
}

/// The next request; `None` when there is none, or it breaks off.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<Arrived>, String> {
    let Some(head) = until(stream, bytes, b"\r\n\r\n").await else { return Ok(None) };
    let told = |fault| format!("{fault}: {:?}", String::from_utf8_lossy(&head));
    let request = parse(&head).map_err(told)?;
    read_body(stream, bytes, request).await.map_err(told)
}

async fn read_body(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    mut request: Arrived,
) -> Result<Option<Arrived>, &'static str> {
    let length = request.header("content-length").map(str::to_owned);
    match (length, request.header("transfer-encoding")) {
        (None, None) => Ok(Some(request)),
        (Some(length), None) => {
            let length = length.bytes().all(|b| b.is_ascii_digit()).then(|| length.parse().ok()).flatten();
            let body = exactly(stream, bytes, length.ok_or("content-length")?).await;
            Ok(body.map(|body| Arrived { body, ..request }))
        }
        (None, Some("chunked")) => loop {
            let Some(line) = until(stream, bytes, b"\r\n").await else { return Ok(None) };
            let digits = line.iter().all(u8::is_ascii_hexdigit).then(|| String::from_utf8(line).unwrap());
            let size = usize::from_str_radix(&digits.ok_or("a chunk's size")?, 16).map_err(|_| "a chunk's size")?;
            if size == 0 {
                let trailers = until(stream, bytes, b"\r\n").await;
                return if trailers.is_none_or(|line| line.is_empty()) { Ok(Some(request)) } else { Err("trailers") };
            }
            let Some(chunk) = exactly(stream, bytes, size + 2).await else { return Ok(None) };
            let data = chunk.strip_suffix(b"\r\n").ok_or("a chunk's end")?;
            request.body.extend(data);
        },
        _ => Err("the framing"),
    }
}

fn parse(head: &[u8]) -> Result<Arrived, &'static str> {
    // A value may have any byte above 127 (RFC 9110 section 5.5).
    let text: String = head.iter().copied().map(char::from).collect();
    let mut lines = text.split("\r\n");
    let parts: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err("the request line") };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a header line")?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err("a header name");
        }
        if value.contains(|c: char| c.is_ascii_control() && c != '\t') || value.trim_matches([' ', '\t']) != value {
            return Err("a header value");
        }
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the target");
    }
    let hosts = headers.iter().filter(|(name, _)| name == "host").count();
    if hosts != 1 {
        return Err("the number of hosts");
    }
    Ok(Arrived { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() })
}

/// What stands before the end, which is taken too.
async fn until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
            let taken = bytes.drain(..at + end.len()).take(at).collect();
            return Some(taken);
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn exactly(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while bytes.len() < length {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes.drain(..length).collect())
}
