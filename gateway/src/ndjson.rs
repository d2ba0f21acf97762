//! Lines of JSON in a byte stream that has no end, as gateways tell one another and DNS servers of health. A line without
//! content is a beat: nothing changed.

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;

/// A beat, as a line.
pub const BEAT_LINE: Bytes = Bytes::from_static(b"\n");

/// A value as a line of its own.
///
/// # Errors
/// When it has no JSON form.
pub fn line(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line.into())
}

/// Cuts a byte stream into lines.
#[derive(Default)]
pub struct Cutter {
    buffer: BytesMut,
    /// So many bytes of the buffer hold no line's end.
    scanned: usize,
}

impl Cutter {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line that isn't a beat, without its end.
    pub fn line(&mut self) -> Option<BytesMut> {
        while let Some(end) = self.buffer.iter().skip(self.scanned).position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.scanned + end);
            self.buffer.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    /// How many bytes have come of a line that isn't whole yet.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_stream_is_cut(lines in vec("[ab]{0,6}", 0..6), rest in "[ab]{0,3}", cut in 1..9usize) {
            let stream = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + &rest;
            let (mut cutter, mut said) = (Cutter::default(), Vec::new());
            for part in stream.as_bytes().chunks(cut) {
                cutter.push(part);
                said.extend(std::iter::from_fn(|| cutter.line()).map(|line| line.to_vec()));
            }
            let expected: Vec<_> = lines.iter().filter(|line| !line.is_empty()).map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(said, expected);
            prop_assert_eq!(cutter.waiting(), rest.len());
        }
    }
}
