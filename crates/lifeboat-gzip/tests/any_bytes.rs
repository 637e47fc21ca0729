//! Whatever is taken apart comes back, and whatever is put together does no harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod both;

use both::{analyze, recreate, vector, vector_names};
use lifeboat_gzip::ErrorKind;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::io::Write;

/// Analyzed and recreated, if it is predictable.
fn there_and_back(stream: &[u8], push: usize) -> Result<(), TestCaseError> {
    if let Some(apart) = analyze(stream, push) {
        let again = recreate(&apart.plain, &apart.recipe, push);
        prop_assert!(again.is_ok(), "{:?}", again);
        prop_assert!(again.unwrap() == stream, "another stream came back");
    }
    Ok(())
}

/// Bytes with repetitions, near and far.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (any::<u8>(), 1usize..3000).prop_map(|(byte, count)| vec![byte; count]),
        prop::collection::vec(0u8..4, 1..500),
        prop::collection::vec(any::<u8>(), 1..500),
    ];
    (prop::collection::vec(part, 1..12), prop::collection::vec(any::<Index>(), 1..60))
        .prop_map(|(parts, order)| order.iter().flat_map(|index| index.get(&parts).iter().copied()).collect())
}

fn zlib(plain: &[u8], level: u32) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

/// Vectors with plain bytes. Of a stream that is cut off, the last ones are not needed.
fn needed_vectors() -> Vec<String> {
    vector_names().into_iter().filter(|name| name != "empty" && name != "go127").collect()
}

/// One of the vectors.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    select(vector_names()).prop_map(|name| vector(&name, "gz"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000), push in 1usize..3000) {
        there_and_back(&bytes, push)?;
        there_and_back(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], bytes.as_slice()].concat(), push)?;
        there_and_back(&[&vector("short", "gz")[..52], bytes.as_slice()].concat(), push)?;
    }

    #[test]
    fn streams_that_others_wrote(plain in repetitive(), level in 0u32..10, push in 1usize..100_000) {
        there_and_back(&zlib(&plain, level), push)?;
    }

    #[test]
    fn streams_that_are_cut_off(stream in stream(), end in any::<Index>(), push in 1usize..100_000) {
        there_and_back(&stream[..end.index(stream.len())], push)?;
    }

    #[test]
    fn streams_with_flipped_bits(
        stream in stream(),
        flips in prop::collection::vec((any::<Index>(), 0u32..8), 1..4),
        push in 1usize..100_000,
    ) {
        let mut stream = stream;
        for (at, bit) in flips {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        there_and_back(&stream, push)?;
    }

    #[test]
    fn streams_behind_one_that_go_wrote(first in stream(), plain in repetitive(), level in 0u32..10) {
        there_and_back(&[first, zlib(&plain, level)].concat(), 32 << 10)?;
    }

    #[test]
    fn recipes_with_flipped_bits(
        name in select(vector_names()),
        flips in prop::collection::vec((any::<Index>(), 0u32..8), 1..3),
        push in 1usize..100_000,
    ) {
        let stream = vector(&name, "gz");
        let mut apart = analyze(&stream, stream.len()).unwrap();
        for (at, bit) in flips {
            let at = at.index(apart.recipe.len());
            apart.recipe[at] ^= 1 << bit;
        }
        if let Err(error) = recreate(&apart.plain, &apart.recipe, push) {
            prop_assert_ne!(error.kind(), ErrorKind::Unavailable);
        }
    }

    #[test]
    fn any_recipe(
        plain in prop::collection::vec(0u8..3, 0..3000),
        sections in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = recreate(&plain, &[&[1, 1, 0], sections.as_slice()].concat(), 1000);
    }

    #[test]
    fn plain_bytes_that_are_others(name in select(needed_vectors()), at in any::<Index>(), change in prop_oneof![Just(0u8), any::<u8>()]) {
        let stream = vector(&name, "gz");
        let mut apart = analyze(&stream, stream.len()).unwrap();
        let at = at.index(apart.plain.len());
        match change {
            0 => apart.plain.truncate(at),
            _ => apart.plain[at] ^= change,
        }
        match recreate(&apart.plain, &apart.recipe, 10_000) {
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Damaged),
            // Where the recipe says how long a copy is, and of what, nobody looks at the bytes that it stands for.
            Ok(made) => prop_assert!(made != stream || (change != 0 && at > 0), "{}: {} {}", name, at, change),
        }
    }
}

#[test]
fn hardly_any_plain_byte_is_not_needed() {
    for name in vector_names() {
        let stream = vector(&name, "gz");
        let apart = analyze(&stream, stream.len()).unwrap();
        let step = (apart.plain.len() / 200).max(1);
        let (mut tried, mut same) = (0, 0);
        for at in (0..apart.plain.len()).step_by(step) {
            let mut plain = apart.plain.clone();
            plain[at] ^= 0x55;
            tried += 1;
            same += usize::from(recreate(&plain, &apart.recipe, 10_000).is_ok_and(|made| made == stream));
        }
        // The last plain bytes of a stream that is cut off are not needed.
        let limit = if name == "go127" { tried / 4 } else { 0 };
        assert!(same <= limit, "{name}: {same} of {tried}");
    }
}
