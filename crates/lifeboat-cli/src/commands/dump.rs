//! `dump`.

use super::select::select;
use crate::access;
use crate::args::Global;
use crate::failure::{DONE, Hinted};
use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use lifeboat::format::Node;
use lifeboat::repo::reader::ChunkReader;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};

/// Writes a file or a tar archive to standard output.
pub(crate) fn run(global: &Global, _: &Ui, argument: &OsStr, tar: bool) -> Result<u8> {
    let repository = access::open(global)?;
    let selected = select(&repository, argument)?;
    let sources = selected.sources()?;
    let [(source, base)] = &sources[..] else {
        bail!("the snapshot has several sources: say which path of it to dump");
    };
    let reader = ChunkReader::new(&repository);
    let mut output = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let mut entries = lifeboat::snapshot_source::entries_below(&reader, source.root, base)?;
    if tar {
        lifeboat::dump::tar(entries, base, &reader, &mut output).context("the archive cannot be written")?;
    } else {
        let Some(first) = entries.next() else {
            bail!("the snapshot has nothing at that path");
        };
        let (_, entry) = first.map_err(anyhow::Error::from_boxed)?;
        if entry.is_directory() {
            bail!(Hinted::new(
                "that is a directory",
                format!("lifeboat dump --tar {} | tar -x", argument.to_string_lossy())
            ));
        }
        if !matches!(entry.node, Node::File { .. }) {
            bail!(Hinted::new(
                "that is no regular file",
                format!("lifeboat dump --tar {} | tar -x", argument.to_string_lossy())
            ));
        }
        lifeboat::dump::file(&entry, &reader, &mut output).context("the file cannot be written")?;
    }
    output.flush().context("standard output cannot be written")?;
    Ok(DONE)
}
