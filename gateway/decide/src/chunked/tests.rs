#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

/// What a decoder makes of pieces that come one after the other: the data, and what follows the last chunk.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<Vec<u8>>), BadChunk> {
    let (mut decoder, mut input, mut data) = (Decoder::new(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let (framing, next) = decoder.read(&input)?;
            input.drain(..framing);
            let Next::Data(left) = next else { break };
            let taken = input.len().min(usize::try_from(left).unwrap());
            if taken == 0 {
                break;
            }
            data.extend(input.drain(..taken));
            decoder.took(taken as u64);
        }
    }
    let ended = matches!(decoder.state, State::Trailers);
    Ok((data, ended.then_some(input)))
}

fn encode(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        out.extend_from_slice(SizeLine::new(part.len() as u64).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(LAST_CHUNK);
    out.extend_from_slice(b"\r\n");
    out
}

#[test]
fn only_the_grammar_passes() {
    let whole = |text: &'static str| decode([text.as_bytes()]);
    assert_eq!(whole("5\r\nhello\r\n0\r\n\r\nGET"), Ok((b"hello".to_vec(), Some(b"\r\nGET".to_vec()))));
    assert_eq!(whole("0005;a=\"b\"\r\nhello\r\n00;x\r\n\r\n"), Ok((b"hello".to_vec(), Some(b"\r\n".to_vec()))));
    assert_eq!(whole("A\r\n0123456789\r\n"), Ok((b"0123456789".to_vec(), None)));
    for size in
        ["\r\n", "+5\r\n", "-5\r\n", "0x5\r\n", " 5\r\n", "5 \r\n", "5 ;a\r\n", "5\t\r\n", "g\r\n", ";a\r\n", "5\n"]
    {
        assert_eq!(whole(size), Err(BadChunk::Size), "{size:?}");
    }
    assert_eq!(whole("00000000000000005\r\n"), Err(BadChunk::Size));
    assert_eq!(whole("ffffffffffffffff\r\n"), Ok((Vec::new(), None)));
    for extension in ["5;a\nhello", "5;\u{0}", "5;\u{7f}"] {
        assert_eq!(whole(extension), Err(BadChunk::Extension), "{extension:?}");
    }
    for end in ["5\rX", "5;a\rX", "5\r\nhello\n", "5\r\nhelloX", "5\r\nhello\rX", "0\r\r"] {
        assert_eq!(whole(end), Err(BadChunk::LineEnd), "{end:?}");
    }
}

#[test]
fn extensions_are_bounded_over_all_chunks() {
    let chunk = format!("1;{}\r\nx\r\n", "y".repeat(1023));
    let chunks = |count| decode([chunk.repeat(count).as_bytes()]).map(|(data, _)| data.len());
    assert_eq!(chunks(4), Ok(4));
    assert_eq!(chunks(5), Err(BadChunk::Extension));
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let wire = encode(&parts);
        prop_assert_eq!(decode([wire.as_slice()]), Ok((parts.concat(), Some(b"\r\n".to_vec()))));
    }

    #[test]
    fn pieces_make_no_difference(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut wire = encode(&parts);
        for (at, byte) in noise {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let whole = decode([wire.as_slice()]);
        prop_assert_eq!(&decode(wire.chunks(1)), &whole);
        for at in 0..wire.len() {
            let (one, two) = wire.split_at(at);
            prop_assert_eq!(&decode([one, two]), &whole);
        }
    }

    #[test]
    fn nothing_panics(wire in prop::collection::vec(any::<u8>(), 0..60), text in "[0-9a-f;\r\n]{0,60}") {
        let _ = decode([wire.as_slice()]);
        let _ = decode([text.as_bytes()]);
    }

    #[test]
    fn sizes_are_hexadecimal(size: u64) {
        prop_assert_eq!(SizeLine::new(size).as_bytes().to_vec(), format!("{size:x}\r\n").into_bytes());
    }
}

#[test]
fn sizes_may_be_padded_in_answers_only() {
    for (decoder, passes) in [(Decoder::new(), false), (Decoder::of_answer(), true)] {
        for padded in ["5  \r\n", "5\t\r\n", "5 ;a\r\n"] {
            assert_eq!(decoder.clone().read(padded.as_bytes()).is_ok(), passes, "{padded:?}");
        }
        assert_eq!(decoder.clone().read(b" 5\r\n"), Err(BadChunk::Size));
    }
}
