//! Both directions, in pushes of some size, and the vectors.

#![allow(dead_code, reason = "each test program uses some")]

use lifeboat_gzip::{Analyzer, Error, Fit, Recreator};
use std::fs;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Apart {
    pub(crate) plain: Vec<u8>,
    pub(crate) recipe: Vec<u8>,
}

/// `None` if the stream is not predictable; then it was checked that nothing was given out and nothing was lost.
pub(crate) fn analyze(stream: &[u8], push: usize) -> Option<Apart> {
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    let mut analyzer = Analyzer::new();
    let mut fit = Fit::Undecided;
    let mut pushed = 0;
    for part in stream.chunks(push.max(1)) {
        let before = fit;
        fit = analyzer.push(part, &mut plain, &mut recipe).unwrap();
        pushed += part.len();
        assert!(before == Fit::Undecided || fit == before, "a decision is final");
        assert!(fit != Fit::Undecided || pushed < (256 << 10) + push, "a decision falls early");
        assert!(fit == Fit::Predictable || (plain.is_empty() && recipe.is_empty()), "given out too early");
        if fit == Fit::NotPredictable {
            break;
        }
    }
    if fit != Fit::NotPredictable {
        let last = analyzer.finish(&mut plain, &mut recipe).unwrap();
        assert!(last == fit || fit == Fit::Undecided);
        fit = last;
    }
    assert_ne!(fit, Fit::Undecided);
    if fit == Fit::Predictable {
        return Some(Apart { plain, recipe });
    }
    assert!(plain.is_empty() && recipe.is_empty());
    assert_eq!(analyzer.into_pushed(), &stream[..pushed]);
    None
}

pub(crate) fn recreate(plain: &[u8], recipe: &[u8], push: usize) -> Result<Vec<u8>, Error> {
    let mut stream = Vec::new();
    let mut recreator = Recreator::new(recipe)?;
    for part in plain.chunks(push.max(1)) {
        recreator.push(part, &mut stream)?;
    }
    recreator.finish(&mut stream)?;
    Ok(stream)
}

pub(crate) fn vector(name: &str, extension: &str) -> Vec<u8> {
    fs::read(format!("{VECTORS}/{name}.{extension}")).unwrap()
}

pub(crate) fn vector_names() -> Vec<String> {
    let paths = fs::read_dir(VECTORS).unwrap().map(|entry| entry.unwrap().path());
    let streams = paths.filter(|path| path.extension().is_some_and(|extension| extension == "gz"));
    streams.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}
