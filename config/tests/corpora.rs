//! What fuzzing found, and what it started from, put to the same checks again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../fuzz/checks/wire.rs"]
mod wire;

use std::path::Path;

#[test]
fn the_corpus_holds() {
    replay::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), "wire", wire::check);
}
