//! A request's body on its way to an instance, part by part.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body was broken off by its sender. Its end must not look like a whole body's, so the connection breaks too.
#[derive(Debug, thiserror::Error)]
#[error("the request's body was broken off")]
pub struct BrokenOff;

/// A part of a body.
enum Part {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// Where the parts come out.
pub struct RequestBody(Option<mpsc::Receiver<Part>>);

/// Where the parts go in.
pub struct BodySender(mpsc::Sender<Part>);

impl RequestBody {
    /// No body.
    pub fn none() -> Self {
        RequestBody(None)
    }

    /// A body of which one part at a time may wait.
    pub fn channel() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (BodySender(sender), RequestBody(Some(receiver)))
    }
}

impl BodySender {
    /// Comes back when a part can be put. May be dropped and called again.
    pub async fn ready(&self) -> Result<(), BrokenOff> {
        self.0.reserve().await.map(drop).map_err(|_| BrokenOff)
    }

    /// Puts a part; only after [`Self::ready`].
    pub fn put(&self, part: Bytes) -> Result<(), BrokenOff> {
        self.0.try_send(Part::Data(part)).map_err(|_| BrokenOff)
    }

    /// Puts the end; only after [`Self::ready`].
    pub fn end(&self, trailers: Option<HeaderMap>) -> Result<(), BrokenOff> {
        self.0.try_send(Part::End(trailers)).map_err(|_| BrokenOff)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(receiver) = &mut self.0 else { return Poll::Ready(None) };
        let part = std::task::ready!(receiver.poll_recv(context));
        Poll::Ready(match part {
            Some(Part::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Part::End(trailers)) => {
                self.0 = None;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            None => Some(Err(BrokenOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_body_ends_only_when_it_is_said() {
        let (sender, mut body) = RequestBody::channel();
        sender.put(Bytes::from_static(b"a")).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        sender.ready().await.unwrap();
        sender.end(None).unwrap();
        assert!(body.frame().await.is_none());

        let (sender, mut body) = RequestBody::channel();
        drop(sender);
        assert!(body.frame().await.unwrap().is_err());
    }
}
