//! The one place where errors become answers.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::access::Forbidden;
use crate::ca::AuthorityError;
use crate::global::Error;
use crate::http::failures::TooMany;
use crate::http::message::Errors;
use crate::store::{StoreError, is_full};

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    errors: Errors,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, errors: Errors::one(message) }
    }

    /// Whether the caller showed what doesn't admit.
    pub(super) fn is_refusal(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    /// What went wrong inside is for the log; callers only learn that it did.
    fn internal(error: &Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the controller failed at this; its log says why")
    }
}

impl ApiError {
    /// A disk that refuses is for people to mend, so they are told.
    fn disk(error: &Error, source: &std::io::Error) -> StatusCode {
        tracing::error!(%error, "a request failed, because the disk does");
        if is_full(source) { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::NotFound(_)
            | Error::NoToken(_)
            | Error::Store(StoreError::NoRevision { .. })
            | Error::Authority(AuthorityError::UnknownGns(_)) => StatusCode::NOT_FOUND,
            Error::Refused(_)
            | Error::Stale(_)
            | Error::Forbidden(_)
            | Error::NotAllowed(_)
            | Error::Authority(AuthorityError::NotMember { .. } | AuthorityError::Revoked(_)) => StatusCode::FORBIDDEN,
            Error::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Conflict(_)
            | Error::Store(StoreError::Overtaken { .. })
            | Error::Authority(
                AuthorityError::Rotating(_) | AuthorityError::RevokedAlready(_) | AuthorityError::NotRevoked(_),
            ) => StatusCode::CONFLICT,
            Error::Authority(AuthorityError::Csr(_)) => StatusCode::BAD_REQUEST,
            other => match other.disk() {
                Some(source) => Self::disk(&error, source),
                None => return Self::internal(&error),
            },
        };
        match error {
            Error::Invalid(errors) | Error::NotAllowed(errors) => ApiError { status, errors: Errors { errors } },
            other => Self::new(status, other.to_string()),
        }
    }
}

impl From<Forbidden> for ApiError {
    fn from(forbidden: Forbidden) -> Self {
        Self::new(StatusCode::FORBIDDEN, forbidden.to_string())
    }
}

impl From<TooMany> for ApiError {
    fn from(too_many: TooMany) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, too_many.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.errors)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
