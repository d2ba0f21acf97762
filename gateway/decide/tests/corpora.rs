//! What fuzzing found, and what it started from, put to the same checks again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

// As the rest of the workspace calls it, and so the checks.
extern crate tombolo_decide as decide;

#[path = "../../../fuzz/checks/authority.rs"]
mod authority;
#[path = "../../../fuzz/checks/chunked.rs"]
mod chunked;
#[path = "../../../fuzz/checks/forwarded.rs"]
mod forwarded;
#[path = "../../../fuzz/checks/frames.rs"]
mod frames;
#[path = "../../../fuzz/checks/head.rs"]
mod head;
#[path = "../../../fuzz/checks/proxy_header.rs"]
mod proxy_header;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../../fuzz/checks/request.rs"]
mod request;
#[path = "../../../fuzz/checks/target.rs"]
mod target;

use std::path::Path;

#[test]
fn the_corpora_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    type Check = fn(&[u8]);
    let checks: [(&str, Check); 8] = [
        ("authority", authority::check),
        ("chunked", chunked::check),
        ("forwarded", forwarded::check),
        ("frames", frames::check),
        ("head", head::check),
        ("proxy_header", proxy_header::check),
        ("request", request::check),
        ("target", target::check),
    ];
    for (name, check) in checks {
        replay::replay(&root, name, check);
    }
}
