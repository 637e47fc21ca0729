//! What lifeboat does when an engine does not do what it should.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod connection;
mod fake;
mod streams;
mod tls;
