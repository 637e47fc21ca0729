//! Backup store for container workloads: the library.
