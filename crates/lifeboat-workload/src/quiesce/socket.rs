//! Who serves the engine's socket: the engine, or a proxy that is a container and must not be touched.

use super::lifelines::last_id;
use crate::engine::{Address, Engine};
use std::path::PathBuf;

/// Who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Served {
    /// No container: the engine itself, or another process of the host; or there is no socket.
    #[default]
    ByNoContainer,
    /// A container, by id. It may be another engine's.
    ByContainer(String),
    /// The kernel does not say, as inside a container, where no process outside can be seen. Whoever can put a socket where
    /// this one lies, as lifeboat sees that, may serve it.
    Unknown(Vec<PathBuf>),
}

impl Served {
    /// Asks the kernel.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let Address::Unix(socket) = engine.address() else { return Self::ByNoContainer };
        let groups = engine.listener().and_then(|process| {
            // It may have ended since it began to listen, and left that to its children.
            std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()
        });
        match groups {
            Some(groups) => by_groups(&groups),
            None => {
                // A mount may be called by either name.
                let real = std::fs::canonicalize(socket).ok().filter(|real| real != socket);
                Self::Unknown([socket.clone()].into_iter().chain(real).collect())
            }
        }
    }
}

fn by_groups(groups: &str) -> Served {
    groups.lines().find_map(last_id).map_or(Served::ByNoContainer, Served::ByContainer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_a_container_is_told_by_its_groups() {
        let id = "0123456789abcdef".repeat(4);
        let old = format!("9:name=systemd:/\n8:pids:/docker/{id}\n0::/\n");
        for groups in
            [old, format!("0::/system.slice/docker-{id}.scope\n"), format!("0::/docker/{id}/init.scope\n")]
        {
            assert_eq!(by_groups(&groups), Served::ByContainer(id.clone()), "{groups}");
        }
        for groups in ["0::/system.slice/docker.service\n", "8:pids:/\n0::/\n", ""] {
            assert_eq!(by_groups(groups), Served::ByNoContainer, "{groups}");
        }
    }
}
