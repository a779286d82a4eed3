//! From a git server to parsed files, without a database: `git http-backend` serves repositories that the tests make.

mod child;
mod fetch;
mod hostile;
mod server;
