//! What writers know of collections: the packs on condemned lists.

use crate::error::{Error, Result};
use crate::repository::Repository;
use lifeboat_format::condemned::Sentence;
use lifeboat_format::{ObjectKey, ObjectKind, PackName, SessionId};
use std::collections::HashSet;

/// The packs on all condemned lists at one moment.
///
/// Verdicts add nothing: one that counts has its condemned list beside it, which goes after it.
#[derive(Debug, Default)]
pub(crate) struct Condemned {
    packs: HashSet<PackName>,
    is_list_there: bool,
}

impl Condemned {
    /// Reads all lists. One that is gone before it was read belongs to a collection that is over.
    pub(crate) fn read(repository: &Repository) -> Result<Self> {
        let mut condemned = Self::default();
        let listed = repository
            .store()
            .list(ObjectKind::Condemned)
            .map_err(Error::store("the condemned lists cannot be listed"))?;
        for object in listed {
            condemned.is_list_there = true;
            let list = read_list(repository, Sentence::Condemned, session_of(&object.key))?;
            condemned.packs.extend(list.into_iter().flatten());
        }
        Ok(condemned)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    pub(crate) fn is_list_there(&self) -> bool {
        self.is_list_there
    }

    pub(crate) fn contains(&self, pack: &PackName) -> bool {
        self.packs.contains(pack)
    }
}

/// The collector in the name of a condemned list, a verdict or a fence.
pub(super) fn session_of(key: &ObjectKey) -> SessionId {
    SessionId(key.name().try_into().expect("the names of lists have 16 bytes"))
}

/// Reads a collector's list; `None` when there is none.
pub(super) fn read_list(
    repository: &Repository,
    sentence: Sentence,
    session: SessionId,
) -> Result<Option<Vec<PackName>>> {
    let key = sentence.key(session);
    let bytes = match repository.store().get(&key) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == lifeboat_store::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Store { doing: format!("{key} cannot be read"), source }),
    };
    sentence
        .decode(repository.keys(), session, &bytes)
        .map(Some)
        .map_err(Error::format(format!("{key} cannot be read")))
}
