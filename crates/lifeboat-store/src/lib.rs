//! Where objects live: named, immutable, durable bytes.
