//! Sources and sinks, backup and restore engines.
