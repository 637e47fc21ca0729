//! Streams that Go wrote come back from their recipes, which are the committed ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod both;

use both::{Apart, analyze, recreate, vector, vector_names};
use std::io::Read;

/// Streams that are predicted wholly, but for their heads, tails and shorter blocks.
const PREDICTED: &[&str] = &["byte", "empty", "far", "noise", "odd", "runs", "short", "single", "tar"];

#[test]
fn every_vector_is_taken_apart_as_committed_and_comes_back() {
    assert_eq!(vector_names().len(), PREDICTED.len() + 3);
    for name in vector_names() {
        let stream = vector(&name, "gz");
        let Apart { plain, recipe } = analyze(&stream, stream.len()).expect("predictable");
        assert_eq!(recipe, vector(&name, "recipe"), "{name}");
        let mut expected = Vec::new();
        let end = flate2::read::GzDecoder::new(stream.as_slice()).read_to_end(&mut expected);
        assert_eq!(end.is_err(), name == "go127", "{name}: this one is cut off");
        assert!(plain == expected || plain.starts_with(&expected), "{name}: plain bytes of the first member");
        assert_eq!(recreate(&plain, &recipe, plain.len()).unwrap(), stream, "{name}");
    }
}

#[test]
fn sizes_of_pushes_change_nothing() {
    for name in vector_names() {
        let stream = vector(&name, "gz");
        let whole = analyze(&stream, stream.len()).unwrap();
        for push in [1, 2, 13, 4096, 40_000, 65_536] {
            assert_eq!(analyze(&stream, push).as_ref(), Some(&whole), "{name}: {push}");
            assert_eq!(recreate(&whole.plain, &whole.recipe, push).unwrap(), stream, "{name}: {push}");
        }
    }
}

#[test]
fn what_go_wrote_at_its_default_level_costs_a_byte_or_two_a_block() {
    for name in PREDICTED {
        let stream = vector(name, "gz");
        let Apart { recipe, .. } = analyze(&stream, stream.len()).unwrap();
        // Version, predictor, the head with its length, the rest: mark, lengths, checksum and size.
        let frame = 2 + 1 + if *name == "runs" { 51 } else { 10 } + 1 + 1 + 8 + 1;
        let blocks = recipe.len() - frame;
        assert!(blocks <= 6 + stream.len() / 3000, "{name}: {blocks} bytes");
    }
}

#[test]
fn what_go_1_27_wrote_is_predicted_too() {
    let stream = vector("go127", "gz");
    let Apart { recipe, .. } = analyze(&stream, stream.len()).unwrap();
    assert_eq!(recipe[1], 2, "the predictor");
    // Behind the third block the stream is cut off.
    let rest = stream.len() - 56_344;
    assert!(recipe.len() - rest < 100, "{} bytes", recipe.len() - rest);
}

#[test]
fn what_nothing_predicts_is_corrected_or_kept() {
    let flushed = vector("flushed", "gz");
    let recipe = analyze(&flushed, flushed.len()).unwrap().recipe;
    assert!(recipe.len() < flushed.len() / 20, "{} bytes", recipe.len());

    let members = vector("members", "gz");
    let Apart { plain, recipe } = analyze(&members, members.len()).unwrap();
    assert_eq!(plain.len(), 3000);
    assert!(recipe.ends_with(&[&members[members.len() - 140..], &[0]].concat()));
}

/// One block with fixed codes, of literals that are coded in eight bits.
fn long_block(literals: &[u8]) -> Vec<u8> {
    let mut bits = vec![true, true, false];
    for literal in literals {
        let code = 0x30 + literal;
        bits.extend((0..8).rev().map(|bit| code >> bit & 1 == 1));
    }
    bits.extend([false; 7]);
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    head.into_iter().chain(bits.chunks(8).map(byte)).collect()
}

#[test]
fn a_block_may_have_more_tokens_than_a_section() {
    let mut state = 1u64;
    let mut literal = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 144) as u8
    };
    for count in [262_143, 262_144, 262_145, 600_000] {
        let literals: Vec<u8> = (0..count).map(|_| literal()).collect();
        let stream = long_block(&literals);
        let Apart { plain, recipe } = analyze(&stream, 50_000).unwrap();
        assert!(plain == literals && recipe.len() < 1000, "{count}: {} bytes", recipe.len());
        assert!(recreate(&plain, &recipe, 50_000).unwrap() == stream, "{count}");
        // Cut off in its second part; of the shorter ones nothing is left that can be predicted.
        if let Some(cut) = analyze(&stream[..stream.len() - 1000], 50_000) {
            assert!(recreate(&cut.plain, &cut.recipe, 50_000).unwrap() == stream[..stream.len() - 1000]);
        } else {
            assert!(count < 600_000);
        }
    }
}

#[test]
fn a_copy_across_pieces_that_go_1_27_would_not_say_waits_for_its_bytes() {
    let mut stream = vector("go127", "gz");
    // Behind these, copies begin elsewhere than where a piece does.
    stream[44_768] ^= 1 << 3;
    stream[55_946] ^= 1 << 4;
    let whole = analyze(&stream, stream.len()).unwrap();
    for push in [1, 4096, 65_535, 98_303] {
        assert_eq!(analyze(&stream, push).as_ref(), Some(&whole), "{push}");
        assert_eq!(recreate(&whole.plain, &whole.recipe, push).unwrap(), stream, "{push}");
    }
}
