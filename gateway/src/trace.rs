//! A request's name and its place in a trace, with the random bits that [`decide::trace`] wants.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use decide::trace::{Marks, Random};
use fastrand::Rng;
use http::HeaderMap;

thread_local! {
    /// Seeded by the operating system, so that no two processes name their requests alike.
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::with_seed(RandomState::new().hash_one(0)));
}

/// What a request with these headers is called here.
pub fn mark(headers: &HeaderMap) -> Marks {
    let random =
        RANDOM.with_borrow_mut(|random| Random { trace: random.u128(..), span: random.u64(..), name: random.u128(..) });
    Marks::of(headers, random)
}
