//! Makes a repository with small chunks and data to fill it: `cargo run --release -p lifeboat --example many_chunks --
//! REPOSITORY KEY-FILE DATA-FOLDER 10` gives an empty repository that cuts every 320 bytes, a key file for it, and enough
//! incompressible data for ten million chunks (3.2 GB).
//!
//! The `lifeboat` command then shows what memory a large repository takes: `lifeboat -r REPOSITORY --key-file KEY-FILE
//! snapshot DATA-FOLDER`, again with nothing changed, `restore`, `check` and `check --read-data`, each below
//! `/usr/bin/time -v`.

use lifeboat::format::Timestamp;
use lifeboat::format::config::{CutParameters, Parameters};
use lifeboat::{Repository, Secret};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Least length, and one cut in so many positions behind it.
const CUT: CutParameters = CutParameters { bytes_min: 64, bytes_mask: 256, bytes_max: 1024 };
const CHUNK_BYTES_MEAN: u64 = 320;
const FILE_BYTES: u64 = 64 << 20;

/// Bytes that no codec shrinks and no chunk repeats (xorshift).
fn write_noise(path: &Path, seed: u64, bytes: u64) -> std::io::Result<()> {
    let mut output = BufWriter::new(std::fs::File::create(path)?);
    let mut word = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..bytes / 8 {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        output.write_all(&word.to_le_bytes())?;
    }
    output.flush()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [repository, key_file, data, millions] = &arguments[..] else {
        return Err("arguments: REPOSITORY KEY-FILE DATA-FOLDER MILLIONS-OF-CHUNKS".into());
    };
    let chunks = millions.parse::<u64>()? * 1_000_000;
    let key = lifeboat::write_key_file(Path::new(key_file))?;
    let store = lifeboat::store::LocalStore::create(repository)?;
    let parameters = Parameters { cut: CUT, ..Parameters::default() };
    Repository::init(
        Arc::new(store),
        parameters,
        &Secret::KeyFile(&key),
        "many chunks",
        Timestamp::default(),
    )?;
    std::fs::create_dir_all(data)?;
    let files = (chunks * CHUNK_BYTES_MEAN).div_ceil(FILE_BYTES);
    for file in 0..files {
        write_noise(&Path::new(data).join(format!("{file:04}")), file, FILE_BYTES)?;
    }
    println!("{files} files of {} MiB", FILE_BYTES >> 20);
    Ok(())
}
