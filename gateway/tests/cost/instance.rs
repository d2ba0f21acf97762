//! An instance of HTTP/1.1: threads, and no library whose allocations might vary.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Every answer's body has so many bytes.
pub const BODY: usize = 1_024;

/// Starts an instance. Its threads end with the process.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Answers one request after another, each in one write, until the gateway closes.
fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let answer = answer();
    while take_request(&mut reader).is_some() && stream.write_all(&answer).is_ok() {}
}

fn take_request(reader: &mut impl BufRead) -> Option<()> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        let read = reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            _ if read == 0 => return None,
            "" => break,
            field => match field.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                _ => {}
            },
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()
}

fn answer() -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: instance\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         content-type: application/octet-stream\r\ncontent-length: {BODY}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; BODY]].concat()
}
