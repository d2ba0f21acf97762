//! What was read of a request's body, kept so that another attempt can send it again.

use bytes::Bytes;
use http::HeaderMap;

/// No more of a body is kept, in bytes.
pub const KEPT: usize = 64 * 1024;

/// The body as far as it was read.
pub struct Replay {
    parts: Vec<Bytes>,
    size: usize,
    spilled: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl Replay {
    /// Nothing was read yet; `ended` when there is no body.
    pub fn new(ended: bool) -> Self {
        Replay { parts: Vec::new(), size: 0, spilled: false, ended, trailers: None }
    }

    /// A part came in.
    pub fn push(&mut self, part: &Bytes) {
        self.size = self.size.saturating_add(part.len());
        if self.size > KEPT {
            self.spilled = true;
            self.parts = Vec::new();
        } else {
            self.parts.push(part.clone());
        }
    }

    /// The end came in, perhaps with trailers.
    pub fn end(&mut self, trailers: Option<HeaderMap>) {
        self.ended = true;
        self.trailers = trailers;
    }

    /// What followed the body.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// What must be sent before anything more is read.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Whether the body's end was read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether all that was read can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.spilled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_is_small_and_nothing_of_what_is_large() {
        let mut replay = Replay::new(false);
        let part = Bytes::from(vec![0; KEPT / 2]);
        replay.push(&part);
        replay.push(&part);
        assert!(replay.is_whole() && replay.parts().len() == 2 && !replay.ended());
        replay.push(&Bytes::from_static(b"x"));
        assert!(!replay.is_whole() && replay.parts().is_empty());
        replay.end(None);
        assert!(replay.ended());
    }
}
