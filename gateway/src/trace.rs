//! A request's name and its place in a trace, with the random bits that [`decide::trace`] wants.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use decide::trace::{REQUEST_ID, Span, request_id};
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

thread_local! {
    /// Seeded by the operating system, so that no two processes name their requests alike.
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::with_seed(RandomState::new().hash_one(0)));
}

/// What a request is called here.
#[derive(Debug)]
pub struct Marks {
    /// Its place in a trace.
    pub span: Span,
    /// Its own name.
    pub request_id: HeaderValue,
}

impl Marks {
    /// Those that it came with, as far as they are fit; else new ones.
    pub fn of(head: &RequestHeader) -> Self {
        let random = || RANDOM.with_borrow_mut(|random| random.u128(..));
        let span = Span::of(&head.headers, (random(), RANDOM.with_borrow_mut(|random| random.u64(..))));
        Marks { span, request_id: request_id(&head.headers, random) }
    }

    /// Tells them to the next server.
    pub fn write(&self, headers: &mut HeaderMap) {
        self.span.write(headers);
        headers.insert(REQUEST_ID, self.request_id.clone());
    }

    /// Tells the client what its request was called.
    pub fn answer(&self, head: &mut ResponseHeader) {
        if let Err(error) = head.insert_header(REQUEST_ID, self.request_id.clone()) {
            tracing::debug!(%error, "an answer cannot carry the request's name");
        }
    }
}
