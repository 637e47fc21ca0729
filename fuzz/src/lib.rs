//! One function per decoder of `lifeboat-format`, and one for the recognition of database files: hostile bytes go in, and
//! nothing but a verdict may come out.
//!
//! Must stay true: a function here returns whatever its input is; whatever it decodes can be encoded again and reads
//! back as the same value. Checksums and seals are made here around the input, so that a fuzzer spends its time in the
//! decoders and not in guessing BLAKE3: the keys are fixed, and an attacker with a key is in scope.
//! The same file is compiled into `tests/decoders.rs`, where every target runs over its seeds on a stable toolchain.
//! Read next: `seeds.rs`, real objects for the fuzzer to begin with.

mod bundles;
mod decoders;
mod keyring;
mod pages;
mod sealed;
mod seeds;

/// One fuzz target.
pub struct Target {
    /// Its name: `fuzz_targets/NAME.rs`.
    pub name: &'static str,
    /// Feeds one input to the decoder; whether it decoded to a value.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that decode.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "bundle", run: bundles::bundle, seeds: bundles::seeds },
    Target { name: "config", run: decoders::config, seeds: seeds::configs },
    Target { name: "directory", run: decoders::directory, seeds: seeds::directories },
    Target { name: "index", run: sealed::index, seeds: seeds::indexes },
    Target { name: "intent", run: sealed::intent, seeds: seeds::intents },
    Target { name: "list_node", run: decoders::list_node, seeds: seeds::list_nodes },
    Target { name: "object", run: decoders::object, seeds: seeds::objects },
    Target { name: "pages", run: pages::pages, seeds: seeds::page_files },
    Target { name: "path", run: decoders::path, seeds: seeds::paths },
    Target { name: "region", run: sealed::region, seeds: seeds::regions },
    Target { name: "skeleton", run: decoders::skeleton, seeds: seeds::skeletons },
    Target { name: "slot", run: sealed::slot, seeds: seeds::slots },
    Target { name: "snapshot", run: sealed::snapshot, seeds: seeds::snapshots },
    Target { name: "trailer", run: decoders::trailer, seeds: seeds::trailers },
    Target { name: "tree_node", run: decoders::tree_node, seeds: seeds::tree_nodes },
    Target { name: "wire", run: decoders::wire, seeds: seeds::wires },
];

/// Runs the target called `name`.
///
/// # Panics
/// When there is none, or when the decoder broke its promise.
pub fn run(name: &str, bytes: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("every file in fuzz_targets names a target").run)(bytes)
}
