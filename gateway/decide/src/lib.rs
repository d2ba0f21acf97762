//! What the gateway decides, as pure functions: no input or output, no clock (time comes in as an argument), no
//! knowledge of the proxy library or of how the world is written down.
//!
//! The modules follow the life of a request: who opened its connection ([`proxy_header`]), does that behave ([`frames`],
//! [`pace`]), what do its bytes say ([`head`], [`chunked`]), is it clean ([`hygiene`], [`target`], [`authority`],
//! [`headers`], [`grpc`]), who asked ([`forwarded`]), where does it go ([`route`]), who serves it ([`balance`],
//! [`health`]), and what happens when that one fails ([`retry`]).
//! Whether there is too much to do at all says [`overload`].
//! [`trace`] is how it is followed from one server to the next.

pub mod authority;
pub mod balance;
pub mod chunked;
pub mod forwarded;
pub mod frames;
pub mod grpc;
pub mod head;
pub mod headers;
pub mod health;
pub mod hygiene;
pub mod overload;
pub mod pace;
pub mod proxy_header;
pub mod retry;
pub mod route;
pub mod target;
pub mod trace;
pub mod window;
