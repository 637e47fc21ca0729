//! Which chunk lies where: a local cache in RocksDB that can always be rebuilt.
