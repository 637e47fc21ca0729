//! Writes the recipe of each stream in `tests/vectors` beside it. Only for a new version of recipes, or new streams: what
//! changes in an old one is a change of the format.

use lifeboat_gzip::{Analyzer, Fit};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gz") {
            let (mut plain, mut recipe) = (Vec::new(), Vec::new());
            let mut analyzer = Analyzer::new();
            analyzer.push(&fs::read(&path)?, &mut plain, &mut recipe)?;
            assert_eq!(analyzer.finish(&mut plain, &mut recipe)?, Fit::Predictable, "{}", path.display());
            println!("{}: {} bytes", path.display(), recipe.len());
            fs::write(path.with_extension("recipe"), recipe)?;
        }
    }
    Ok(())
}
