//! An instance that speaks HTTP/1.1 and treats its connections as it likes, within what the standard lets it do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

/// - After `/tired` it closes the connection as soon as it has read one more head on it.
/// - Of `/parts` it says two of five bytes, and the others at the sign.
/// - From `/blocked` it reads nothing but the head, and answers nothing.
/// - To anything else it says `ok`.
#[derive(Clone, Default)]
pub struct Fickle {
    heads: Arc<Mutex<Vec<String>>>,
    sign: Arc<Notify>,
}

impl Fickle {
    /// Serves until the test's runtime ends.
    pub async fn serve(at: SocketAddr) -> Fickle {
        let (fickle, listener) = (Fickle::default(), listen(at));
        let serving = fickle.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        fickle
    }

    /// How many requests came whose heads begin so.
    pub fn count(&self, beginning: &str) -> usize {
        self.heads.lock().unwrap().iter().filter(|head| head.starts_with(beginning)).count()
    }

    /// Gives the sign.
    pub fn go_on(&self) {
        self.sign.notify_one();
    }

    async fn converse(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut tired = false;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            self.heads.lock().unwrap().push(head);
            match path.as_str() {
                _ if tired => return Ok(()),
                "/blocked" => std::future::pending().await,
                "/parts" => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await?;
                    self.sign.notified().await;
                    stream.write_all(b"llo").await?;
                }
                _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?,
            }
            tired = path == "/tired";
        }
    }
}

/// What is not read must not wait in the kernel.
fn listen(at: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind(at).unwrap();
    socket.listen(128).unwrap()
}
