//! One file as the kernel shows it: its status, its attributes, its holes.

use lifeboat_format::limits::{NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use lifeboat_format::{Metadata, Timestamp};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// An open directory.
#[derive(Debug)]
pub struct Directory(pub OwnedFd);

/// What `statx` says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Kind of file.
    pub kind: FileType,
    /// Permissions: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Names of this inode.
    pub links: u32,
    /// Inode number.
    pub inode: u64,
    /// File system: major, minor.
    pub device: (u32, u32),
    /// The device that a device file stands for.
    pub special: (u32, u32),
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

impl Status {
    fn new(found: &Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanos: time.tv_nsec };
        Self {
            kind: FileType::from_raw_mode(found.stx_mode.into()),
            mode: found.stx_mode & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size: found.stx_size,
            blocks: found.stx_blocks,
            links: found.stx_nlink,
            inode: found.stx_ino,
            device: (found.stx_dev_major, found.stx_dev_minor),
            special: (found.stx_rdev_major, found.stx_rdev_minor),
            mtime: time(found.stx_mtime),
            ctime: time(found.stx_ctime),
        }
    }

    /// The status of `name` in `directory`; a symbolic link is not followed.
    pub fn of(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS).map(|found| Self::new(&found))
    }

    /// The status of an open file.
    pub fn of_open(file: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map(|found| Self::new(&found))
    }

    /// The status of a regular file that exists in memory only.
    pub fn of_memory(metadata: &Metadata, size: u64) -> Self {
        Self {
            kind: FileType::RegularFile,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            size,
            blocks: size.div_ceil(512),
            links: 1,
            inode: metadata.inode,
            device: (0, 0),
            special: (0, 0),
            mtime: metadata.mtime,
            ctime: metadata.ctime,
        }
    }

    /// Whether nothing happened to the file between two looks at it.
    pub fn is_same_moment(&self, other: &Self) -> bool {
        (self.size, self.mtime, self.ctime, self.inode, self.device)
            == (other.size, other.mtime, other.ctime, other.inode, other.device)
    }

    /// Without extended attributes.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            xattrs: Vec::new(),
        }
    }
}

/// Opens a regular file for reading, without waiting and without following a link.
pub fn open_file(directory: &Directory, name: &CStr) -> rustix::io::Result<OwnedFd> {
    // NONBLOCK: a FIFO that took the file's place since the walk must not hang the backup.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(&directory.0, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may read without leaving a trace.
        Err(Errno::PERM) => rustix::fs::openat(&directory.0, name, flags, Mode::empty()),
        result => result,
    }
}

/// Opens a directory below another, without following a link.
pub fn open_directory(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Arc<Directory>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(|file| Arc::new(Directory(file)))
}

/// Extended attributes by name, sorted; where the file system has none, an empty list.
///
/// # Errors
/// When they exist and cannot be read: a file without its ACL is not what was protected.
pub fn read_xattrs(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    collect_xattrs(
        |buffer| rustix::fs::flistxattr(file, buffer),
        |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
    )
}

/// The same for a file that cannot be opened: a symbolic link or special file.
pub fn read_xattrs_at(directory: &Directory, name: &CStr) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}/", directory.0.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    collect_xattrs(
        |buffer| rustix::fs::llistxattr(&*path, buffer),
        |name, buffer| rustix::fs::lgetxattr(&*path, name, buffer),
    )
}

fn collect_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // Most files have none, which costs one call.
    let mut names = vec![0; 256];
    let length = loop {
        match list(&mut names) {
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < (1 << 20) => names.resize(names.len() * 16, 0),
            Err(error) => return Err(error),
        }
    };
    let mut xattrs = Vec::new();
    let mut value = vec![0; XATTR_VALUE_BYTES_MAX as usize];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().len() > NAME_BYTES_MAX || name.to_bytes().is_empty() {
            continue;
        }
        match get(name, &mut value) {
            Ok(length) => xattrs.push((name.to_bytes().to_vec(), value[..length].to_vec())),
            // Gone since the listing, or one of the kernel's own that this process may not see.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort();
    xattrs.dedup_by(|later, earlier| later.0 == earlier.0);
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_seen_as_a_link_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let path = CString::new(folder.path().as_os_str().as_encoded_bytes()).unwrap();
        let directory = open_directory(rustix::fs::CWD, &path).unwrap();
        assert_eq!(Status::of(&directory.0, c"link").unwrap().kind, FileType::Symlink);
        assert_eq!(open_file(&directory, c"link").unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn attributes_are_read_of_files_and_of_links() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("file")).unwrap();
        rustix::fs::fsetxattr(&file, c"user.b", &[1; 3000], rustix::fs::XattrFlags::empty()).unwrap();
        rustix::fs::fsetxattr(&file, c"user.a", b"", rustix::fs::XattrFlags::empty()).unwrap();
        let expected = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![1; 3000])];
        assert_eq!(read_xattrs(file.as_fd()).unwrap(), expected);
        let path = CString::new(folder.path().as_os_str().as_encoded_bytes()).unwrap();
        let directory = open_directory(rustix::fs::CWD, &path).unwrap();
        assert_eq!(read_xattrs_at(&directory, c"file").unwrap(), expected);
    }
}
