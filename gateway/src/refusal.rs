//! Every reason to refuse a request: its status, its code in log, metric and header, and what callers are told.

use http::StatusCode;

/// Why a request was not, or not fully, served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request's head breaks a rule of section 11; the code says which.
    Dirty(&'static str),
    /// The header fields are larger or more than is allowed; the code says which.
    HeadTooLarge(&'static str),
    /// The request target is longer than is allowed.
    TargetTooLong,
    /// The request's head did not come to its end in time.
    HeadTimeout,
    /// The body is longer than is allowed.
    BodyTooLarge,
    /// The version of HTTP is none that is spoken here.
    Version,
    /// The method or protocol is not supported.
    Unsupported(&'static str),
    /// No host of that name is published or known here.
    UnknownHost,
    /// The connection was opened for a host of another GNS (RFC 9110 section 15.5.20).
    Misdirected,
    /// The caller's address belongs to no GNS.
    UnknownCaller,
    /// The caller belongs to another GNS.
    ForeignCaller,
    /// The caller must prove who it is, by mutual TLS.
    IdentityRequired,
    /// The global namespace speaks plain text only.
    PlainTextOnly,
    /// The peer gateway asked for something that it may not.
    ForbiddenPeer,
    /// The request came through a tunnel, but is for another cluster.
    NotForHere,
    /// The service isn't known, in this place or at all.
    UnknownService,
    /// The service has no such port.
    UnknownPort,
    /// The gateway has more to do than it can: the same request may be served a little later, or elsewhere.
    Overloaded,
    /// The service's port speaks another protocol than the caller.
    WrongProtocol,
    /// No instance can take the request.
    NoInstance,
    /// Every attempt failed before a request was handed over.
    ConnectFailed,
    /// A request was handed over and broke off before its answer.
    InstanceReset,
    /// A request was handed over and no answer came in time.
    InstanceTimeout,
    /// The instance was found dead while the request waited.
    InstanceEjected,
    /// The instance's answer makes no sense.
    BadAnswer,
    /// The client sent its body too slowly, or broke it off.
    ClientBody,
    /// The client sent nothing of its body for too long.
    ClientTimeout,
    /// The client went away; nobody reads the answer.
    ClientGone,
    /// The connection came from a proxy that must say who called, and didn't.
    ProxyHeader,
    /// Nothing moved on the stream for too long.
    StreamIdle,
}

impl Refusal {
    /// One word for log, metric and the `tombolo-refusal` header. Stable.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Dirty(code) | Refusal::Unsupported(code) | Refusal::HeadTooLarge(code) => code,
            Refusal::TargetTooLong => "target_too_long",
            Refusal::HeadTimeout => "head_timeout",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::Version => "version_unsupported",
            Refusal::UnknownHost => "unknown_host",
            Refusal::Misdirected => "misdirected",
            Refusal::UnknownCaller => "unknown_caller",
            Refusal::ForeignCaller => "foreign_caller",
            Refusal::IdentityRequired => "identity_required",
            Refusal::PlainTextOnly => "plain_text_only",
            Refusal::ForbiddenPeer => "forbidden_peer",
            Refusal::NotForHere => "not_for_here",
            Refusal::UnknownService => "unknown_service",
            Refusal::UnknownPort => "unknown_port",
            Refusal::Overloaded => "overloaded",
            Refusal::WrongProtocol => "wrong_protocol",
            Refusal::NoInstance => "no_instance",
            Refusal::ConnectFailed => "connect_failed",
            Refusal::InstanceReset => "instance_reset",
            Refusal::InstanceTimeout => "instance_timeout",
            Refusal::InstanceEjected => "instance_ejected",
            Refusal::BadAnswer => "bad_answer",
            Refusal::ClientBody => "client_body",
            Refusal::ClientTimeout => "client_timeout",
            Refusal::ClientGone => "client_gone",
            Refusal::ProxyHeader => "proxy_header",
            Refusal::StreamIdle => "stream_idle",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Dirty(_) | Refusal::ClientBody | Refusal::ProxyHeader => StatusCode::BAD_REQUEST,
            Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Refusal::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Refusal::UnknownHost => StatusCode::NOT_FOUND,
            Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Refusal::UnknownCaller | Refusal::ForeignCaller | Refusal::ForbiddenPeer => StatusCode::FORBIDDEN,
            Refusal::IdentityRequired | Refusal::PlainTextOnly => StatusCode::FORBIDDEN,
            Refusal::NotForHere => StatusCode::LOOP_DETECTED,
            Refusal::UnknownService | Refusal::UnknownPort | Refusal::NoInstance => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::ConnectFailed | Refusal::WrongProtocol | Refusal::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::InstanceReset | Refusal::BadAnswer | Refusal::InstanceEjected => StatusCode::BAD_GATEWAY,
            Refusal::InstanceTimeout | Refusal::StreamIdle => StatusCode::GATEWAY_TIMEOUT,
            Refusal::HeadTimeout | Refusal::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            // Nobody reads it: it is for the log only, in the way that nginx made customary.
            Refusal::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }

    /// Whether no honest client would have sent this.
    pub fn is_offence(self) -> bool {
        matches!(self, Refusal::Dirty(_) | Refusal::HeadTooLarge(_) | Refusal::TargetTooLong)
    }

    /// Whether the connection must not be used on: what follows on it cannot be trusted, or cannot be told apart.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Refusal::Dirty(_)
                | Refusal::HeadTooLarge(_)
                | Refusal::TargetTooLong
                | Refusal::HeadTimeout
                | Refusal::BodyTooLarge
                | Refusal::ClientBody
                | Refusal::ClientTimeout
                | Refusal::ClientGone
        )
    }

    /// One sentence for the caller, which gives away nothing that only operators should know.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::Dirty(_) => "The request is malformed.",
            Refusal::HeadTooLarge(_) => "The request's head is too large.",
            Refusal::TargetTooLong => "The request's target is too long.",
            Refusal::HeadTimeout => "The request's head came too slowly.",
            Refusal::BodyTooLarge => "The request's body is too long.",
            Refusal::Version => "The gateway does not speak this version of HTTP.",
            Refusal::Unsupported(_) => "The gateway does not support this kind of request.",
            Refusal::UnknownHost => "Nothing is published under this host name here.",
            Refusal::Misdirected => "This connection was opened for another host.",
            Refusal::UnknownCaller => "This caller's address belongs to no namespace of the mesh.",
            Refusal::ForeignCaller => "This caller belongs to another global namespace.",
            Refusal::IdentityRequired => {
                "The caller must prove who it is: connect by TLS with a certificate of the mesh."
            }
            Refusal::PlainTextOnly => "This service is called in plain text only.",
            Refusal::ForbiddenPeer => "This gateway may not ask for that.",
            Refusal::NotForHere => "The request was sent to the wrong cluster.",
            Refusal::UnknownService => "The service is not known here.",
            Refusal::UnknownPort => "The service has no such port.",
            Refusal::Overloaded => "The gateway is overloaded. Try again in a moment.",
            Refusal::WrongProtocol => "The service does not speak HTTP on this port.",
            Refusal::NoInstance => "No instance can take the request.",
            Refusal::ConnectFailed => "No instance could be reached.",
            Refusal::InstanceReset => "The instance broke off before it answered.",
            Refusal::InstanceTimeout => "The instance did not answer in time.",
            Refusal::InstanceEjected => "The instance was found dead while the request waited.",
            Refusal::BadAnswer => "The instance's answer makes no sense.",
            Refusal::ClientBody => "The request's body was broken off.",
            Refusal::ClientTimeout => "The request's body came too slowly.",
            Refusal::ClientGone => "The client went away.",
            Refusal::ProxyHeader => "The proxy did not say who called.",
            Refusal::StreamIdle => "Nothing moved for too long.",
        }
    }
}
