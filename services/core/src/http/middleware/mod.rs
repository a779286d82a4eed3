//! What every request passes, from the outside in: `observe`, and on the public router `unread_body` and `refusals`.

pub(super) mod observe;
pub mod refusals;
pub(super) mod unread_body;
