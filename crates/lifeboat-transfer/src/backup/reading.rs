//! Turns what the walk met into an entry: content, attributes, link target.

use super::content::{ContentWriter, Failure, Stored};
use super::hint::Earlier;
use crate::source::file::{Status, open_file, read_xattrs, read_xattrs_at};
use crate::source::walk::{Met, Problem};
use lifeboat_format::limits::XATTR_INLINE_BYTES_MAX;
use lifeboat_format::{Content, Entry, LinkGroup, Node, TreePath, Xattr, XattrValue};
use rustix::fd::AsFd;
use rustix::fs::FileType;
use rustix::io::Errno;

/// How often a file is read again when it changes meanwhile.
pub(super) const ATTEMPTS: u32 = 3;

/// Attribute values of one entry that are kept in its tree node; what exceeds it becomes chunks.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// Why an entry could not be made.
pub(crate) enum Unread {
    /// The source's fault: report it and go on.
    Problem(Problem),
    /// The repository's fault: give up.
    Repository(lifeboat_repo::Error),
}

impl From<lifeboat_repo::Error> for Unread {
    fn from(error: lifeboat_repo::Error) -> Self {
        Self::Repository(error)
    }
}

/// Reads one entry; whether its content waits for [`ContentWriter::redeem`] is the second value.
pub(crate) fn read_entry<B>(
    writer: &mut ContentWriter<'_, B>,
    met: &Met,
    link: Option<LinkGroup>,
    earlier: Option<&Earlier>,
    attempts: u32,
) -> Result<(Entry, bool), Unread> {
    if met.status.kind == FileType::RegularFile {
        return read_file(writer, met, link, earlier, attempts);
    }
    let problem = |doing| move |errno| Unread::Problem(Problem::new(&met.path, doing, errno));
    let (major, minor) = met.status.special;
    let node = match met.status.kind {
        FileType::Directory => Node::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&met.directory.0, &met.name, Vec::new());
            Node::Symlink { target: target.map_err(problem("its target cannot be read"))?.into_bytes() }
        }
        FileType::Fifo => Node::Fifo,
        FileType::Socket => Node::Socket,
        FileType::CharacterDevice => Node::CharDevice { major, minor },
        FileType::BlockDevice => Node::BlockDevice { major, minor },
        _ => return Err(problem("is of no kind that can be stored")(Errno::NOTSUP)),
    };
    let xattrs = match &met.own {
        Some(own) => read_xattrs(own.0.as_fd()),
        None => read_xattrs_at(&met.directory, &met.name),
    }
    .map_err(|errno| match errno {
        // Links and special files are reached through /proc: without it they seem to be gone, and are not.
        Errno::NOENT if Status::of(&met.directory.0, &met.name).is_ok() => {
            let error = std::io::Error::other("/proc is not mounted");
            let doing = "its extended attributes cannot be read";
            Unread::Problem(Problem { path: met.path.clone(), doing, error, vanished: false })
        }
        errno => problem("its extended attributes cannot be read")(errno),
    })?;
    let mut metadata = met.status.metadata();
    metadata.xattrs = store_xattrs(writer, xattrs)?;
    Ok((Entry { node, metadata, link, torn: false }, false))
}

/// Reads a regular file; one that changes while it is read is read again, and at last stored as it came.
fn read_file<B>(
    writer: &mut ContentWriter<'_, B>,
    met: &Met,
    link: Option<LinkGroup>,
    earlier: Option<&Earlier>,
    attempts: u32,
) -> Result<(Entry, bool), Unread> {
    let problem = |doing, errno| Unread::Problem(Problem::new(&met.path, doing, errno));
    let mut before = met.status;
    let mut attempt = 1;
    loop {
        let file =
            open_file(&met.directory, &met.name).map_err(|errno| problem("cannot be opened", errno))?;
        let may_have_holes = before.blocks.saturating_mul(512) < before.size;
        let stored = writer.file(&file, before.size, may_have_holes, earlier);
        let Stored { content, bytes, is_waiting } = stored.map_err(|failure| unread(&met.path, failure))?;
        let after = Status::of_open(&file).map_err(|errno| problem("cannot be looked at", errno))?;
        if after.kind != FileType::RegularFile {
            return Err(problem("became something else while it was read", Errno::NOENT));
        }
        let is_whole = after.is_same_moment(&before) && bytes == after.size;
        if is_whole || attempt == attempts {
            let xattrs = read_xattrs(file.as_fd());
            let xattrs = xattrs.map_err(|errno| problem("its extended attributes cannot be read", errno))?;
            let mut metadata = after.metadata();
            metadata.xattrs = store_xattrs(writer, xattrs)?;
            let node = Node::File { size: bytes, content };
            return Ok((Entry { node, metadata, link, torn: !is_whole }, is_waiting));
        }
        writer.uncount();
        before = after;
        attempt += 1;
    }
}

fn unread(path: &TreePath, failure: Failure) -> Unread {
    match failure {
        Failure::File(error) => {
            Unread::Problem(Problem { path: path.clone(), doing: "cannot be read", error, vanished: false })
        }
        Failure::Repository(error) => Unread::Repository(error),
    }
}

pub(super) fn store_xattrs<B>(
    writer: &mut ContentWriter<'_, B>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
) -> lifeboat_repo::Result<Vec<Xattr>> {
    // Many short values would make an entry that no node can hold.
    let mut inline_left = INLINE_BYTES_MAX;
    xattrs
        .into_iter()
        .map(|(name, value)| {
            let is_short = value.len() <= XATTR_INLINE_BYTES_MAX as usize && value.len() <= inline_left;
            inline_left -= if is_short { value.len() } else { 0 };
            let value = match is_short {
                true => XattrValue::Inline(value),
                false => writer.xattr(&value)?,
            };
            Ok(Xattr { name, value })
        })
        .collect()
}

/// Whether overlayfs keeps an attribute for itself. It names inodes of this disk and must not come back on another; that a
/// directory is opaque is part of the layer.
pub(crate) fn is_of_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") && name != b"trusted.overlay.opaque"
}

/// An entry for a stream: a single regular file at the source's root.
pub(crate) fn stream_entry(content: Content, size: u64, metadata: lifeboat_format::Metadata) -> Entry {
    Entry { node: Node::File { size, content }, metadata, link: None, torn: false }
}
