//! A message's body, out of what has come (RFC 9112 section 6).

use bytes::{Buf, Bytes, BytesMut};
use decide::chunked::{BadChunk, Decoder, Next};
use decide::head::{BadHead, Fields, Scan};
use decide::headers::strip_from_trailers;
use decide::hygiene::Framing;
use http::HeaderMap;

use super::head::read_fields;

/// A trailer section has at most so many bytes.
const TRAILER_BYTES: usize = 8 * 1024;
/// And so many fields.
const TRAILER_FIELDS: usize = 32;
/// The data of chunks that are smaller is gathered: whoever sends a body byte by byte shall not have it passed on so.
const SMALL: usize = 1024;

/// What of a body is still to come.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Done,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Decoder),
    /// The trailer section.
    Trailers(Scan),
    /// Nobody can tell: the request cannot be served.
    Unknown,
    /// Bytes until their sender ends them: an answer without a length, or the protocol that was switched to.
    Open,
}

/// Why the rest of a body cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadBody {
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    #[error("in the trailer section: {0}")]
    Trailers(#[from] BadHead),
    #[error("the trailer section is longer than {TRAILER_BYTES} bytes")]
    TooLong,
    #[error("nothing says where the body ends")]
    Unknown,
}

/// What was found in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// More must come first.
    Nothing,
    /// A part of the body.
    Part(Bytes),
    /// The end, and what stood there.
    End(Option<HeaderMap>),
}

impl Body {
    /// At its beginning.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Unsaid | Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Decoder::new()),
        }
    }

    /// Whether its end was seen.
    pub fn is_done(&self) -> bool {
        matches!(self, Body::Done)
    }

    /// Takes the next part out of what has come, and no byte beyond the body's end.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Found, BadBody> {
        match self {
            Body::Done => Ok(Found::End(None)),
            Body::Unknown => Err(BadBody::Unknown),
            Body::Length(_) | Body::Open if input.is_empty() => Ok(Found::Nothing),
            Body::Open => Ok(Found::Part(input.split().freeze())),
            Body::Length(left) => {
                let part = split(input, *left);
                *left -= part.len() as u64;
                if *left == 0 {
                    *self = Body::Done;
                }
                Ok(Found::Part(part))
            }
            Body::Chunked(decoder) => match chunks(decoder, input)? {
                Some(found) => Ok(found),
                None => {
                    *self = Body::Trailers(Scan::trailers(TRAILER_FIELDS));
                    self.take(input)
                }
            },
            Body::Trailers(scan) => match trailers(scan, input)? {
                Found::Nothing => Ok(Found::Nothing),
                found => {
                    *self = Body::Done;
                    Ok(found)
                }
            },
        }
    }
}

/// Up to so many bytes from the start of the input.
fn split(input: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    input.split_to(length).freeze()
}

/// The data of one chunk, or of some small ones; nothing once all chunks were read.
fn chunks(decoder: &mut Decoder, input: &mut BytesMut) -> Result<Option<Found>, BadChunk> {
    let mut gathered = BytesMut::new();
    loop {
        let (framing, next) = decoder.read(input)?;
        input.advance(framing);
        match next {
            Next::Data(left) if !input.is_empty() => {
                let part = split(input, left);
                decoder.took(part.len() as u64);
                if gathered.is_empty() && part.len() >= SMALL {
                    return Ok(Some(Found::Part(part)));
                }
                gathered.extend_from_slice(&part);
            }
            _ if !gathered.is_empty() => return Ok(Some(Found::Part(gathered.freeze()))),
            Next::Data(_) | Next::Framing => return Ok(Some(Found::Nothing)),
            Next::Trailers => return Ok(None),
        }
    }
}

fn trailers(scan: &mut Scan, input: &mut BytesMut) -> Result<Found, BadBody> {
    let end = scan.find_end(input)?;
    if end.unwrap_or(input.len()) > TRAILER_BYTES {
        return Err(BadBody::TooLong);
    }
    let Some(end) = end else { return Ok(Found::Nothing) };
    let section = input.split_to(end).freeze();
    let fields = Fields::of_trailers(&section);
    let mut trailers = HeaderMap::with_capacity(fields.most());
    read_fields(fields, &section, &mut trailers)?;
    strip_from_trailers(&mut trailers);
    Ok(Found::End(Some(trailers).filter(|trailers| !trailers.is_empty())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What comes of a body that arrives in these pieces: its data, its trailers, and what is left of the input.
    fn take<'a>(
        framing: Framing,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<(Vec<u8>, Vec<String>, Vec<u8>)> {
        let (mut body, mut input, mut data) = (Body::new(framing), BytesMut::new(), Vec::new());
        let mut ended = None;
        for piece in pieces {
            input.extend_from_slice(piece);
            while ended.is_none() {
                match body.take(&mut input).ok()? {
                    Found::Nothing => break,
                    Found::Part(part) => data.extend_from_slice(&part),
                    Found::End(trailers) => ended = Some(trailers.unwrap_or_default()),
                }
            }
        }
        let fields = ended?.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        Some((data, fields, input.to_vec()))
    }

    const CHUNKED: &[u8] = b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nX-Sum: 4\r\nContent-Length: 9\r\n\r\nGET /";

    #[test]
    fn a_body_takes_no_byte_of_the_next_request() {
        let whole = take(Framing::Chunked, [CHUNKED]);
        assert_eq!(whole, Some((b"abcd".to_vec(), vec!["x-sum: 4".to_owned()], b"GET /".to_vec())));
        assert_eq!(take(Framing::Length(3), [b"abcGET".as_slice()]), Some((b"abc".to_vec(), vec![], b"GET".to_vec())));
        assert_eq!(take(Framing::Unsaid, [b"GET".as_slice()]), Some((vec![], vec![], b"GET".to_vec())));
        assert_eq!(take(Framing::Length(4), [b"abc".as_slice()]), None);
    }

    #[test]
    fn small_chunks_become_one_part() {
        let mut input = BytesMut::from("1\r\na\r\n".repeat(500).as_str());
        let Found::Part(part) = Body::new(Framing::Chunked).take(&mut input).unwrap() else { unreachable!() };
        assert_eq!(part.len(), 500);
    }

    #[test]
    fn trailers_are_bounded() {
        let long = format!("0\r\nx: {}\r\n\r\n", "y".repeat(TRAILER_BYTES));
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(TRAILER_FIELDS + 1));
        for body in [long.as_str(), many.as_str(), "0\r\n x: y\r\n\r\n", "0\r\nx : y\r\n\r\n", "0\r\nx: y\n\r\n"] {
            let taken = Body::new(Framing::Chunked).take(&mut BytesMut::from(body));
            assert!(taken.is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(one in 0..CHUNKED.len(), two in 0..CHUNKED.len()) {
            let (from, to) = (one.min(two), one.max(two));
            let (start, end) = CHUNKED.split_at(to);
            let (start, middle) = start.split_at(from);
            prop_assert_eq!(take(Framing::Chunked, [start, middle, end]), take(Framing::Chunked, [CHUNKED]));
        }
    }
}
