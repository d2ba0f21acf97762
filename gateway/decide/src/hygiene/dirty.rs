//! Why a head is refused.

use http::StatusCode;

use crate::authority::BadAuthority;
use crate::target::BadTarget;

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dirty {
    /// The target is too long.
    #[error("the target is longer than {limit} bytes")]
    TargetLength {
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many header fields.
    #[error("there are more than {limit} header fields")]
    HeaderCount {
        /// How many there may be.
        limit: usize,
    },
    /// The header fields are too long together.
    #[error("the header fields are longer than {limit} bytes together")]
    HeaderBytes {
        /// The limit in bytes.
        limit: usize,
    },
    /// Neither HTTP/1.0, HTTP/1.1 nor HTTP/2.
    #[error("this version of HTTP is not spoken here; use HTTP/1.1 or HTTP/2")]
    Version,
    /// The gateway is no forward proxy.
    #[error("CONNECT is not served here")]
    Connect,
    /// It would show the request, with what the gateway added to it, to whoever sent it (RFC 9110 section 9.3.8).
    #[error("TRACE is not served here")]
    Trace,
    /// A method with lower-case letters, which some servers take for another.
    #[error("the method has lower-case letters; methods are case-sensitive")]
    Method,
    /// A name that is no token (RFC 9110 section 5.1).
    #[error("a header name is no token")]
    HeaderName,
    /// A control byte in a value (RFC 9110 section 5.5), or space around it in HTTP/2 (RFC 9113 section 8.2.1).
    #[error("a header value contains a control byte, or begins or ends with a space")]
    HeaderValue,
    /// A field of one connection, of which HTTP/2 has none (RFC 9113 section 8.2.2).
    #[error("the request has a connection's header field, which HTTP/2 forbids")]
    ConnectionHeader,
    /// Servers differ in which of several they take.
    #[error("a header field that may stand only once is repeated")]
    Repeated,
    /// A name such as `Transfer_Encoding`, which some servers take for the real one.
    #[error("a header name only looks like Content-Length or Transfer-Encoding")]
    LookAlike,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1).
    #[error("there are both Content-Length and Transfer-Encoding; send one")]
    TwoFramings,
    /// Several, or not one decimal number (RFC 9110 section 8.6).
    #[error("Content-Length is not a single decimal number")]
    ContentLength,
    /// Not a single `chunked`, or not in HTTP/1.1 (RFC 9112 section 6.1, RFC 9113 section 8.2.2).
    #[error("Transfer-Encoding is not a single 'chunked' in an HTTP/1.1 request")]
    TransferEncoding,
    /// The target is malformed or ambiguous.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// Nobody is asked (RFC 9112 section 3.2).
    #[error("there is no Host")]
    HostMissing,
    /// Several Host fields (RFC 9112 section 3.2).
    #[error("there are several Host fields; send one")]
    HostRepeated,
    /// Host, `:authority` or the target's authority is malformed.
    #[error(transparent)]
    Authority(#[from] BadAuthority),
    /// Host and `:authority`, or Host and the target, name different authorities.
    #[error("Host differs from the request's authority; send the same in both")]
    AuthorityMismatch,
}

impl Dirty {
    /// The answer's status.
    pub fn status(self) -> StatusCode {
        match self {
            Dirty::TargetLength { .. } => StatusCode::URI_TOO_LONG,
            Dirty::HeaderCount { .. } | Dirty::HeaderBytes { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Dirty::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Dirty::Connect | Dirty::Trace => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The label in metrics and logs.
    pub fn code(self) -> &'static str {
        match self {
            Dirty::TargetLength { .. } => "target_length",
            Dirty::HeaderCount { .. } => "header_count",
            Dirty::HeaderBytes { .. } => "header_bytes",
            Dirty::Version => "version",
            Dirty::Connect => "connect",
            Dirty::Trace => "trace",
            Dirty::Method => "method",
            Dirty::HeaderName => "header_name",
            Dirty::HeaderValue => "header_value",
            Dirty::ConnectionHeader => "connection_header",
            Dirty::Repeated => "repeated",
            Dirty::LookAlike => "look_alike",
            Dirty::TwoFramings => "two_framings",
            Dirty::ContentLength => "content_length",
            Dirty::TransferEncoding => "transfer_encoding",
            Dirty::Target(_) => "target",
            Dirty::HostMissing => "host_missing",
            Dirty::HostRepeated => "host_repeated",
            Dirty::Authority(_) => "authority",
            Dirty::AuthorityMismatch => "authority_mismatch",
        }
    }
}
