//! gRPC as it is on the wire: messages pass as they come, so nothing here needs to know their types.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::{Answer, Body, empty, full, length, with_type};

/// The service by which gRPC's own clients ask whether a server is well.
pub const HEALTH: &str = "grpc.health.v1.Health";
/// The demo's own service; `loadtest/echo.proto` describes it.
pub const ECHO: &str = "tombolo.demo.Echo";

const STATUS: &str = "grpc-status";
const OK: HeaderValue = HeaderValue::from_static("0");
const FAILED_PRECONDITION: HeaderValue = HeaderValue::from_static("9");
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

/// A message of two bytes, uncompressed: `status: SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// Answers a call of a method.
pub async fn answer(service: &str, method: &str, request: Request<Incoming>) -> Answer {
    match (service, method) {
        (HEALTH, "Check") => {
            length(request.into_body()).await?;
            Ok(succeed(full(SERVING)))
        }
        (ECHO, "Unary" | "Stream") => Ok(succeed(request.into_body().boxed_unsync())),
        (ECHO, "Fail") => {
            length(request.into_body()).await?;
            Ok(fail(FAILED_PRECONDITION, "this method always fails"))
        }
        _ => Ok(fail(UNIMPLEMENTED, "no such method")),
    }
}

fn succeed(messages: Body) -> Response<Body> {
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(STATUS), OK)]);
    with_type("application/grpc", messages.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync())
}

/// The head is the trailers too ("Trailers-Only").
fn fail(status: HeaderValue, message: &'static str) -> Response<Body> {
    let mut response = with_type("application/grpc", empty());
    response.headers_mut().insert(STATUS, status);
    response.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
    response
}
