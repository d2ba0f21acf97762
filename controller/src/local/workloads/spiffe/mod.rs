//! The SPIFFE Workload API: X.509 identities and bundles for whoever calls the socket, told apart by the user that the
//! system says is at its other end. This mesh has no JWT identities, so those methods are not implemented.

mod authority;
mod grpc;
mod messages;
mod socket;
mod tolerant;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::grpc::{Body, Code, Status};
use super::keeper::Standings;

pub(in crate::local) use self::socket::Socket;
pub use self::socket::SocketError;

/// Without this header the request may be one that a workload passed on unknowingly (SPIFFE Workload Endpoint).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// No request is longer, in bytes: those of this API are empty.
const MAX_REQUEST: usize = 16 * 1024;
/// A request takes no longer to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a caller follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Svids,
    Bundles,
}

impl Wanted {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/SpiffeWorkloadAPI/FetchX509SVID" => Some(Wanted::Svids),
            "/SpiffeWorkloadAPI/FetchX509Bundles" => Some(Wanted::Bundles),
            _ => None,
        }
    }
}

/// Answers one call of a user.
async fn answer(uid: u32, standings: watch::Receiver<Arc<Standings>>, request: Request<Incoming>) -> Response<Body> {
    let wanted = match check(request).await {
        Ok(wanted) => wanted,
        Err(status) => return status.response(),
    };
    let following = Following { uid, wanted, standings, last: None, ended: false };
    match following.current() {
        Ok(_) => grpc::streaming(following.frames()),
        Err(status) => {
            tracing::debug!(uid, reason = status.message, "a workload was given no identity");
            status.response()
        }
    }
}

async fn check(request: Request<Incoming>) -> Result<Wanted, Status> {
    let (head, body) = request.into_parts();
    if !marked(&head.headers) {
        let message = format!("the metadata {SECURITY_HEADER}: true is missing");
        return Err(Status::new(Code::InvalidArgument, message));
    }
    let grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if head.method != Method::POST || !grpc {
        return Err(Status::new(
            Code::InvalidArgument,
            "this is no gRPC call: POST, with content-type application/grpc",
        ));
    }
    let unknown = || format!("{} is not implemented: only FetchX509SVID and FetchX509Bundles are", head.uri.path());
    let wanted = Wanted::of(head.uri.path()).ok_or_else(|| Status::new(Code::Unimplemented, unknown()))?;
    let body = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_REQUEST).collect()).await;
    let body = body.map(|body| body.map(Collected::to_bytes));
    match body {
        Ok(Ok(body)) if grpc::is_one_message(&body) => Ok(wanted),
        _ => Err(Status::new(Code::InvalidArgument, "the request is not one short, uncompressed message")),
    }
}

fn marked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(SECURITY_HEADER).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}

/// What one caller is told from now on.
struct Following {
    uid: u32,
    wanted: Wanted,
    standings: watch::Receiver<Arc<Standings>>,
    last: Option<Zeroizing<Vec<u8>>>,
    ended: bool,
}

impl Following {
    /// The message as of now, or why there is none.
    fn current(&self) -> Result<Zeroizing<Vec<u8>>, Status> {
        let standings = self.standings.borrow().clone();
        let own: Vec<_> = standings.iter().filter(|standing| standing.uid == self.uid).collect();
        let svids = || own.iter().filter_map(|standing| standing.svid.as_deref().ok());
        match (svids().next(), own.first().map(|standing| (&standing.service, &standing.svid)), self.wanted) {
            (Some(_), _, Wanted::Svids) => Ok(messages::svids(svids())),
            (Some(_), _, Wanted::Bundles) => Ok(messages::bundles(svids())),
            (None, Some((service, Err(lack))), _) => {
                let code = if lack.denied { Code::PermissionDenied } else { Code::Unavailable };
                Err(Status::new(code, format!("{service}: {}", lack.reason)))
            }
            _ => Err(Status::new(
                Code::PermissionDenied,
                format!("user {} is no workload that the agent knows: declare it with --workload", self.uid),
            )),
        }
    }

    fn frames(self) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
        stream::unfold(self, async |following| following.next().await)
    }

    /// The next message that differs from the last, or the end.
    async fn next(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        while !self.ended {
            self.standings.mark_unchanged();
            match self.current() {
                Err(status) => return Some(self.end(&status)),
                Ok(message) if self.last.as_ref() != Some(&message) => {
                    let frame = Frame::data(grpc::framed(&message));
                    self.last = Some(message);
                    return Some((Ok(frame), self));
                }
                Ok(_) => {}
            }
            if self.standings.changed().await.is_err() {
                return Some(self.end(&Status::new(Code::Unavailable, "the agent is ending")));
            }
        }
        None
    }

    fn end(mut self, status: &Status) -> (io::Result<Frame<Bytes>>, Self) {
        self.ended = true;
        (Ok(Frame::trailers(status.headers())), self)
    }
}
