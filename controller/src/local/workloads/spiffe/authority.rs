//! Makes `:authority` readable in what a client sends.
//!
//! gRPC clients of several languages name a Unix socket's path there, with its slashes escaped or plain
//! (grpc/grpc#38142). That is no authority (RFC 3986 section 3.2), and the HTTP/2 library refuses the whole request.
//! Whom the caller means is plain on a socket of one service, so the value is replaced by a letter.
//!
//! Field blocks are compressed statefully (RFC 7541), but this needs no table of its own: a representation stays what
//! it was, but for its value, which becomes no longer. So the library's table evicts no entry before the client's does,
//! and every index means what the client means. What this doesn't understand it passes on as it came.

use bytes::{Buf, BufMut, BytesMut};

/// RFC 9113 section 3.4.
const PREFACE: usize = 24;
/// RFC 9113 section 4.1.
const FRAME_HEAD: usize = 9;
/// The longest frame that the library takes, and the longest field block that is looked into.
const LONGEST: usize = 16 * 1024;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The entry of HPACK's static table that is `:authority` (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
/// The same name spelled out, plain and Huffman-coded (RFC 7541, appendix B), each with its length before it: the client
/// of gRPC's core does so.
const SPELLED: [&[u8]; 2] = [b"\x0a:authority", b"\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f"];
/// A string of one letter, not Huffman-coded.
const LETTER: [u8; 2] = [1, b'a'];

/// The bytes of one connection, from the client's side.
#[derive(Debug)]
pub(super) struct Rewriter {
    /// What came and is not yet passed on.
    held: BytesMut,
    /// So many bytes are passed on unread: of the preface at first, then of frames that have no field block.
    unread: usize,
    /// The client is not understood: all that follows is passed on.
    given_up: bool,
}

impl Rewriter {
    pub(super) fn new() -> Self {
        Rewriter { held: BytesMut::new(), unread: PREFACE, given_up: false }
    }

    /// Takes what came, and adds to `out` what can be passed on.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.held.extend_from_slice(bytes);
        loop {
            let pass = if self.given_up { self.held.len() } else { self.unread.min(self.held.len()) };
            out.extend_from_slice(self.held.get(..pass).unwrap_or_default());
            self.held.advance(pass);
            self.unread = self.unread.saturating_sub(pass);
            if self.given_up || self.unread > 0 {
                return;
            }
            match next(&self.held) {
                Next::More => return,
                Next::Unread(length) => self.unread = length,
                Next::Block { length, rewritten } => {
                    out.extend_from_slice(&rewritten);
                    self.held.advance(length);
                }
                Next::Strange => self.given_up = true,
            }
        }
    }
}

/// What stands at the start of the held bytes.
enum Next {
    /// Not enough to tell.
    More,
    /// A frame of so many bytes that is of no interest.
    Unread(usize),
    /// A whole field block, in one or more frames of so many bytes, as one frame.
    Block { length: usize, rewritten: Vec<u8> },
    /// Something that the library shall answer.
    Strange,
}

fn next(held: &[u8]) -> Next {
    let Some(frame) = Frame::read(held) else { return Next::More };
    match frame.kind {
        HEADERS => block(held, &frame),
        _ => Next::Unread(FRAME_HEAD + frame.length),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[a, b, c, kind, flags, ref stream @ ..], _) = bytes.split_first_chunk::<FRAME_HEAD>()?;
        Some(Frame { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags, stream: *stream })
    }
}

/// Joins the frames of a field block.
fn block(held: &[u8], first: &Frame) -> Next {
    let (mut fields, mut at, mut frame) = (Vec::new(), 0, *first);
    loop {
        let continues = at > 0;
        let expected = if continues { CONTINUATION } else { HEADERS };
        if frame.kind != expected || frame.stream != first.stream || at + frame.length > LONGEST {
            return Next::Strange;
        }
        let payload = held.get(at + FRAME_HEAD..at + FRAME_HEAD + frame.length);
        let Some(payload) = payload else { return Next::More };
        let Some(part) = (if continues { Some(payload) } else { unpadded(payload, frame.flags) }) else {
            return Next::Strange;
        };
        fields.extend_from_slice(part);
        at += FRAME_HEAD + frame.length;
        if frame.flags & END_HEADERS != 0 {
            break;
        }
        match Frame::read(held.get(at..).unwrap_or_default()) {
            Some(following) => frame = following,
            None => return Next::More,
        }
    }
    let Some(fields) = rewrite(&fields) else { return Next::Strange };
    let mut rewritten = Vec::with_capacity(FRAME_HEAD + fields.len());
    rewritten.put_uint(fields.len() as u64, 3);
    rewritten.extend([HEADERS, first.flags & END_STREAM | END_HEADERS]);
    rewritten.extend(first.stream);
    rewritten.extend(fields);
    Next::Block { length: at, rewritten }
}

/// A HEADERS frame's part of the field block (RFC 9113 section 6.2).
fn unpadded(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, rest) = if flags & PADDED != 0 { payload.split_first()? } else { (&0, payload) };
    let rest = if flags & PRIORITY != 0 { rest.get(5..)? } else { rest };
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// A field block with another `:authority`; `None` when it isn't one.
fn rewrite(block: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(block.len() + LETTER.len()), block);
    while let Some(first) = rest.first() {
        let (prefix, literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (index, after) = integer(rest, prefix)?;
        let name_end = if literal && index == 0 { string(after)? } else { after };
        let value_end = if literal { string(name_end)? } else { name_end };
        out.extend_from_slice(rest.get(..rest.len() - name_end.len())?);
        let spelled = after.get(..after.len() - name_end.len())?;
        match literal && (index == AUTHORITY || SPELLED.contains(&spelled)) {
            true => out.extend(LETTER),
            false => out.extend_from_slice(name_end.get(..name_end.len() - value_end.len())?),
        }
        rest = value_end;
    }
    Some(out)
}

/// RFC 7541 section 5.1, and what follows it.
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*first) & most;
    let mut shift = 0;
    while value >= most {
        let (next, after) = rest.split_first()?;
        value = value.checked_add(usize::from(next & 0x7f) << shift)?;
        (rest, shift) = (after, shift + 7);
        match next & 0x80 {
            0 => break,
            _ if shift > 21 => return None, // far beyond any length here
            _ => {}
        }
    }
    Some((value, rest))
}

/// What follows a string (RFC 7541 section 5.2).
fn string(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = integer(bytes, 7)?;
    rest.get(length..)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.put_uint(payload.len() as u64, 3);
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// What comes out, however the bytes are cut on their way in.
    fn passed(frames: &[u8]) -> Vec<u8> {
        let all = [&[b'P'; PREFACE], frames].concat();
        let passed = |size: usize| {
            let (mut rewriter, mut out) = (Rewriter::new(), BytesMut::new());
            all.chunks(size).for_each(|chunk| rewriter.push(chunk, &mut out));
            out.to_vec()
        };
        let whole = passed(all.len());
        assert!((1..20).all(|size| passed(size) == whole), "{whole:?}");
        whole[PREFACE..].to_vec()
    }

    /// `:method: POST`, an `:authority` that is indexed, and a field with a literal name.
    const BLOCK: &[u8] = b"\x83\x41\x06%2Frun\x00\x01k\x01v";
    const REWRITTEN: &[u8] = b"\x83\x41\x01a\x00\x01k\x01v";

    #[test]
    fn only_the_authority_becomes_another() {
        let settings = frame(4, 0, b"\0\x03\0\0\0\x64");
        let data = frame(0, 1, b"\x41\x06%2Frun");
        let sent = [settings.clone(), frame(HEADERS, END_HEADERS, BLOCK), data.clone()].concat();
        assert_eq!(passed(&sent), [settings, frame(HEADERS, END_HEADERS, REWRITTEN), data].concat());
    }

    #[test]
    fn a_name_that_is_spelled_out_is_known_too() {
        for name in SPELLED {
            let (sent, passed) = ([b"@", name, b"\x04%2Fa\x83"].concat(), [b"@", name, b"\x01a\x83"].concat());
            assert_eq!(rewrite(&sent).unwrap(), passed);
        }
    }

    #[test]
    fn padding_priority_and_continuations_are_taken_out() {
        let padded = [&[2][..], &[9; 5], &BLOCK[..4], &[0, 0]].concat();
        let sent = [frame(HEADERS, PADDED | PRIORITY | END_STREAM, &padded), frame(CONTINUATION, 0, &BLOCK[4..9])];
        let sent = [sent.concat(), frame(CONTINUATION, END_HEADERS, &BLOCK[9..])].concat();
        assert_eq!(passed(&sent), frame(HEADERS, END_HEADERS | END_STREAM, REWRITTEN));
    }

    #[test]
    fn long_values_and_indices_are_read() {
        let value = [b'x'; 300];
        let block = [&[0x41, 0x7f, 0xad, 0x01][..], &value, &[0xff, 0x00, 0x3f, 0xe1, 0x1f]].concat();
        assert_eq!(rewrite(&block).unwrap(), [0x41, 1, b'a', 0xff, 0x00, 0x3f, 0xe1, 0x1f]);
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_passed_on_alike_however_it_is_cut(
            kind in 0u8..11,
            flags: u8,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            rest in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let sent = [frame(kind, flags, &payload), frame(HEADERS, END_HEADERS, BLOCK), rest].concat();
            let out = passed(&sent);
            prop_assert!(out.len() <= sent.len(), "nothing is made longer");
        }
    }

    #[test]
    fn what_makes_no_sense_passes_as_it_came() {
        for (kind, flags, payload) in [
            (HEADERS, END_HEADERS, &b"\x41\x09short"[..]),
            (HEADERS, END_HEADERS, b"\x41\xff\xff\xff\xff\xff\x7f"),
            (HEADERS, PADDED | END_HEADERS, b"\x09\x83"),
            (HEADERS, PRIORITY | END_HEADERS, b"\x83"),
            (HEADERS, PADDED | END_HEADERS, b""),
        ] {
            let sent = [frame(kind, flags, payload), frame(HEADERS, END_HEADERS, BLOCK)].concat();
            assert_eq!(passed(&sent), sent);
        }
        let interleaved = [frame(HEADERS, 0, BLOCK), frame(0, 0, b"data")].concat();
        assert_eq!(passed(&interleaved), interleaved);
        let endless: Vec<u8> = std::iter::once(frame(HEADERS, 0, BLOCK))
            .chain((0..20).map(|_| frame(CONTINUATION, 0, &[0x83; 1000])))
            .flatten()
            .collect();
        assert_eq!(passed(&endless), endless);
    }
}
