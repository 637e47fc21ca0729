//! Why a chore stopped, in words for the person who started it.

use std::fmt;

/// A message that says what failed and, where there is one, what to do about it.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The result of a chore.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Says what was being done when the operating system refused.
pub(crate) trait While<T> {
    fn while_doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T> While<T> for std::io::Result<T> {
    fn while_doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("cannot {what}: {error}")))
    }
}
