//! Taking in index objects: sorted on disk, written as tables, taken in as one change.
//!
//! Must stay true: every copy of a chunk in a live pack is either the chunk's entry or recorded as a duplicate. What is
//! on disk is therefore asked before an entry is written over, and equal ids inside a round meet in the sorting.

use crate::index::{BATCH_KEYS, Changing, Index, State};
use crate::record::{
    ChunkLocation, Entry, ObjectRecord, ObjectStage, PackNumber, PackRecord, RegionRecord, STATE,
    encode_envelope, envelope_key, live_key, name_key, object_key, pack_key, region_key,
};
use crate::sort::EntrySorter;
use crate::tables::{Scratch, Tables};
use crate::{Error, Result};
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::Envelope;
use lifeboat_format::object::HEADER_BYTES;
use lifeboat_format::{EnvelopeId, IndexName, PackName};
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl Index {
    /// Takes in index objects; those that are covered already are passed over.
    ///
    /// Apply what is new before retiring what is gone: a merged object must be in here before those that it replaces
    /// leave. After an error a part of the objects may have been applied; [`Self::covered`] tells which.
    ///
    /// # Cost
    /// Up to 48 MiB of memory besides the object in hand, and 46 bytes a chunk of temporary room beside the database.
    pub fn apply(&self, objects: &mut dyn Iterator<Item = (IndexName, IndexObject)>) -> Result<()> {
        let mut changing = self.begin_change()?;
        let mut round: Option<Round<'_>> = None;
        for (name, object) in objects {
            let mut current = match round.take() {
                Some(round) => round,
                None => Round::begin(self)?,
            };
            current.add(name, &object)?;
            drop(object);
            match current.is_full() {
                true => current.commit(&mut changing)?,
                false => round = Some(current),
            }
        }
        round.map_or(Ok(()), |round| round.commit(&mut changing))
    }
}

/// Objects that become part of the index together. A round ends behind the object that reaches a bound.
struct Round<'a> {
    index: &'a Index,
    before: State,
    state: State,
    tables: Tables<'a>,
    chunks: EntrySorter,
    objects: BTreeMap<IndexName, u32>,
    envelopes: BTreeMap<EnvelopeId, Envelope>,
    new_packs: HashMap<PackName, u32>,
    /// New packs, and older ones that are listed once more.
    packs: BTreeMap<u32, PackRecord>,
    // Dropped after everything that lies in it.
    scratch: Scratch,
}

impl<'a> Round<'a> {
    fn begin(index: &'a Index) -> Result<Self> {
        let scratch = Scratch::create_in(index.home.path())?;
        let before = index.state().clone();
        Ok(Self {
            index,
            state: before.clone(),
            before,
            tables: Tables::new(&index.top, &scratch),
            chunks: EntrySorter::new(scratch.path()),
            objects: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            new_packs: HashMap::new(),
            packs: BTreeMap::new(),
            scratch,
        })
    }

    fn is_full(&self) -> bool {
        let bounds = &self.index.bounds;
        let held = self.packs.len().max(self.objects.len()).max(self.envelopes.len());
        self.state.chunks - self.before.chunks >= bounds.chunks || held >= bounds.packs
    }

    fn add(&mut self, name: IndexName, object: &IndexObject) -> Result<()> {
        if self.objects.contains_key(&name) || self.is_covered(&name)? {
            return Ok(());
        }
        object.packs.iter().try_for_each(check)?;
        let number = self.state.next_object;
        self.state.next_object = self.next(number)?;
        self.objects.insert(name, number);
        let known = self.known_packs(object)?;
        for pack in &object.packs {
            let pack_number = match known.get(&pack.name).or_else(|| self.new_packs.get(&pack.name)) {
                // A name is the hash of a pack's bytes: what is listed again has the same chunks.
                Some(number) => *number,
                None => self.add_pack(pack)?,
            };
            let record = self.packs.get_mut(&pack_number);
            let listed_by = &mut record.expect("known packs were loaded, new ones just added").listed_by;
            if !listed_by.contains(&number) {
                listed_by.push(number);
            }
        }
        Ok(())
    }

    fn is_covered(&self, name: &IndexName) -> Result<bool> {
        let Some(bytes) = self.index.look_up(&object_key(name))? else { return Ok(false) };
        let record = ObjectRecord::decode(&bytes).map_err(|error| self.index.corrupt(error.to_string()))?;
        Ok(record.stage == ObjectStage::Covered)
    }

    /// Numbers are never used twice, so they may run out: then the cache is built anew.
    fn next(&self, number: u32) -> Result<u32> {
        number.checked_add(1).ok_or_else(|| self.index.corrupt("it has run out of numbers"))
    }

    /// The object's packs that are live on disk; their records are loaded.
    fn known_packs(&mut self, object: &IndexObject) -> Result<HashMap<PackName, u32>> {
        let mut known = HashMap::new();
        if self.before.live.count() == 0 {
            return Ok(known);
        }
        for packs in object.packs.chunks(BATCH_KEYS) {
            let keys: Vec<_> = packs.iter().map(|pack| name_key(&pack.name)).collect();
            for (pack, value) in packs.iter().zip(self.index.look_up_many(&keys)?) {
                let number = value.map(|value| self.index.decode_number(&value)).transpose()?;
                if let Some(number) = number.filter(|number| self.before.live.contains(*number)) {
                    known.insert(pack.name, number);
                }
            }
        }
        let missing: BTreeSet<u32> =
            known.values().copied().filter(|number| !self.packs.contains_key(number)).collect();
        self.packs.extend(self.index.pack_records(missing.into_iter().collect())?);
        Ok(known)
    }

    fn add_pack(&mut self, pack: &IndexedPack) -> Result<u32> {
        let number = self.state.next_pack;
        self.state.next_pack = self.next(number)?;
        self.state.live.insert(number);
        self.state.chunks += pack.ids.len() as u64;
        self.state.top_has_chunks = true;
        let directory = &pack.directory;
        let mut ids = pack.ids.iter();
        for ((region, offset), index) in directory.regions.iter().zip(directory.offsets()).zip(0u16..) {
            let envelope = directory.envelopes[usize::from(region.head.envelope)].id;
            let record = RegionRecord { offset, head: region.head, envelope };
            self.tables.put(&region_key(number, index), &record.encode())?;
            let mut offset = 0;
            for (length, id) in region.chunk_bytes.iter().zip(&mut ids) {
                let pack = PackNumber(number);
                let location = ChunkLocation { pack, region: index, offset, length: *length };
                self.chunks.push(Entry::new(id, &location))?;
                offset += length;
            }
        }
        for envelope in &directory.envelopes {
            self.envelopes.entry(envelope.id).or_insert_with(|| envelope.clone());
        }
        let record = PackRecord {
            name: pack.name,
            bytes: pack.bytes,
            regions: directory.regions.len() as u32,
            chunks: pack.ids.len() as u32,
            listed_by: Vec::new(),
        };
        self.packs.insert(number, record);
        self.new_packs.insert(pack.name, number);
        Ok(number)
    }

    fn commit(mut self, changing: &mut Changing) -> Result<()> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::replace(&mut self.chunks, EntrySorter::new(self.scratch.path()));
        self.write_chunks(chunks)?;
        let tables = &mut self.tables;
        for (id, envelope) in &self.envelopes {
            tables.put(&envelope_key(id), &encode_envelope(envelope))?;
        }
        for block in self.state.live.changed_blocks(&self.before.live) {
            tables.put(&live_key(block), &self.state.live.block(block))?;
        }
        tables.put(&[STATE], &self.state.record(self.index.repository).encode())?;
        let names: BTreeMap<&PackName, &u32> = self.new_packs.iter().collect();
        for (name, number) in names {
            tables.put(&name_key(name), &number.to_be_bytes())?;
        }
        for (name, number) in &self.objects {
            let record = ObjectRecord { number: *number, stage: ObjectStage::Covered };
            tables.put(&object_key(name), &record.encode())?;
        }
        for (number, record) in &self.packs {
            tables.put(&pack_key(*number), &record.encode())?;
        }
        self.index.commit(changing, self.tables.finish()?, self.state)
    }

    fn write_chunks(&mut self, chunks: EntrySorter) -> Result<()> {
        let mut placing = Placing { last: None, duplicates: EntrySorter::new(self.scratch.path()) };
        let mut batch = Vec::with_capacity(BATCH_KEYS);
        for entry in chunks.finish()? {
            batch.push(entry?);
            if batch.len() == BATCH_KEYS {
                self.place(&mut placing, &batch)?;
                batch.clear();
            }
        }
        self.place(&mut placing, &batch)?;
        for entry in placing.duplicates.finish()? {
            let entry = entry?;
            let (key, value) = entry.duplicate_record();
            self.tables.put(&key, value)?;
        }
        Ok(())
    }

    /// Writes ascending entries, or puts them aside where another live copy is the entry already.
    fn place(&mut self, placing: &mut Placing, batch: &[Entry]) -> Result<()> {
        let known = if self.before.live.count() > 0 {
            let ids: Vec<_> = batch.iter().map(Entry::id).collect();
            self.index.resolve(&self.before, &ids)?
        } else {
            vec![None; batch.len()]
        };
        for (entry, known) in batch.iter().zip(known) {
            let last = placing.last.replace(*entry).filter(|last| last.id() == entry.id());
            match (last, known) {
                // The same chunk twice in one pack: any of the two will do.
                (Some(last), _) if last.pack() == entry.pack() => {}
                (None, None) => {
                    let (key, value) = entry.chunk_record();
                    self.tables.put(&key, value)?;
                }
                _ => placing.duplicates.push(*entry)?,
            }
        }
        Ok(())
    }
}

struct Placing {
    last: Option<Entry>,
    duplicates: EntrySorter,
}

/// Decoders guarantee this; a caller who puts an object together might not.
fn check(pack: &IndexedPack) -> Result<()> {
    let directory = &pack.directory;
    let regions = &directory.regions;
    let chunks: usize = regions.iter().map(|region| region.chunk_bytes.len()).sum();
    let plain_bytes = |lengths: &[u32]| lengths.iter().map(|bytes| u64::from(*bytes)).sum::<u64>();
    let detail = if chunks != pack.ids.len() {
        "another number of chunks than of names"
    } else if regions.len() > usize::from(u16::MAX) {
        "too many regions"
    } else if directory.stored_bytes() + HEADER_BYTES as u64 > u64::from(u32::MAX) {
        "regions that are too long"
    } else if regions.iter().any(|region| plain_bytes(&region.chunk_bytes) > u64::from(u32::MAX)) {
        "chunks that are too long"
    } else if regions.iter().any(|region| usize::from(region.head.envelope) >= directory.envelopes.len()) {
        "a region whose envelope is missing"
    } else {
        return Ok(());
    };
    Err(Error::Inconsistent { pack: pack.name, detail })
}
