//! Whether a request asks to switch protocols: WebSocket, in HTTP/1.1's way or in HTTP/2's.

use decide::headers::names;
use h2::ext::Protocol;
use http::header::{CONNECTION, UPGRADE};
use http::{Method, Version};
use pingora_http::RequestHeader;

use crate::refusal::Refusal;
use crate::upstream::Switch;

/// What the request asks to switch to. Any other protocol than WebSocket is ignored in `Upgrade`, as a server may do
/// (RFC 9110 section 7.8; `h2c` would hide requests from the gateway), and refused in `:protocol`.
pub fn asked(head: &RequestHeader, bodiless: bool) -> Result<Option<Switch>, Refusal> {
    match head.version {
        Version::HTTP_2 => by_connect(head),
        Version::HTTP_11 => by_upgrade(head, bodiless),
        _ => Ok(None),
    }
}

/// RFC 8441 section 4.
fn by_connect(head: &RequestHeader) -> Result<Option<Switch>, Refusal> {
    match head.extensions.get::<Protocol>() {
        None => Ok(None),
        Some(protocol) if protocol.as_str() == Switch::WebSocket.token() && head.method == Method::CONNECT => {
            Ok(Some(Switch::WebSocket))
        }
        Some(_) => Err(Refusal::Unsupported("protocol_unsupported")),
    }
}

/// RFC 6455 section 4.2.1: a GET without a body.
fn by_upgrade(head: &RequestHeader, bodiless: bool) -> Result<Option<Switch>, Refusal> {
    let websocket = names(&head.headers, &UPGRADE, Switch::WebSocket.token());
    if !websocket || !names(&head.headers, &CONNECTION, "upgrade") {
        return Ok(None);
    }
    match head.method == Method::GET && bodiless {
        true => Ok(Some(Switch::WebSocket)),
        false => Err(Refusal::Dirty("bad_upgrade")),
    }
}
