//! Routes for people, which take only handlers that begin with a permit: one without doesn't compile.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodFilter;

use super::App;
use crate::access::Permit;

/// The parameters of a handler of which the first is a permit.
pub(super) trait Permitted {}

impl<M, L> Permitted for (M, Permit<L>) {}
impl<M, L, A> Permitted for (M, Permit<L>, A) {}
impl<M, L, A, B> Permitted for (M, Permit<L>, A, B) {}
impl<M, L, A, B, C> Permitted for (M, Permit<L>, A, B, C) {}

/// Paths that only people with a permit may call.
#[derive(Default)]
pub(super) struct Guarded(Router<Arc<App>>);

impl Guarded {
    pub(super) fn get<H: Handler<T, Arc<App>>, T: Permitted + 'static>(self, path: &str, handler: H) -> Self {
        self.on(MethodFilter::GET, path, handler)
    }

    pub(super) fn post<H: Handler<T, Arc<App>>, T: Permitted + 'static>(self, path: &str, handler: H) -> Self {
        self.on(MethodFilter::POST, path, handler)
    }

    pub(super) fn delete<H: Handler<T, Arc<App>>, T: Permitted + 'static>(self, path: &str, handler: H) -> Self {
        self.on(MethodFilter::DELETE, path, handler)
    }

    fn on<H: Handler<T, Arc<App>>, T: Permitted + 'static>(self, method: MethodFilter, path: &str, handler: H) -> Self {
        Guarded(self.0.route(path, axum::routing::on(method, handler)))
    }

    pub(super) fn into_router(self) -> Router<Arc<App>> {
        self.0
    }
}
