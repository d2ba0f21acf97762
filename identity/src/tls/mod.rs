//! The verification rules as rustls verifiers, and rustls configurations made with them.

mod config;
mod enrolment;
mod verifiers;

pub use config::{
    control_client_config, control_server_config, enrolment_client_config, gateway_server_config,
    instance_client_config, tunnel_client_config,
};
pub use enrolment::pinned_root;
pub use verifiers::{ClientVerifier, ServerNames, ServerVerifier, Strictness};
