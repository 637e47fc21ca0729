//! The fuzz target `skeleton`; what it does is in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lifeboat_fuzz::run("skeleton", bytes);
});
