//! What was read of a request's body, kept so that another attempt can send it again.

use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;

use crate::refusal::Refusal;

/// No more of a body is kept, in bytes.
pub const KEPT: u64 = 64 * 1024;

/// The body as far as it was read.
pub struct Replay {
    parts: SmallVec<[Bytes; 1]>,
    size: u64,
    most: Option<u64>,
    spilled: bool,
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl Replay {
    /// Nothing was read yet; `ended` when there is no body. `most` is how long the body may be, in bytes.
    pub fn new(ended: bool, most: Option<u64>) -> Self {
        Replay { parts: SmallVec::new(), size: 0, most, spilled: false, ended, trailers: None }
    }

    /// A part came in. It is refused when the body is longer with it than it may be.
    pub fn push(&mut self, part: &Bytes) -> Result<(), Refusal> {
        self.size = self.size.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        if self.most.is_some_and(|most| self.size > most) {
            return Err(Refusal::BodyTooLarge);
        }
        if self.size > KEPT {
            self.spilled = true;
            self.parts = SmallVec::new();
        } else {
            self.parts.push(part.clone());
        }
        Ok(())
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_keeps_what_is_small_and_nothing_of_what_is_large() {
        let mut replay = Replay::new(false, None);
        let part = Bytes::from(vec![0; 32 * 1024]);
        replay.push(&part).unwrap();
        replay.push(&part).unwrap();
        assert!(replay.is_whole() && replay.parts().len() == 2 && !replay.ended());
        replay.push(&Bytes::from_static(b"x")).unwrap();
        assert!(!replay.is_whole() && replay.parts().is_empty());
        replay.end(None);
        assert!(replay.ended());
    }

    #[test]
    fn a_body_has_its_limit() {
        let mut replay = Replay::new(false, Some(3));
        replay.push(&Bytes::from_static(b"abc")).unwrap();
        assert_eq!(replay.push(&Bytes::from_static(b"d")), Err(Refusal::BodyTooLarge));
    }
}
