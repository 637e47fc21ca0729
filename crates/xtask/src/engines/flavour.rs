//! Which engines there are.

use super::shifted;
use crate::failure::{Failure, Result};

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The one of the system's release.
    System,
    /// A current one, images in the graph driver's store.
    Graph,
    /// A current one, images in containerd's store.
    Containerd,
    /// A current one that shifts the user ids of its containers.
    Remapped,
    /// A current one without root.
    Rootless,
}

impl Flavour {
    /// Those that every promise is kept on, and that tests share.
    pub(crate) const ALL: [Self; 3] = [Self::System, Self::Graph, Self::Containerd];
    /// Those that a test starts for itself.
    pub(super) const OWN: [Self; 2] = [Self::Remapped, Self::Rootless];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Graph => "graph",
            Self::Containerd => "containerd",
            Self::Remapped => "remapped",
            Self::Rootless => "rootless",
        }
    }

    pub(super) fn is_shifted(self) -> bool {
        Self::OWN.contains(&self)
    }

    pub(crate) fn parse(word: &str) -> Result<Self> {
        Self::ALL.into_iter().chain(Self::OWN).find(|flavour| flavour.word() == word).ok_or_else(|| {
            Failure::new(format!(
                "there is no engine `{word}`; there are system, graph and containerd, and as instances remapped and rootless"
            ))
        })
    }

    /// What only this one is told.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::System => &[],
            Self::Graph => &["--feature", "containerd-snapshotter=false"],
            Self::Containerd => &["--feature", "containerd-snapshotter=true"],
            Self::Remapped | Self::Rootless => shifted::options(self),
        }
    }
}
