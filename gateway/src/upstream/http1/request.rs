//! A request's head as it goes out (RFC 9112 section 3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use http::header::{SEC_WEBSOCKET_KEY, TE};

use crate::http1::fields::{write_field, write_fields};
use crate::upstream::{Body, Outgoing};

/// What a request line and this hop's own fields need, in bytes.
const AROUND: usize = 128;

/// The head.
pub fn head(request: &Outgoing) -> BytesMut {
    let fields: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut out = BytesMut::with_capacity(AROUND + request.target.len() + request.authority.len() + fields);
    out.put_slice(request.method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(request.target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    write_field(&mut out, "host", request.authority.as_bytes());
    match request.switch {
        // `TE` would be one more hop-by-hop field to name, and a switched connection has no trailers.
        Some(_) => write_fields(&mut out, request.headers.iter().filter(|(name, _)| *name != TE)),
        None => write_fields(&mut out, request.headers.iter()),
    }
    write_of_this_hop(&mut out, request);
    out.put_slice(b"\r\n");
    out
}

fn write_of_this_hop(out: &mut BytesMut, request: &Outgoing) {
    if request.body == Body::Open {
        write_field(out, "transfer-encoding", b"chunked");
    }
    if let Some(switch) = request.switch {
        write_field(out, "connection", b"upgrade");
        write_field(out, "upgrade", switch.token().as_bytes());
        // RFC 6455 section 4.1. A client of HTTP/2 has sent no key (RFC 8441 section 5): then it is ours.
        if !request.headers.contains_key(SEC_WEBSOCKET_KEY) {
            let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
            write_field(out, SEC_WEBSOCKET_KEY.as_str(), key.as_bytes());
        }
    } else if request.headers.contains_key(TE) {
        write_field(out, "connection", b"te");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::*;
    use crate::upstream::Switch;

    fn written(method: Method, body: Body, switch: Option<Switch>, fields: &[(&'static str, &'static str)]) -> String {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let authority = HeaderValue::from_static("shop.example.com:8443");
        let request = Outgoing { method, target: "/a?b".into(), authority, headers, body, switch, interim: false };
        String::from_utf8(head(&request).to_vec()).unwrap()
    }

    #[test]
    fn a_head_says_how_its_body_ends_and_no_more_of_the_hop() {
        assert_eq!(
            written(Method::GET, Body::None, None, &[("accept", "*/*")]),
            "GET /a?b HTTP/1.1\r\nhost: shop.example.com:8443\r\naccept: */*\r\n\r\n"
        );
        let post = written(Method::POST, Body::Length, None, &[("content-length", "3"), ("te", "trailers")]);
        assert!(post.ends_with("\r\ncontent-length: 3\r\nte: trailers\r\nconnection: te\r\n\r\n"), "{post}");
        let get = written(Method::GET, Body::Open, None, &[]);
        assert!(get.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"), "{get}");
    }

    #[test]
    fn a_switch_is_asked_for_with_the_clients_key_or_our_own() {
        let fields = [("sec-websocket-key", "x"), ("te", "trailers")];
        let text = written(Method::GET, Body::None, Some(Switch::WebSocket), &fields);
        assert!(
            text.ends_with("\r\nsec-websocket-key: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            "{text}"
        );
        let text = written(Method::GET, Body::None, Some(Switch::WebSocket), &[]);
        let key = text.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
    }
}
