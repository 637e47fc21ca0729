//! What is kept of an output, and when a hold holds.
//!
//! Must stay true: no piece boundary matters. Commands on an engine are tested in `tests/`.

use super::kept::LINE_MAX;
use super::*;
use crate::engine::Output;

#[test]
fn a_flood_is_counted_and_not_kept() {
    let mut kept = Kept::default();
    for _ in 0..10 {
        kept.add(Output::Standard(vec![b'x'; OUTPUT_MAX / 4]));
        kept.add(Output::Error(vec![b'y'; 100_000]));
    }
    kept.add(Output::Error(b"the end".to_vec()));
    assert_eq!(kept.output.len(), OUTPUT_MAX);
    assert_eq!(kept.dropped, (OUTPUT_MAX / 4 * 6) as u64);
    let ran = kept.ran(0);
    assert!(ran.errors.len() <= 4 << 10 && ran.errors.ends_with("the end"));
}

#[test]
fn ready_is_a_whole_line_and_comes_in_any_pieces() {
    let ready = |pieces: &[&str]| {
        let mut kept = Kept::default();
        for piece in pieces {
            kept.add(Output::Standard(piece.as_bytes().to_vec()));
        }
        kept.is_ready
    };
    assert!(ready(&["ready\n"]));
    assert!(ready(&["SET\n re", "ady \r\n", "more"]));
    let flood = "x\n".repeat(OUTPUT_MAX);
    assert!(ready(&[&flood, "rea", "dy\n"]));
    let long = format!("ready{}", " ".repeat(LINE_MAX));
    for not in [&["ready"][..], &["already\n"], &["ready to go\n"], &[], &[&long, "or not\n"]] {
        assert!(!ready(not), "{not:?}");
    }
}
