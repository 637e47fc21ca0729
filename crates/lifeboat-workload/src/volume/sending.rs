//! Entries of a snapshot into a volume that only the engine can write, and a look at what arrived.
//!
//! Must stay true: what the engine says about unpacking is not believed. The volume is read back, and every file, folder
//! and link in it is compared with the snapshot, content included, without holding more than one piece of a file. What
//! the engine's archive does not show (attributes, parts of seconds) cannot be compared, and sockets cannot be sent.

use super::Error;
use super::helper_container::HelperContainer;
use lifeboat_format::list::Piece;
use lifeboat_format::{Entry, LinkGroup, Node, TreePath};
use lifeboat_transfer::dump::TarStream;
use lifeboat_transfer::pieces::{ChunkReader, Pieces};
use lifeboat_transfer::restore::EntryResult;
use lifeboat_transfer::source::archive::{Kind, Member, Members};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::Read;

/// How many differences are described; all are counted.
pub(crate) const DESCRIBED_MAX: usize = 20;
/// How many folders of a layer that were not seen are named.
const UNSEEN_MAX: usize = 4096;

/// What a look at the volume found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Look {
    /// Entries that are as in the snapshot.
    pub equal: u64,
    /// Bytes of content that were compared.
    pub bytes: u64,
    /// Sockets: no archive can hold them.
    pub sockets: u64,
    /// Names that the snapshot does not have.
    pub more: u64,
    /// Entries that are missing or different.
    pub different: u64,
    /// The first of these, described.
    pub described: Vec<String>,
    /// Folders of a layer that its archive does not have: only their time differs from the image's, or they are missing.
    pub unseen: Vec<TreePath>,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A volume, of which the archive has everything.
    Volume,
    /// A writable layer. Its archive is made of several: links from one to another are files, and the engine's own files
    /// change the times of folders. What is deleted is no part of the comparison.
    Layer,
}

/// Which names are one file.
#[derive(Default)]
struct Links {
    firsts: HashMap<LinkGroup, TreePath>,
    groups: HashMap<TreePath, LinkGroup>,
}

impl Look {
    fn differs(&mut self, path: &TreePath, how: impl std::fmt::Display) {
        self.different += 1;
        if self.described.len() < DESCRIBED_MAX {
            let path = if path.is_root() { b".".to_vec() } else { path.to_slashes() };
            self.described.push(format!("{}: {how}", String::from_utf8_lossy(&path)));
        }
    }
}

/// Unpacks the entries at and below `base` into the volume that a helper mounts in place 0.
///
/// Where they cannot be read to their end, the archive is broken off and has no end mark.
pub fn send<'r>(
    container: &HelperContainer,
    entries: impl Iterator<Item = EntryResult> + 'r,
    base: &TreePath,
    reader: &'r dyn ChunkReader,
) -> Result<(), Error> {
    let volume = TreePath::from_slashes(HelperContainer::name_of(0).as_bytes()).map_err(Error::Name)?;
    let base = base.clone();
    let named = entries.filter_map(move |entry| match entry {
        Ok((path, entry)) => {
            let named = placed(&path, &entry, &base)?.and_then(|place| volume.append(&place));
            Some(named.map(|path| (path, entry)).map_err(Into::into))
        }
        Err(error) => Some(Err(error)),
    });
    container.unpack_volumes(TarStream::new(named, &TreePath::root(), reader))
}

/// Where an entry goes in the volume; `None` where it is not below `base`. A file that is `base` itself keeps its name.
fn placed(path: &TreePath, entry: &Entry, base: &TreePath) -> Option<lifeboat_format::Result<TreePath>> {
    let inner = path.strip(base)?;
    match path.name().filter(|_| inner.is_root() && !entry.is_directory()) {
        Some(name) => Some(TreePath::root().join(name)),
        None => Some(Ok(inner)),
    }
}

/// Compares an archive of a volume with the entries at and below `base`.
///
/// # Errors
/// Where either of them cannot be read to its end.
pub fn look(
    archive: impl Read,
    entries: &mut dyn Iterator<Item = EntryResult>,
    base: &TreePath,
    reader: &dyn ChunkReader,
) -> Result<Look, Error> {
    compare_all(archive, entries, base, reader, Of::Volume)
}

/// Compares an archive of a writable layer with its entries, `layer` and what is below it.
///
/// # Errors
/// Where either of them cannot be read to its end.
pub fn look_at_layer(
    archive: impl Read,
    entries: &mut dyn Iterator<Item = EntryResult>,
    reader: &dyn ChunkReader,
) -> Result<Look, Error> {
    compare_all(archive, entries, &TreePath::root(), reader, Of::Layer)
}

fn compare_all(
    archive: impl Read,
    entries: &mut dyn Iterator<Item = EntryResult>,
    base: &TreePath,
    reader: &dyn ChunkReader,
    of: Of,
) -> Result<Look, Error> {
    let mut members = Members::new(archive);
    let mut look = Look::default();
    let mut links = Links::default();
    let mut entries = entries.filter_map(|entry| match entry {
        Ok((path, entry)) => {
            Some(placed(&path, &entry, base)?.map(|place| (place, entry)).map_err(Error::Name))
        }
        Err(error) => Some(Err(Error::Content(error))),
    });
    let mut expected = entries.next().transpose()?;
    let mut actual = next(&mut members)?;
    loop {
        let order = match (&expected, &actual) {
            (None, None) => return Ok(look),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((path, _)), Some((found, _))) => path.cmp(found),
        };
        if order != Ordering::Greater
            && let Some((path, entry)) = expected.take()
        {
            match (&entry.node, order, &actual) {
                (Node::Socket, ..) => look.sockets += 1,
                (_, Ordering::Equal, Some((_, member))) => {
                    compare(&mut look, &path, &entry, (member, of), &mut members, reader, &mut links)?;
                }
                (Node::Directory, ..) if of == Of::Layer && look.unseen.len() < UNSEEN_MAX => {
                    look.unseen.push(path)
                }
                _ => look.differs(&path, "is missing"),
            }
            expected = entries.next().transpose()?;
        }
        if order != Ordering::Less {
            look.more += u64::from(order == Ordering::Greater);
            actual = next(&mut members)?;
        }
    }
}

fn next<R: Read>(members: &mut Members<R>) -> Result<Option<(TreePath, Member)>, Error> {
    let Some(member) = members.next_member().map_err(Error::Unsound)? else { return Ok(None) };
    Ok(Some((path_of(&member.name)?, member)))
}

/// The path of a member: `./a/b/` is `a/b`.
fn path_of(name: &[u8]) -> Result<TreePath, Error> {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let name = if name == b"." { b"" } else { name };
    TreePath::from_slashes(name).map_err(Error::Name)
}

fn compare<R: Read>(
    look: &mut Look,
    path: &TreePath,
    entry: &Entry,
    (member, of): (&Member, Of),
    members: &mut Members<R>,
    reader: &dyn ChunkReader,
    links: &mut Links,
) -> Result<(), Error> {
    let first = entry.link.map(|group| {
        if of == Of::Layer {
            links.groups.insert(path.clone(), group);
        }
        links.firsts.entry(group).or_insert_with(|| path.clone()).clone()
    });
    let earlier = match (of, &member.kind) {
        (Of::Volume, _) => first,
        (Of::Layer, Kind::HardLink(target)) => {
            // Another name of the same file is as good as the first.
            let target = path_of(target)?;
            let is_one = entry.link.is_some() && links.groups.get(&target) == entry.link.as_ref();
            is_one.then_some(target).or(first)
        }
        (Of::Layer, _) => None,
    };
    if let Some(how) = difference(entry, member, earlier.as_ref().filter(|earlier| *earlier != path), of) {
        look.differs(path, how);
        return Ok(());
    }
    if let (Node::File { content, size }, Kind::File) = (&entry.node, &member.kind) {
        let mut pieces = Pieces::new(reader, content, *size);
        if !is_content(&mut pieces, members, reader)? {
            look.differs(path, "has other content");
            return Ok(());
        }
        look.bytes += size;
    }
    look.equal += 1;
    Ok(())
}

/// How a member differs from an entry, but for its content. `earlier` is the name that it has to be a link to.
fn difference(entry: &Entry, member: &Member, earlier: Option<&TreePath>, of: Of) -> Option<String> {
    let metadata = &entry.metadata;
    let kinds = match (&entry.node, &member.kind) {
        (_, Kind::HardLink(target)) => {
            let is_it = earlier.is_some_and(|earlier| path_of(target).is_ok_and(|target| target == *earlier));
            return (!is_it).then(|| format!("is a link to {}", String::from_utf8_lossy(target)));
        }
        _ if earlier.is_some() => return Some("is no link any more".into()),
        (Node::File { size, .. }, Kind::File) if *size != member.size => {
            return Some(format!("has {} bytes instead of {size}", member.size));
        }
        (Node::Symlink { target }, Kind::Symlink(found)) => target == found,
        (Node::CharDevice { major, minor }, Kind::CharDevice(a, b))
        | (Node::BlockDevice { major, minor }, Kind::BlockDevice(a, b)) => (major, minor) == (a, b),
        (Node::File { .. }, Kind::File) | (Node::Directory, Kind::Directory) | (Node::Fifo, Kind::Fifo) => {
            true
        }
        _ => false,
    };
    if !kinds {
        return Some("is something else".into());
    }
    if (metadata.uid, metadata.gid) != (member.uid, member.gid) {
        return Some(format!(
            "belongs to {}:{} instead of {}:{}",
            member.uid, member.gid, metadata.uid, metadata.gid
        ));
    }
    // Links have no permissions, and engines do not set their times alike.
    let is_link = matches!(entry.node, Node::Symlink { .. });
    if !is_link && metadata.mode & 0o7777 != member.mode & 0o7777 {
        return Some(format!("has mode {:o} instead of {:o}", member.mode, metadata.mode));
    }
    let has_time = !is_link && (of == Of::Volume || entry.node != Node::Directory);
    (has_time && metadata.mtime.seconds != member.mtime.seconds).then(|| "has another time".to_owned())
}

/// Whether what comes now are the bytes of these pieces.
fn is_content<R: Read>(
    pieces: &mut Pieces<'_>,
    members: &mut Members<R>,
    reader: &dyn ChunkReader,
) -> Result<bool, Error> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let piece = piece.map_err(|error| Error::Content(Box::new(error)))?;
        let is_equal = match piece {
            Piece::Chunk(id, length) => {
                bytes.resize(length as usize, 0);
                members.read_exact(&mut bytes).map_err(Error::Pipe)?;
                reader.is_chunk(&id, &bytes)
            }
            Piece::Hole(length) | Piece::Zeros(length) => are_zeros(members, length)?,
        };
        if !is_equal {
            return Ok(false);
        }
    }
    Ok(true)
}

fn are_zeros<R: Read>(members: &mut Members<R>, mut length: u64) -> Result<bool, Error> {
    let mut buffer = [0; 8192];
    while length > 0 {
        let part = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        members.read_exact(&mut buffer[..part]).map_err(Error::Pipe)?;
        if buffer[..part].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        length -= part as u64;
    }
    Ok(true)
}
