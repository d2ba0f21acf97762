//! A chunked body: the same data however it comes, and the same data again once it was written anew.

use decide::chunked::{BadChunk, Decoder, Next, SizeLine};

/// The first byte says how long the reads are; the rest is what comes.
pub fn check(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, bytes.len());
    assert_eq!(whole, decode(bytes, usize::from(*size).max(1)));
    let Ok((data, true)) = whole else { return };
    let mut anew = Vec::new();
    for part in data.chunks(7) {
        anew.extend_from_slice(SizeLine::new(part.len() as u64).as_bytes());
        anew.extend_from_slice(part);
        anew.extend_from_slice(b"\r\n");
    }
    anew.extend_from_slice(b"0\r\n");
    assert_eq!(decode(&anew, anew.len()), Ok((data, true)));
}

/// The data, and whether its end was reached.
fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, bool), BadChunk> {
    let (mut decoder, mut input, mut data) = (Decoder::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        input.extend_from_slice(piece);
        loop {
            let (read, next) = decoder.read(&input)?;
            input.drain(..read);
            match next {
                Next::Framing => break,
                Next::Trailers => return Ok((data, true)),
                Next::Data(_) if input.is_empty() => break,
                Next::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    data.extend(input.drain(..taken));
                    decoder.took(taken as u64);
                }
            }
        }
    }
    Ok((data, false))
}
