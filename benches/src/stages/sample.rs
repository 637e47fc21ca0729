//! Real data for the stages: files of the kernel tree in the order of their paths, in memory.

use anyhow::{Result, ensure};
use lifeboat_format::config::Parameters;
use std::path::{Path, PathBuf};

/// Enough to leave the processor's caches behind, little enough to be read in a second.
const SAMPLE_BYTES: usize = 256 << 20;

/// Plaintext of a region.
pub(crate) fn region_bytes() -> usize {
    Parameters::default().region_bytes as usize
}

/// Files and their bytes, one behind the other.
pub(crate) struct Sample {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Sample {
    /// Reads whole files below `source` until there is enough. Folders are taken from everywhere in the tree: its
    /// beginning is documentation, which compresses better than sources.
    pub(crate) fn read(source: &Path) -> Result<Self> {
        let mut all = Vec::new();
        collect(source, &mut all)?;
        all.sort();
        let total: u64 = all.iter().map(|(_, bytes)| bytes).sum();
        let stride = (total / SAMPLE_BYTES as u64).max(1) as usize;
        // Runs of 64 files: neighbours share a region in a snapshot, too.
        let mut sample = Self { paths: Vec::new(), lengths: Vec::new(), bytes: Vec::new() };
        for run in all.chunks(64).step_by(stride) {
            for (path, _) in run {
                let bytes = std::fs::read(path)?;
                sample.paths.push(path.clone());
                sample.lengths.push(bytes.len());
                sample.bytes.extend_from_slice(&bytes);
            }
        }
        ensure!(sample.bytes.len() >= region_bytes(), "{} holds less than a region", source.display());
        Ok(sample)
    }

    /// The bytes in regions.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(region_bytes())
    }

    /// Each file's bytes.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |length| {
            let (file, after) = rest.split_at(*length);
            rest = after;
            file
        })
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} files of the kernel tree, {:.3} GB, in memory",
            self.paths.len(),
            self.bytes.len() as f64 / 1e9
        )
    }
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(())
}
