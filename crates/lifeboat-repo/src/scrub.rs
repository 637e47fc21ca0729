//! Verifies all stored bytes of all objects without any key: for the machine that holds them, or whoever pays for it.
//!
//! Must stay true: nothing is opened and nothing changed. Packs and index objects are named after their bytes, all others
//! end with a checksum, so that this finds every changed, cut off or exchanged object; what is missing altogether only
//! `check` can tell. Memory is [`PIECE_BYTES`] a thread, and one object of those that are small.
//! `docs/format/README.md#objects`

use crate::check::Finding;
use crate::error::{Error, Result};
use lifeboat_format::object::{HEADER_BYTES, strip_header, unframe};
use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{ErrorKind, Listed, Store};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a pack that are read at once.
const PIECE_BYTES: usize = 1 << 20;
/// Things that are named; what is beyond is counted.
const FINDINGS_MAX: usize = 10_000;

/// What scrubbing found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Objects whose bytes are not those that were stored, in the order of kinds and names; at most ten thousand, and one
    /// that counts the others.
    pub findings: Vec<Finding>,
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Progress of scrubbing, for a display.
#[derive(Debug, Default)]
pub struct Progress {
    /// Objects to read.
    pub objects_total: AtomicU64,
    /// Objects read.
    pub objects_done: AtomicU64,
    /// Bytes read.
    pub bytes_done: AtomicU64,
    /// Set to stop.
    pub interrupted: Arc<AtomicBool>,
}

/// Reads every object of `store`.
pub fn scrub(store: &dyn Store, progress: &Progress) -> Result<Scrubbed> {
    let mut objects = Vec::new();
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Config) {
        let listed = store.list(kind).map_err(Error::store("the repository cannot be listed"))?;
        objects.extend(listed);
    }
    let config = ObjectKey::config();
    let bytes = store.bytes(&config).map_err(Error::store("the config cannot be found"))?;
    objects.push(Listed { key: config, bytes });
    objects.sort_by(|one, other| one.key.cmp(&other.key));
    progress.objects_total.store(objects.len() as u64, Ordering::Relaxed);
    let (next, findings) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let first_error = Mutex::new(None);
    let work = || {
        while let Some(listed) = objects.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            if progress.interrupted.load(Ordering::Relaxed) {
                return;
            }
            match read(store, listed, progress) {
                Ok(()) => {}
                Err(Wrong::Bytes(detail)) => lock(&findings).push((listed.key.clone(), detail)),
                Err(Wrong::Store(error)) => drop(lock(&first_error).get_or_insert(error)),
            }
            progress.objects_done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if progress.interrupted.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Scrubbed {
        findings: named(findings),
        objects: objects.len() as u64,
        bytes: progress.bytes_done.load(Ordering::Relaxed),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(mut found: Vec<(ObjectKey, String)>) -> Vec<Finding> {
    found.sort();
    let further = found.len().saturating_sub(FINDINGS_MAX);
    found.truncate(FINDINGS_MAX);
    let finding =
        |what: String, detail: String| Finding { what, detail, snapshots: Vec::new(), files: Vec::new() };
    let mut findings: Vec<Finding> =
        found.into_iter().map(|(key, detail)| finding(key.to_string(), detail)).collect();
    if further > 0 {
        findings
            .push(finding("more".into(), format!("{further} further objects are not as they were stored")));
    }
    findings
}

/// What is wrong with an object, or with reading it.
enum Wrong {
    Bytes(String),
    Store(Error),
}

fn read(store: &dyn Store, listed: &Listed, progress: &Progress) -> Result<(), Wrong> {
    let (key, kind) = (&listed.key, listed.key.kind());
    let result = if kind == ObjectKind::Pack {
        read_pack(store, listed, progress)
    } else {
        read_small(store, key, progress)
    };
    match result {
        // Collected, or put away by its session, since the listing.
        Err(Wrong::Store(Error::Store { source, .. })) if source.kind() == ErrorKind::NotFound => Ok(()),
        Err(Wrong::Store(error)) if error.kind() == crate::ErrorKind::Damaged => Err(Wrong::Bytes(format!(
            "{error}: {}",
            std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
        ))),
        result => result,
    }
}

fn read_small(store: &dyn Store, key: &ObjectKey, progress: &Progress) -> Result<(), Wrong> {
    let bytes =
        store.get(key).map_err(Error::store(format!("{key} cannot be read"))).map_err(Wrong::Store)?;
    progress.bytes_done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    unframe(key.kind(), &bytes).map_err(|error| Wrong::Bytes(error.to_string()))?;
    if key.kind() == ObjectKind::Index && blake3::hash(&bytes).as_bytes() != key.name() {
        return Err(other_name());
    }
    Ok(())
}

fn read_pack(store: &dyn Store, listed: &Listed, progress: &Progress) -> Result<(), Wrong> {
    let key = &listed.key;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut position) = (vec![0; PIECE_BYTES.min(listed.bytes as usize)], 0);
    while position < listed.bytes {
        let piece = (listed.bytes - position).min(PIECE_BYTES as u64) as usize;
        let piece = &mut buffer[..piece];
        store
            .get_range(key, position, piece)
            .map_err(Error::store(format!("{key} cannot be read")))
            .map_err(Wrong::Store)?;
        if position == 0 {
            let header = &piece[..piece.len().min(HEADER_BYTES)];
            strip_header(ObjectKind::Pack, header).map_err(|error| Wrong::Bytes(error.to_string()))?;
        }
        hasher.update(piece);
        position += piece.len() as u64;
        progress.bytes_done.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    if hasher.finalize().as_bytes() == key.name() { Ok(()) } else { Err(other_name()) }
}

fn other_name() -> Wrong {
    Wrong::Bytes("its bytes are not those it was named after".into())
}
