//! CRC-32C (RFC 3720 section 12.1). Headers are short and rare: bit by bit does.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

pub(super) fn crc32c<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
    !bytes.fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
