//! The roles, each assembled from the crates: what one produces is joined by channels to what another consumes.

pub mod agent;
pub mod bounds;
pub mod controller;
pub mod dns;
pub mod expiry;
pub mod gateway;
pub mod limits;
pub mod member;
mod pace;
pub mod up;
