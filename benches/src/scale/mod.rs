//! What large repositories are made of when real data would take days.

pub(crate) mod synthetic;
