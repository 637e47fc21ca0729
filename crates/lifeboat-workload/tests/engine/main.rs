//! What lifeboat does when an engine does not do what it should.

mod connection;
mod fake;
mod streams;
mod tls;
