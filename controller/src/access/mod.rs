//! Who may use the API, and for what. What the controller does for people it does for a [`Permit`] only, and a permit
//! comes from a [`Caller`] who has the right role, or from the process itself.

mod caller;
mod permit;
mod role;
mod tokens;

pub(crate) use caller::Caller;
pub use permit::Forbidden;
pub(crate) use permit::{Administer, Edit, Inspect, Level, Oversee, Permit};
pub use role::{Role, RoleError};
pub use tokens::TokenRow;
pub(crate) use tokens::{ApiTokens, NewToken, TokenFault};
