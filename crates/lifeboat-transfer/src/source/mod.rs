//! Where entries come from: directory trees, standard input, commands.
//!
//! Read next: [`walk`], then [`crate::backup`].

pub mod compose;
pub mod exclude;
pub mod file;
pub mod owners;
pub mod walk;
