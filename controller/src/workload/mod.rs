//! A workload's identity outside the agent: whose it is, and the directory that holds it.

pub mod directory;
mod name;

pub use name::{Declaration, DeclarationError, ServiceName, ServiceNameError};
