//! An instance that behaves as it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers 200.
    Well,
    /// It answers this, but 200 to checks.
    Status(StatusCode),
    /// It answers this to everything.
    Sick(StatusCode),
    /// It closes the connection instead of an answer, but answers checks.
    Reset,
    /// It breaks off in the middle of an answer, but answers checks.
    Broken,
    /// It answers nothing, not even checks.
    Hang,
    /// Nobody listens.
    Refuse,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
}

/// See the module. It ends with the test's runtime.
pub struct Moody {
    pub at: SocketAddr,
    state: Arc<State>,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct State {
    mood: Mutex<Mood>,
    asked: Mutex<Vec<Asked>>,
}

impl Moody {
    /// One that is well.
    pub async fn start(at: SocketAddr) -> Moody {
        let state = Arc::new(State { mood: Mutex::new(Mood::Well), asked: Mutex::default() });
        let moody = Moody { at, state, serving: Mutex::new(None) };
        moody.set(Mood::Well).await;
        moody
    }

    /// From now on it behaves so.
    pub async fn set(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
        let serving = self.serving.lock().unwrap().take();
        let serving = match (mood, serving) {
            (Mood::Refuse, Some(serving)) => {
                serving.abort();
                // Its socket is closed once it has ended.
                _ = serving.await;
                None
            }
            (Mood::Refuse, None) => None,
            (_, Some(serving)) => Some(serving),
            (_, None) => Some(tokio::spawn(serve(listen(self.at), self.state.clone()))),
        };
        *self.serving.lock().unwrap() = serving;
    }

    /// What it was asked since it was asked for that last, checks apart.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(at).unwrap();
    socket.listen(128).unwrap()
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(converse(stream, state.clone()));
    }
}

async fn converse(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| answer(state.clone(), request));
    _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Answered = Response<BoxBody<Bytes, std::io::Error>>;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Answered, std::io::Error> {
    let (head, body) = request.into_parts();
    let check = head.uri.path() == "/health";
    if !check {
        let asked = Asked { method: head.method, headers: head.headers };
        state.asked.lock().unwrap().push(asked);
        body.collect().await.map_err(std::io::Error::other)?;
    }
    let mood = *state.mood.lock().unwrap();
    match mood {
        Mood::Hang => std::future::pending().await,
        Mood::Sick(status) => Ok(with(status)),
        _ if check => Ok(with(StatusCode::OK)),
        Mood::Well | Mood::Refuse => Ok(with(StatusCode::OK)),
        Mood::Status(status) => Ok(with(status)),
        Mood::Reset => Err(std::io::ErrorKind::ConnectionReset.into()),
        Mood::Broken => Ok(broken()),
    }
}

fn with(status: StatusCode) -> Answered {
    let mut answer = Response::new(Full::from("an answer\n").map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}

/// Its beginning, and then an end that nobody could take for the whole.
fn broken() -> Answered {
    let begun = Ok(Frame::data(Bytes::from_static(b"half of an answer")));
    let parts = futures_util::stream::iter([begun, Err(std::io::ErrorKind::BrokenPipe.into())]);
    Response::new(BodyExt::boxed(StreamBody::new(parts)))
}
