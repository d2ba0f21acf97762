//! What the world is: resources, their identity, the world made of them, and its compiled [`snapshot`].
//!
//! Pure: no sockets, no clock, no async runtime. The same code runs in the controller (to validate), in agents
//! (to project) and in data planes (to compile), so that all of them agree about what a manifest means.

pub mod check;
pub mod compile;
pub mod conditions;
pub mod explain;
pub mod hosts;
pub mod keyed;
pub mod live;
pub mod manifest;
pub mod resource;
pub mod revoked;
pub mod schema;
pub mod snapshot;
pub mod validate;
pub mod wire;
pub mod world;
