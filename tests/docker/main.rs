//! What takes real container engines to show. Every promise is kept on three: the system's, and a current one with each
//! of its image stores.
//!
//! Must stay true: no test is left out where there is no engine; it fails, and says what to do.
//! Read next: [`engines`] brings the engines and removes what a test makes on them; `scene` is the machine around it.

mod adverse;
mod breaking;
mod composition;
mod containers;
mod engines;
mod full;
mod full_here;
mod hooks;
mod images;
mod kills;
mod labels;
mod lacking;
mod layers;
mod lifelines;
mod needs;
mod project;
mod projects;
mod recipes;
mod recreate;
mod refusals;
#[path = "../scene/mod.rs"]
mod scene;
mod scenery;
mod shifted;
mod story;
mod tls;
mod volumes;
