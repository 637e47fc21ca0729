//! The process that serves an engine's socket, as the kernel tells it.

use super::{Address, Engine};
use std::path::Path;

impl Engine {
    /// The process that listens at the engine's socket: the engine, or whoever stands between. Nothing where the engine is
    /// reached by TCP, or where the process is not one that this one can see, as from inside a container.
    #[must_use]
    pub fn listener(&self) -> Option<u32> {
        let Address::Unix(socket) = self.address() else { return None };
        self.runtime().block_on(listener(socket))
    }
}

/// tokio gives the number as it is; a type that excludes 0 must not be read from a kernel that says 0 here.
async fn listener(socket: &Path) -> Option<u32> {
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let process = u32::try_from(stream.peer_cred().ok()?.pid()?).ok()?;
    (process > 0).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_known_and_nobody_is_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(listener(&path)), Some(std::process::id()));
        assert_eq!(runtime.block_on(listener(&folder.path().join("none.sock"))), None);
    }
}
