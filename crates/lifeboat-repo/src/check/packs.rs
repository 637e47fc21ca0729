//! Checks one pack after the other: its length, its directory and, on demand, every byte.

use super::damage::Loss;
use super::depth::{Chosen, Depth};
use crate::error::{Error, Result};
use crate::reader::ChunkReader;
use crate::repository::Repository;
use lifeboat_format::index::IndexedPack;
use lifeboat_format::pack::{TRAILER_BYTES, Trailer};
use lifeboat_format::region::{RegionOpener, verify_chunks};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Checks packs, with buffers that it keeps.
pub(super) struct PackChecker<'r> {
    repository: &'r Repository,
    reader: &'r ChunkReader,
    chosen: Chosen,
    bytes_read: &'r AtomicU64,
    opener: RegionOpener,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl<'r> PackChecker<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        reader: &'r ChunkReader,
        chosen: Chosen,
        bytes_read: &'r AtomicU64,
    ) -> Self {
        let opener = RegionOpener::new(repository.id());
        Self { repository, reader, chosen, bytes_read, opener, stored: Vec::new(), plain: Vec::new() }
    }

    /// What is wrong with a pack, and what cannot be read because of it.
    pub(super) fn check(&mut self, pack: &IndexedPack, stored_bytes: Option<u64>) -> Vec<(Error, Loss)> {
        let whole = |error| vec![(error, Loss::Pack)];
        match stored_bytes {
            None => return whole(Error::MissingPack(pack.name)),
            Some(bytes) if bytes != u64::from(pack.bytes) => {
                let detail = format!("{bytes} bytes instead of {}", pack.bytes);
                return whole(Error::Damaged { what: format!("pack {}", pack.name), detail });
            }
            Some(_) => {}
        }
        match self.chosen.of(&pack.name) {
            Depth::Structure | Depth::Part(_) => {
                self.directory(pack).err().map(|error| vec![(error, Loss::Nothing)]).unwrap_or_default()
            }
            Depth::Data => self.regions(pack),
        }
    }

    fn read(&self, pack: &IndexedPack, offset: u64, length: usize) -> Result<Vec<u8>> {
        let key = ObjectKey::new(ObjectKind::Pack, &pack.name.0);
        let mut buffer = vec![0; length];
        self.repository
            .store()
            .get_range(&key, offset, &mut buffer)
            .map_err(Error::store(format!("{key} cannot be read")))?;
        self.bytes_read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(buffer)
    }

    /// Compares the pack's own directory with what the index says.
    fn directory(&self, pack: &IndexedPack) -> Result<()> {
        let pack_bytes = u64::from(pack.bytes);
        let damaged = || Error::format(format!("pack {} has no sound directory", pack.name));
        let tail = self.read(pack, pack_bytes - TRAILER_BYTES as u64, TRAILER_BYTES)?;
        let trailer = Trailer::decode(&tail, pack_bytes).map_err(damaged())?;
        let length = trailer.directory_bytes as usize;
        let sealed = self.read(pack, pack_bytes - (TRAILER_BYTES + length) as u64, length)?;
        let directory = trailer.open(self.repository.keys(), &sealed, pack_bytes).map_err(damaged())?;
        if directory == pack.directory {
            Ok(())
        } else {
            let detail = "its directory is not the one that the index names".into();
            Err(Error::Damaged { what: format!("pack {}", pack.name), detail })
        }
    }

    /// Reads the whole pack: its name, its directory, every region and every chunk id.
    fn regions(&mut self, pack: &IndexedPack) -> Vec<(Error, Loss)> {
        let mut wrong = Vec::new();
        if let Err(error) = self.directory(pack) {
            wrong.push((error, Loss::Nothing));
        }
        let mut hasher = blake3::Hasher::new();
        let mut position = 0;
        let mut ids = &pack.ids[..];
        for ((region, offset), number) in
            pack.directory.regions.iter().zip(pack.directory.offsets()).zip(0u16..)
        {
            let (region_ids, rest) = ids.split_at(region.chunk_bytes.len());
            ids = rest;
            // The header lies between the pack's beginning and its first region.
            let length = (offset - position) as usize + region.head.stored_bytes as usize;
            let skip = (offset - position) as usize;
            let result = self.read(pack, u64::from(position), length).and_then(|bytes| {
                hasher.update(&bytes);
                self.stored.clear();
                self.stored.extend_from_slice(&bytes[skip..]);
                let session =
                    self.reader.session_key(&pack.directory.envelopes[usize::from(region.head.envelope)])?;
                let keys = self.repository.keys();
                self.opener
                    .open(&region.head, &session, &mut self.stored, &mut self.plain)
                    .and_then(|()| verify_chunks(keys, region, region_ids, &self.plain))
                    .map_err(Error::format(format!("pack {} is damaged at byte {offset}", pack.name)))
            });
            position = offset + region.head.stored_bytes;
            if let Err(error) = result {
                wrong.push((error, Loss::Region(number)));
            }
        }
        let rest = self.read(pack, u64::from(position), (pack.bytes - position) as usize);
        match rest {
            Ok(bytes) => drop(hasher.update(&bytes)),
            Err(error) => wrong.push((error, Loss::Nothing)),
        }
        if wrong.is_empty() && hasher.finalize().as_bytes() != &pack.name.0 {
            let detail = "its bytes are not those it was named after".into();
            wrong.push((Error::Damaged { what: format!("pack {}", pack.name), detail }, Loss::Nothing));
        }
        wrong
    }
}
