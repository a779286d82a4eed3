//! The HTTP server: two routers by audience, and around their routes what every request gets.
//!
//! - `routes`: what every service answers, one file each.
//! - `middleware`: what every request passes.
//! - [`extract`]: what handlers read from a request.
//! - [`connections`]: clients that do not read.
//! - [`headers`]: what the database gets of its header.

pub mod config;
pub mod connections;
pub mod extract;
pub mod headers;
pub mod metrics;
mod middleware;
pub mod routers;
pub mod routes;

pub use config::{HttpConfig, RouteLimit, RouteLimits};
pub use metrics::HttpSeries;
pub use middleware::refusals::Accepted;
pub use routers::{Server, operators, public};

#[cfg(test)]
mod tests;
