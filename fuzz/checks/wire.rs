//! The stream between processes: it is cut into frames alike however it comes, or refused.

use config::wire::Down;
use config::wire::frame::{Decoder, Frame};

/// The first byte says how long the reads are.
pub fn check(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let cut = |size: usize| {
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        for part in bytes.chunks(size.max(1)) {
            decoder.push(part);
            loop {
                match decoder.next::<Down>() {
                    Ok(None) => break,
                    Ok(Some(Frame::Message(message))) => seen.push(serde_json::to_string(&message).expect("JSON")),
                    Ok(Some(Frame::Secret(secret))) => seen.push(format!("{:?}", secret.reference())),
                    Ok(Some(Frame::Unknown)) => seen.push("unknown".to_owned()),
                    Err(error) => {
                        seen.push(error.to_string());
                        return seen;
                    }
                }
            }
        }
        seen
    };
    assert_eq!(cut(usize::from(*size)), cut(bytes.len()));
}
