//! Where entries come from: directory trees, standard input, commands, archives.
//!
//! Read next: [`walk`], then [`crate::backup`].

pub(crate) mod ancestors;
pub mod archive;
pub mod compose;
pub mod exclude;
pub mod file;
pub mod owners;
pub mod walk;
