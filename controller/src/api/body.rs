//! JSON bodies, with errors like all others.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::MAX_BODY;
use super::error::ApiError;

/// A request's body, read as JSON whatever its content type says.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let limit = MAX_BODY >> 20;
                ApiError::new(
                    error.status(),
                    format!("the request is longer than {limit} MiB, the most that is read: split it"),
                )
            }
            status => ApiError::new(status, error.body_text()),
        })?;
        let value = serde_json::from_slice(&bytes);
        value.map(Body).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body is not as it should be: {error}"))
        })
    }
}
