//! Extended attributes: those of the snapshot are set, others removed.
//!
//! Must stay true: labels that the system itself maintains are left alone unless the snapshot has them, and file
//! capabilities and ACLs never go to anything that we do not hold open.

use super::metadata::{Handle, link_to};
use super::report::ProblemKind;
use super::run::Run;
use crate::pieces::ChunkReader;
use lifeboat_format::entry::{Xattr, XattrValue};
use lifeboat_format::region::ChunkKind;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

/// The ACL that new files in a directory inherit.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";
/// The rights that a program gets without being setuid.
const CAPABILITY: &[u8] = b"security.capability";
/// Linux lists and holds no more than this.
const LIST_BYTES_MAX: usize = 64 << 10;

/// Sets the snapshot's attributes; where the file may have others (`clear`), removes those.
pub(super) fn apply(
    run: &Run<'_>,
    handle: Handle<'_>,
    kind: FileType,
    xattrs: &[Xattr],
    clear: bool,
    report: &dyn Fn(ProblemKind, String),
) {
    let trouble = |name: &[u8], error: &dyn std::fmt::Display| {
        report(ProblemKind::Xattr, format!("{}: {error}", name.escape_ascii()));
    };
    if clear {
        for name in names(handle).unwrap_or_default() {
            let is_wanted = xattrs.binary_search_by(|xattr| xattr.name.as_slice().cmp(&name)).is_ok();
            if !is_wanted && !is_maintained(&name) {
                match remove(handle, &name) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(error) => trouble(&name, &error),
                }
            }
        }
    }
    for xattr in xattrs {
        if !can_have(handle, kind, &xattr.name) {
            trouble(&xattr.name, &"this kind of file cannot have it");
            continue;
        }
        match value(run.reader, &xattr.value) {
            Ok(bytes) => {
                if let Err(error) = set(handle, &xattr.name, &bytes) {
                    trouble(&xattr.name, &error);
                }
            }
            Err(error) => trouble(&xattr.name, &error),
        }
    }
}

/// Whether an open file's attributes are exactly these, maintained labels aside.
pub(super) fn are_equal(reader: &dyn ChunkReader, handle: Handle<'_>, xattrs: &[Xattr]) -> bool {
    let Ok(mut found) = names(handle) else { return xattrs.is_empty() };
    found.retain(|name| {
        !is_maintained(name) || xattrs.binary_search_by(|xattr| xattr.name.as_slice().cmp(name)).is_ok()
    });
    found.sort_unstable();
    found.iter().eq(xattrs.iter().map(|xattr| &xattr.name))
        && xattrs.iter().all(|xattr| {
            get(handle, &xattr.name)
                .is_ok_and(|found| value(reader, &xattr.value).is_ok_and(|wanted| wanted == found))
        })
}

/// What the kernel would refuse anyway, if the name through which a link is reached always meant the link.
fn can_have(handle: Handle<'_>, kind: FileType, name: &[u8]) -> bool {
    let is_for_links = name.starts_with(b"trusted.") || name.starts_with(b"security.");
    (kind == FileType::RegularFile || name != CAPABILITY)
        && (is_for_links || !matches!(handle, Handle::Symlink(..)))
}

/// Labels of security modules, and views that a file system makes up; nobody can remove those.
fn is_maintained(name: &[u8]) -> bool {
    let is_label = [&b"selinux"[..], b"SMACK64", b"apparmor", b"ima", b"evm"]
        .iter()
        .any(|module| name.strip_prefix(b"security.").is_some_and(|rest| rest.starts_with(module)));
    let is_view = name.starts_with(b"system.") && !name.starts_with(b"system.posix_acl_");
    is_label || is_view
}

fn value(reader: &dyn ChunkReader, value: &XattrValue) -> Result<Vec<u8>, String> {
    match value {
        XattrValue::Inline(bytes) => Ok(bytes.clone()),
        XattrValue::Chunk(id, length) => {
            let mut bytes = Vec::new();
            reader.read_chunk(ChunkKind::Data, id, &mut bytes).map_err(|error| error.to_string())?;
            if bytes.len() as u64 == u64::from(*length) {
                Ok(bytes)
            } else {
                Err(format!("its value is {} bytes long instead of {length}", bytes.len()))
            }
        }
    }
}

/// The name through which a symbolic link's attributes are reached. Whoever swaps the link for another file in that
/// instant gets attributes on it, but neither a capability nor an ACL: see [`can_have`].
fn name_in(directory: impl std::os::fd::AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = link_to(directory).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

fn set(handle: Handle<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    let flags = XattrFlags::empty();
    match handle {
        Handle::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
        Handle::Special(fd) => rustix::fs::setxattr(link_to(fd), name, value, flags),
        Handle::Symlink(_, directory, link) => {
            rustix::fs::lsetxattr(name_in(directory, link), name, value, flags)
        }
    }
}

fn remove(handle: Handle<'_>, name: &[u8]) -> Result<(), Errno> {
    match handle {
        Handle::Open(fd) => rustix::fs::fremovexattr(fd, name),
        Handle::Special(fd) => rustix::fs::removexattr(link_to(fd), name),
        Handle::Symlink(_, directory, link) => rustix::fs::lremovexattr(name_in(directory, link), name),
    }
}

fn get(handle: Handle<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(LIST_BYTES_MAX);
    match handle {
        Handle::Open(fd) => rustix::fs::fgetxattr(fd, name, spare_capacity(&mut value))?,
        Handle::Special(fd) => rustix::fs::getxattr(link_to(fd), name, spare_capacity(&mut value))?,
        Handle::Symlink(_, directory, link) => {
            rustix::fs::lgetxattr(name_in(directory, link), name, spare_capacity(&mut value))?
        }
    };
    Ok(value)
}

fn names(handle: Handle<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list: Vec<u8> = Vec::with_capacity(LIST_BYTES_MAX);
    match handle {
        Handle::Open(fd) => rustix::fs::flistxattr(fd, spare_capacity(&mut list))?,
        Handle::Special(fd) => rustix::fs::listxattr(link_to(fd), spare_capacity(&mut list))?,
        Handle::Symlink(_, directory, link) => {
            rustix::fs::llistxattr(name_in(directory, link), spare_capacity(&mut list))?
        }
    };
    Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}
