//! Following collection: index objects leave, and packs that nothing lists any more die with them.
//!
//! Must stay true: in the same change in which a pack dies, every chunk whose entry names it and that another live pack
//! holds gets that one as its entry. A look-up therefore never has to search for duplicates.

use crate::Result;
use crate::database::Database;
use crate::index::{BATCH_KEYS, Changing, Index, State};
use crate::record::{
    DUPLICATE, Entry, ObjectRecord, ObjectStage, PackRecord, STATE, live_key, name_key, object_key, pack_key,
    region_key,
};
use crate::sort::EntrySorter;
use crate::tables::{Scratch, Tables};
use lifeboat_format::{ChunkId, IndexName, PackName};
use std::collections::{BTreeMap, BTreeSet};

type Objects = BTreeMap<IndexName, ObjectRecord>;

impl Index {
    /// Index objects that are gone from the store: packs that only they list are dead from now on.
    ///
    /// Names that are not covered are passed over. It takes time in proportion to the number of live packs.
    pub fn retire(&self, names: &[IndexName]) -> Result<()> {
        let mut changing = self.begin_change()?;
        let keys: Vec<_> = names.iter().map(object_key).collect();
        let mut objects = Objects::new();
        for (name, value) in names.iter().zip(self.look_up_many(&keys)?) {
            let Some(value) = value else { continue };
            let record = ObjectRecord::decode(&value).map_err(|error| self.corrupt(error.to_string()))?;
            if record.stage != ObjectStage::Retired {
                objects.insert(*name, record);
            }
        }
        self.retire_objects(&mut changing, &objects)
    }

    pub(crate) fn retire_objects(&self, changing: &mut Changing, objects: &Objects) -> Result<()> {
        let numbers: BTreeSet<u32> = objects.values().map(|record| record.number).collect();
        let mut next = (!objects.is_empty()).then_some(0);
        while let Some(from) = next {
            let (casualties, following) = self.casualties(&numbers, from)?;
            next = following;
            let stage = if next.is_some() { ObjectStage::Retiring } else { ObjectStage::Retired };
            self.bury(changing, objects, stage, casualties)?;
        }
        Ok(())
    }

    /// What becomes of the packs from number `from` on, and the number up to which that goes, unless to the end.
    pub(crate) fn casualties(&self, numbers: &BTreeSet<u32>, from: u32) -> Result<(Casualties, Option<u32>)> {
        let live = self.state().live.clone();
        let mut casualties = Casualties::default();
        let mut next = from;
        loop {
            let page = self.pack_page(&live, next)?;
            let Some((last, _)) = page.last() else { return Ok((casualties, None)) };
            next = last.saturating_add(1);
            for (number, mut record) in page {
                let listed = record.listed_by.len();
                record.listed_by.retain(|object| !numbers.contains(object));
                if record.listed_by.is_empty() {
                    casualties.dead.insert(number, record);
                } else if record.listed_by.len() < listed {
                    casualties.kept.insert(number, record);
                }
            }
            if casualties.dead.len() + casualties.kept.len() >= self.bounds.packs {
                return Ok((casualties, Some(next)));
            }
        }
    }

    pub(crate) fn bury(
        &self,
        changing: &mut Changing,
        objects: &Objects,
        stage: ObjectStage,
        casualties: Casualties,
    ) -> Result<()> {
        let before = self.state().clone();
        let mut state = before.clone();
        for (number, record) in &casualties.dead {
            state.live.remove(*number);
            state.chunks = state.chunks.saturating_sub(u64::from(record.chunks));
        }
        let scratch = Scratch::create_in(self.home.path())?;
        let mut tables = Tables::new(&self.top, &scratch);
        // Over a base nothing can be deleted, and need not: whatever belongs to a dead pack counts as absent.
        let erase = self.base.is_none();
        if erase {
            casualties.erase_regions(&mut tables)?;
        }
        if !casualties.dead.is_empty() {
            let inheritance = self.inheritance(&state, &scratch)?;
            state.top_has_chunks |= inheritance.write(&mut tables, erase)?;
        }
        for block in state.live.changed_blocks(&before.live) {
            tables.put(&live_key(block), &state.live.block(block))?;
        }
        tables.put(&[STATE], &state.record(self.repository).encode())?;
        if erase {
            casualties.erase_names(&mut tables)?;
        }
        for (name, record) in objects {
            match stage {
                ObjectStage::Retired if erase => tables.delete(&object_key(name))?,
                stage => tables.put(&object_key(name), &ObjectRecord { stage, ..*record }.encode())?,
            }
        }
        casualties.write_packs(&mut tables, erase)?;
        self.commit(changing, tables.finish()?, state)
    }

    /// Duplicates that become entries, and those that are none any more, now that `state.live` are the live packs.
    fn inheritance(&self, state: &State, scratch: &Scratch) -> Result<Inheritance> {
        let mut inheritance = Inheritance {
            heirs: EntrySorter::new(scratch.path()),
            obsolete: EntrySorter::new(scratch.path()),
        };
        for database in self.layers() {
            let mut batch = Vec::with_capacity(BATCH_KEYS);
            database.scan(DUPLICATE, &mut |key, value| {
                batch.push(decode_duplicate(database, key, value)?);
                if batch.len() == BATCH_KEYS {
                    self.sort_out(state, &batch, &mut inheritance)?;
                    batch.clear();
                }
                Ok(())
            })?;
            self.sort_out(state, &batch, &mut inheritance)?;
        }
        Ok(inheritance)
    }

    fn sort_out(&self, state: &State, batch: &[Entry], inheritance: &mut Inheritance) -> Result<()> {
        let ids: Vec<ChunkId> = batch.iter().map(Entry::id).collect();
        for (entry, primary) in batch.iter().zip(self.resolve(state, &ids)?) {
            if !state.live.contains(entry.pack()) {
                inheritance.obsolete.push(*entry)?;
            } else if primary.is_none() {
                inheritance.heirs.push(*entry)?;
            }
        }
        Ok(())
    }
}

fn decode_duplicate(database: &Database, key: &[u8], value: &[u8]) -> Result<Entry> {
    Entry::from_duplicate(key, value)
        .ok_or_else(|| database.corrupt("the record of a duplicate has another length"))
}

/// Packs that die, and packs that lose one of several listings.
#[derive(Default)]
pub(crate) struct Casualties {
    dead: BTreeMap<u32, PackRecord>,
    kept: BTreeMap<u32, PackRecord>,
}

impl Casualties {
    fn erase_regions(&self, tables: &mut Tables<'_>) -> Result<()> {
        for (number, record) in &self.dead {
            for region in (0..=u16::MAX).take(record.regions as usize) {
                tables.delete(&region_key(*number, region))?;
            }
        }
        Ok(())
    }

    fn erase_names(&self, tables: &mut Tables<'_>) -> Result<()> {
        let names: BTreeSet<&PackName> = self.dead.values().map(|record| &record.name).collect();
        names.into_iter().try_for_each(|name| tables.delete(&name_key(name)))
    }

    fn write_packs(self, tables: &mut Tables<'_>, erase: bool) -> Result<()> {
        let dead = self.dead.into_keys().map(|number| (number, None));
        let kept = self.kept.into_iter().map(|(number, record)| (number, Some(record)));
        let changes: BTreeMap<u32, Option<PackRecord>> = dead.chain(kept).collect();
        for (number, record) in changes {
            match record {
                Some(record) => tables.put(&pack_key(number), &record.encode())?,
                None if erase => tables.delete(&pack_key(number))?,
                None => {}
            }
        }
        Ok(())
    }
}

struct Inheritance {
    heirs: EntrySorter,
    obsolete: EntrySorter,
}

impl Inheritance {
    /// Whether there were heirs at all.
    fn write(self, tables: &mut Tables<'_>, erase: bool) -> Result<bool> {
        let Self { heirs, mut obsolete } = self;
        let inherits = !heirs.is_empty();
        let mut last: Option<ChunkId> = None;
        for entry in heirs.finish()? {
            let entry = entry?;
            // Of several copies the first one inherits; the others go on waiting.
            if last.replace(entry.id()) != Some(entry.id()) {
                let (key, value) = entry.chunk_record();
                tables.put(&key, value)?;
                obsolete.push(entry)?;
            }
        }
        if erase {
            for entry in obsolete.finish()? {
                tables.delete(&entry?.duplicate_record().0)?;
            }
        }
        Ok(inherits)
    }
}
