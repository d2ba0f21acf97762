//! The PROXY header: a longer beginning never says something else than a shorter one.

use decide::proxy_header::{LONGEST, read};

/// What comes, from its beginning.
pub fn check(bytes: &[u8]) {
    let bytes = bytes.get(..LONGEST + 64).unwrap_or(bytes);
    let whole = read(bytes);
    for end in 0..bytes.len() {
        match read(bytes.get(..end).expect("a beginning")) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                assert!(length <= end && length <= LONGEST);
                assert_eq!(whole, Ok(Some((header, length))));
            }
            Err(_) => assert!(whole.is_err()),
        }
    }
}
