//! What can be asked of a store: the vocabulary of [`crate::CountingStore`] and [`crate::FaultyStore`].

/// One call of a store or of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`crate::Store::put`].
    Put,
    /// [`crate::Store::spool`].
    Spool,
    /// [`crate::Spool::append`].
    Append,
    /// [`crate::Spool::read_at`].
    ReadSpool,
    /// [`crate::Spool::commit`].
    Commit,
    /// [`crate::Store::get`].
    Get,
    /// [`crate::Store::get_range`].
    GetRange,
    /// [`crate::Store::bytes`].
    Bytes,
    /// [`crate::Store::list`].
    List,
    /// [`crate::Store::delete`]; [`crate::Store::delete_many`] is one for each of its keys.
    Delete,
}

impl Operation {
    /// Whether it changes what other sessions see.
    pub fn is_change(self) -> bool {
        matches!(self, Self::Put | Self::Commit | Self::Delete)
    }
}
