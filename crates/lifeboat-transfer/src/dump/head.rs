//! What stands before a member's content in an archive: an extended header where it is needed, and the header.
//!
//! Must stay true: what [`crate::source::archive`] reads back is the member, but for holes: those are for who writes the
//! content.

use crate::source::archive::{Kind, Member};
use std::io::{Error, ErrorKind, Result};

/// The unit of a tar archive.
pub const BLOCK_BYTES: usize = 512;

/// How many zeros follow content of this length.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK_BYTES as u64) - size) as usize
}

/// The blocks before a member's content.
///
/// # Errors
/// Where the member has holes or a device number that no archive can hold.
pub fn head(member: &Member) -> Result<Vec<u8>> {
    if member.stretches.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, "archives are written without holes"));
    }
    let (kind, target): (_, &[u8]) = match &member.kind {
        Kind::File => (tar::EntryType::Regular, b""),
        Kind::Directory => (tar::EntryType::Directory, b""),
        Kind::Symlink(target) => (tar::EntryType::Symlink, target),
        Kind::HardLink(target) => (tar::EntryType::Link, target),
        Kind::Fifo => (tar::EntryType::Fifo, b""),
        Kind::CharDevice(..) => (tar::EntryType::Char, b""),
        Kind::BlockDevice(..) => (tar::EntryType::Block, b""),
    };
    let mut blocks = Vec::new();
    let records = records(member, target);
    if !records.is_empty() {
        let header = header(tar::EntryType::XHeader, b"pax", records.len() as u64);
        blocks.extend_from_slice(header.as_bytes());
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len() + padding(records.len() as u64), 0);
    }
    let mut header = header(kind, &member.name, member.size);
    header.set_mode(member.mode.into());
    header.set_uid(member.uid.into());
    header.set_gid(member.gid.into());
    header.set_mtime(u64::try_from(member.mtime.seconds).unwrap_or(0));
    if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = member.kind {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    put_truncated(&mut header.as_old_mut().linkname, target);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    Ok(blocks)
}

/// The blocks before a member of which nothing means anything but its name, its kind and its length.
pub fn plain_head(name: &str, kind: Kind, bytes: u64) -> Result<Vec<u8>> {
    head(&Member {
        name: name.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: lifeboat_format::Timestamp::default(),
        size: bytes,
        stored_bytes: bytes,
        stretches: None,
        xattrs: Vec::new(),
    })
}

/// What does not fit a header, for an extended one.
fn records(member: &Member, target: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if member.name.len() > 100 {
        put_record(&mut records, b"path", &member.name);
    }
    if target.len() > 100 {
        put_record(&mut records, b"linkpath", target);
    }
    if member.mtime.nanos > 0 || member.mtime.seconds < 0 {
        put_record(&mut records, b"mtime", pax_time(member.mtime).as_bytes());
    }
    for (word, id) in [("uid", member.uid), ("gid", member.gid)] {
        if id > 0o7_777_777 {
            put_record(&mut records, word.as_bytes(), id.to_string().as_bytes());
        }
    }
    if member.size > 0o77_777_777_777 {
        put_record(&mut records, b"size", member.size.to_string().as_bytes());
    }
    for (name, value) in &member.xattrs {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in name {
            // A key ends at the first `=`: GNU tar's way around it.
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                byte => key.push(*byte),
            }
        }
        put_record(&mut records, &key, value);
    }
    records
}

/// A header of which the rest is set later; a name that does not fit is in the extended header before it, which counts.
fn header(kind: tar::EntryType, name: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    put_truncated(&mut header.as_old_mut().name, name);
    header.set_cksum();
    header
}

fn put_truncated(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn put_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with a fraction; before 1970 both count backwards.
fn pax_time(time: lifeboat_format::Timestamp) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000)
}
