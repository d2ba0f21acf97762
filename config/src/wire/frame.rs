//! How messages are cut out of a byte stream.
//!
//! A frame is a length (four bytes, most significant first, of what follows it), one byte that tells what it is, and
//! the content: `0` for a JSON message, `1` for a secret (the reference as a JSON text, a zero byte, the key in PEM).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::secret::Secret;

/// No frame is longer, in bytes. Larger updates travel in parts.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

const MESSAGE: u8 = 0;
const SECRET: u8 = 1;

/// What a frame holds.
pub enum Frame<T> {
    /// A message.
    Message(T),
    /// A secret.
    Secret(Secret),
    /// Of a kind that a newer release knows. It means nothing here.
    Unknown,
}

/// Why a byte stream makes no sense. The stream must be closed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FrameError {
    #[error("a frame of {0} bytes is longer than the {MAX_FRAME} that are allowed")]
    TooLong(usize),
    #[error("a frame is empty: the peer is not Tombolo")]
    Empty,
    #[error("a message cannot be read: {0}")]
    Message(#[from] serde_json::Error),
    #[error("a secret cannot be read")]
    Secret,
}

/// Frames a message.
pub fn message<T: Serialize>(message: &T) -> Result<Bytes, FrameError> {
    let mut buffer = BytesMut::with_capacity(256);
    buffer.put_u32(0);
    buffer.put_u8(MESSAGE);
    serde_json::to_writer((&mut buffer).writer(), message)?;
    finish(buffer)
}

/// Frames a secret.
pub fn secret(secret: &Secret) -> Result<Bytes, FrameError> {
    let mut buffer = BytesMut::with_capacity(secret.pem().len() + 128);
    buffer.put_u32(0);
    buffer.put_u8(SECRET);
    serde_json::to_writer((&mut buffer).writer(), secret.reference())?;
    buffer.put_u8(0);
    buffer.put_slice(secret.pem().as_bytes());
    finish(buffer)
}

fn finish(mut buffer: BytesMut) -> Result<Bytes, FrameError> {
    let length = buffer.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME).ok_or(FrameError::TooLong(length))?;
    if let Some(head) = buffer.get_mut(..4) {
        head.copy_from_slice(&prefix.to_be_bytes());
    }
    Ok(buffer.freeze())
}

/// Collects bytes and cuts frames out of them. Holds at most one frame and what came with it.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    // An iterator would have one item type; here the caller says which messages the stream carries.
    #[allow(clippy::should_implement_trait)]
    /// The next whole frame, or `None` until more bytes have come.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut content = self.buffer.split_to(length);
        if content.is_empty() {
            return Err(FrameError::Empty);
        }
        match content.get_u8() {
            MESSAGE => Ok(Some(Frame::Message(serde_json::from_slice(&content)?))),
            SECRET => read_secret(&content).map(|secret| Some(Frame::Secret(secret))),
            _ => Ok(Some(Frame::Unknown)),
        }
    }
}

fn read_secret(content: &[u8]) -> Result<Secret, FrameError> {
    let end = content.iter().position(|byte| *byte == 0).ok_or(FrameError::Secret)?;
    let (reference, pem) = content.split_at(end);
    let reference = serde_json::from_slice(reference).map_err(|_| FrameError::Secret)?;
    let pem = pem.get(1..).and_then(|pem| std::str::from_utf8(pem).ok()).ok_or(FrameError::Secret)?;
    Ok(Secret::new(reference, Zeroizing::new(pem.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::resource::SecretRef;
    use crate::wire::Up;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let reference = SecretRef { key_sha256: "ab".into() };
        let secret_frame = secret(&Secret::new(reference.clone(), Zeroizing::new("PEM".into()))).unwrap();
        let stream = [message(&Up::Beat).unwrap(), secret_frame].concat();
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut frames = vec![];
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next::<Up>().unwrap() {
                    frames.push(frame);
                }
            }
            let [Frame::Message(Up::Beat), Frame::Secret(secret)] = frames.as_slice() else { panic!("cut {cut}") };
            assert_eq!((secret.reference(), secret.pem()), (&reference, "PEM"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<Up>() {}
        }
    }

    #[test]
    fn an_overlong_frame_is_refused_before_it_is_collected() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next::<Up>(), Err(FrameError::TooLong(_))));
    }
}
