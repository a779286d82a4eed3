//! Revoked sessions. The table kijko.revoked_sessions has them (session.sql), shared memory caches them
//! (revocation_cache.rs) as long as it holds all of them (cache_state.rs, pure), and revoked.rs answers.

mod cache_state;
pub mod revocation_cache;
mod revoked;

pub use revoked::is_revoked;
