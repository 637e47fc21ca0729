//! Every fuzz target over its seeds and thousands of damaged copies of them, on a stable toolchain.
//!
//! Must stay true: a decoder returns whatever its input is. `cargo xtask fuzz` searches further; this notices within
//! seconds when a decoder, a target or a seed breaks. The damage is pseudo-random from a fixed seed, so a failure repeats.

#[path = "../fuzz/src/lib.rs"]
#[allow(
    unreachable_pub,
    reason = "the file is the library of another package, where its items can be reached"
)]
mod targets;

use std::collections::BTreeSet;
use std::panic::catch_unwind;

/// Damaged copies of each seed.
const COPIES: u32 = 1500;

/// xorshift64*: enough to damage bytes with, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        // The ends of the range are where lengths, tags and varints change their meaning.
        *[0, 1, 0x7f, 0x80, 0xfe, 0xff, self.below(256) as u8].get(self.below(7)).unwrap_or(&0)
    }

    /// One to four changes: a bit, a byte, a number, bytes cut out, doubled or taken from elsewhere.
    fn damage(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let (start, end) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let range = start.min(end)..start.max(end);
            match self.below(6) {
                0 if !bytes.is_empty() => {
                    let position = self.below(bytes.len());
                    bytes[position] ^= 1 << self.below(8);
                }
                1 if !bytes.is_empty() => {
                    let position = self.below(bytes.len());
                    bytes[position] = self.byte();
                }
                2 => bytes.truncate(start),
                3 => drop(bytes.drain(range)),
                4 => {
                    let doubled = bytes[range].to_vec();
                    bytes.splice(end..end, doubled);
                }
                _ => {
                    let inserted: Vec<u8> = (0..=self.below(9)).map(|_| self.byte()).collect();
                    bytes.splice(start..start, inserted);
                }
            }
        }
        bytes
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a target, and says with which input it panicked.
fn survive(target: &targets::Target, bytes: &[u8]) -> bool {
    catch_unwind(|| (target.run)(bytes))
        .unwrap_or_else(|_| panic!("{} panics on {}", target.name, hex(bytes)))
}

#[test]
fn every_seed_decodes() {
    for target in targets::TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            assert!(targets::run(target.name, &seed), "{} refuses its seed {}", target.name, hex(&seed));
        }
    }
}

#[test]
fn no_decoder_panics_on_damaged_bytes() {
    for target in targets::TARGETS {
        let mut refused = 0;
        for seed in (target.seeds)() {
            let mut dice = Dice(0x11fe_b0a7);
            for length in 0..seed.len() {
                survive(target, &seed[..length]);
            }
            for _ in 0..COPIES {
                refused += u32::from(!survive(target, &dice.damage(&seed)));
            }
        }
        assert!(refused > COPIES / 10, "{} takes almost anything: is it still looking?", target.name);
    }
}

#[test]
fn every_target_has_its_file_and_its_place_in_the_manifest() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).unwrap();
    let named: BTreeSet<String> = targets::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let files: BTreeSet<String> = std::fs::read_dir(format!("{folder}/fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(named, files);
    for name in &named {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
        let file = std::fs::read_to_string(format!("{folder}/fuzz_targets/{name}.rs")).unwrap();
        assert!(file.contains(&format!("run(\"{name}\", bytes)")), "{name}.rs runs another target");
    }
}
