//! Takes gzip streams apart and together again, and says what it took: `cargo run --release -p lifeboat-gzip --example
//! measure FILE…`.

use lifeboat_gzip::{Analyzer, Fit, Recreator};
use std::error::Error;
use std::fs;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args_os().skip(1) {
        measure(&fs::read(&path)?, &path.to_string_lossy())?;
    }
    Ok(())
}

fn measure(stream: &[u8], name: &str) -> Result<(), Box<dyn Error>> {
    let (mut plain, mut recipe) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let mut analyzer = Analyzer::new();
    for part in stream.chunks(64 << 10) {
        analyzer.push(part, &mut plain, &mut recipe)?;
    }
    let fit = analyzer.finish(&mut plain, &mut recipe)?;
    let analyzing = begin.elapsed().as_secs_f64();
    if fit == Fit::NotPredictable {
        println!("{name}: {} bytes, not predictable, {analyzing:.2} s", stream.len());
        return Ok(());
    }
    let begin = Instant::now();
    let mut again = Vec::new();
    let mut recreator = Recreator::new(recipe.as_slice())?;
    for part in plain.chunks(64 << 10) {
        recreator.push(part, &mut again)?;
    }
    recreator.finish(&mut again)?;
    let recreating = begin.elapsed().as_secs_f64();
    let mib = plain.len() as f64 / f64::from(1 << 20);
    println!(
        "{name}: {} bytes, plain {}, recipe {} ({:.4} %), {}; apart {:.1} MiB/s, together {:.1} MiB/s",
        stream.len(),
        plain.len(),
        recipe.len(),
        100.0 * recipe.len() as f64 / stream.len() as f64,
        if again == stream { "the same" } else { "DIFFERENT" },
        mib / analyzing,
        mib / recreating,
    );
    Ok(())
}
