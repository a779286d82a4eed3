//! What every request passes, from the outside in: `observe`, and on the public router `refusals`.

pub(super) mod observe;
pub mod refusals;
