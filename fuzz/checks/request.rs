//! A request's head on an HTTP/1 wire: read alike however it comes, and nothing that is let through can be read otherwise.

use decide::head::{BadHead, Scan, parse};

/// The first byte says how long the reads are; the rest is what comes.
pub fn check(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = Scan::head(100).find_end(bytes);
    assert_eq!(whole, piecewise(bytes, usize::from(*size).max(1)));
    let Ok(Some(end)) = whole else { return };
    let head = bytes.get(..end).expect("an end within what came");
    assert!(head.ends_with(b"\r\n\r\n") && !head.contains(&0));
    let Ok(request) = parse(head) else { return };
    assert!(request.target.iter().all(u8::is_ascii_graphic) && !request.target.is_empty());
    for field in request.fields {
        let Ok((name, value)) = field else { return };
        assert!(name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':') && !name.is_empty());
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

fn piecewise(bytes: &[u8], size: usize) -> Result<Option<usize>, BadHead> {
    let mut scan = Scan::head(100);
    let mut came = 0;
    while came < bytes.len() {
        came = (came + size).min(bytes.len());
        if let Some(end) = scan.find_end(bytes.get(..came).expect("what came"))? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}
