//! The meter of HTTP/2's frames: it judges alike however the bytes are cut.

use std::time::Instant;

use decide::frames::{Bounds, Meter};

/// The first byte says how long the reads are; the rest follows the preface.
pub fn check(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let now = Instant::now();
    let meter = || {
        let mut meter = Meter::new(Bounds::default(), now);
        meter.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).expect("a preface");
        meter
    };
    let whole = meter().read(bytes, now);
    let mut piecewise = meter();
    let cut = bytes.chunks(usize::from(*size).max(1)).try_for_each(|part| piecewise.read(part, now));
    assert_eq!(whole, cut);
    Meter::new(Bounds::default(), now).read(bytes, now).ok();
}
