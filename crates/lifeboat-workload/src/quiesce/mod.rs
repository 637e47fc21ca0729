//! Making containers quiet, and never leaving one down.
//!
//! Must stay true: whatever dies, every container that lifeboat made quiet comes back as it was, without anybody's help
//! where this machine lives on.
//!
//! The way: [`plan`] decides who is touched, and who never ([`lifelines`], [`socket`]); [`others`] are
//! waited for; [`order`] does it with the journal ahead;
//! [`undo`] brings back, as [`remedy`]'s table says. Read next: `docs/decisions/0020-never-left-down.md`.

pub mod hands;
pub mod holding;
pub mod lifelines;
pub mod mark;
pub mod on_engine;
pub mod order;
pub mod others;
pub mod plan;
pub mod remedy;
pub mod session;
pub mod socket;
pub mod undo;

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod plan_tests;

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn random_word() -> String {
    let mut bytes = [0; 16];
    // Without the kernel's randomness, the time and the process still tell runs of one machine apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes[..12].copy_from_slice(&now.as_nanos().to_le_bytes()[..12]);
        bytes[12..].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
