//! What quiescing asks of an engine.
//!
//! Must stay true: this is all of it, so that the same orders run against an engine and against the model of one in
//! `model_tests.rs`, which crashes at every step.

use super::plan::Step;
use crate::facts::Facts;
use crate::journal::entry::{Owed, Running};

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It does not answer: it may later.
    #[error("the engine does not answer")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It will not, for now or for ever; looking again tells.
    #[error("the engine refuses")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An engine, as far as quiescing needs one. Orders may be repeated; each looks again whatever was answered.
pub trait Hands {
    /// What is known about a container; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as all of these.
    fn look(&self, container: &str) -> Result<Option<Facts>, Refusal>;
    /// Makes it quiet.
    fn quieten(&self, step: &Step) -> Result<(), Refusal>;
    /// Unfreezes it.
    fn unpause(&self, container: &str) -> Result<(), Refusal>;
    /// Starts it.
    fn start(&self, container: &str) -> Result<(), Refusal>;
    /// Runs an owed command; says how it went.
    fn pay(&self, owed: &Owed) -> Result<String, Refusal>;
    /// Ends a command that its run left behind; says how it went, and whether it is over.
    fn end_command(&self, running: &Running) -> Result<(String, bool), Refusal>;
    /// Lets some time pass.
    fn pass(&self, time: std::time::Duration);
}
