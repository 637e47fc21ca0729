//! Open files of this process.

use rustix::process::Resource;

/// Raises the soft limit to the hard one: deep trees need a descriptor for each level, and most systems allow far more
/// than they grant at first.
pub(crate) fn raise_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Refused, a tree is walked as deep as it can be, and the rest is reported.
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
}
