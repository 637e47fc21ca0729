//! What large repositories are made of when real data would take days.

pub(crate) mod huge;
pub(crate) mod look_up;
pub(crate) mod synthetic;
