//! What can be wrong with bytes, and what the caller may do about it.

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes are not what was written: fetch them again, or repair.
    Damaged,
    /// The key or password does not open this.
    Denied,
    /// A newer lifeboat wrote this.
    Unsupported,
    /// The caller asked for something that the format cannot hold.
    Usage,
}

/// Why bytes could not be turned into a value, or a value into bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end early, are too long, or contradict themselves.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// What was being decoded.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The key does not fit, or somebody changed the bytes: authenticated encryption cannot tell which.
    #[error("{what} cannot be authenticated: it was changed, or the key is another repository's")]
    Unauthentic {
        /// What was being opened.
        what: &'static str,
    },
    /// The object's version or a feature it requires is newer than this program.
    #[error("{what} needs {feature}, which this lifeboat does not know")]
    Unsupported {
        /// What was being decoded.
        what: &'static str,
        /// The version or the feature's name.
        feature: String,
    },
    /// No key slot opens with this password or key file.
    #[error("wrong password or key")]
    WrongKey,
    /// The value is outside what the format can hold.
    #[error("{what} is outside the format's limits: {detail}")]
    Limit {
        /// What was to be encoded.
        what: &'static str,
        /// Which limit, and the value found.
        detail: String,
    },
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged { .. } | Self::Unauthentic { .. } => ErrorKind::Damaged,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::WrongKey => ErrorKind::Denied,
            Self::Limit { .. } => ErrorKind::Usage,
        }
    }

    pub(crate) fn damaged(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Damaged { what, detail: detail.into() }
    }

    pub(crate) fn limit(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Limit { what, detail: detail.into() }
    }
}

/// The result of decoding or encoding.
pub type Result<T, E = Error> = std::result::Result<T, E>;
