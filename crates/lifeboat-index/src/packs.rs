//! The live packs, page by page: there may be more than fit memory.

use crate::index::{BATCH_KEYS, Index, keep_latest};
use crate::live::LiveSet;
use crate::record::{ObjectStage, PackNumber, PackRecord, name_key, pack_key};
use crate::{Error, Result};
use lifeboat_format::{IndexName, PackName};
use std::collections::HashMap;

/// A live pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its name.
    pub name: PackName,
    /// Its number in this cache.
    pub number: PackNumber,
    /// Its length.
    pub bytes: u32,
    /// How many regions it has.
    pub regions: u32,
    /// How many chunks it has.
    pub chunks: u32,
    /// The index objects that list it, at least one.
    pub listed_by: Vec<IndexName>,
}

impl Pack {
    fn new(number: u32, record: PackRecord, objects: &HashMap<u32, IndexName>) -> Self {
        let PackRecord { name, bytes, regions, chunks, listed_by } = record;
        let listed_by = listed_by.iter().filter_map(|object| objects.get(object).copied()).collect();
        Self { name, number: PackNumber(number), bytes, regions, chunks, listed_by }
    }
}

impl Index {
    /// The number of a live pack.
    pub fn pack_number(&self, name: &PackName) -> Result<Option<PackNumber>> {
        let state = self.state();
        let bytes = self.look_up(&name_key(name))?;
        let number = bytes.map(|bytes| self.decode_number(&bytes)).transpose()?;
        Ok(number.filter(|number| state.live.contains(*number)).map(PackNumber))
    }

    /// All live packs, in no order that means anything. One that is added or retired meanwhile may be missing.
    pub fn packs(&self) -> Result<Packs<'_>> {
        Ok(Packs { records: self.records(), objects: self.objects_by_number()? })
    }

    /// The live packs that are `wanted` by their names and lengths. Where they are few this is several times as fast as
    /// [`Self::packs`]: who lists a pack is read only then.
    pub fn packs_that(&self, wanted: impl Fn(&PackName, u32) -> bool) -> Result<Vec<Pack>> {
        let is_wanted = |record: &PackRecord| wanted(&record.name, record.bytes);
        let records = self.records().filter(|one| one.as_ref().map_or(true, |(_, record)| is_wanted(record)));
        let found = records.collect::<Result<Vec<_>>>()?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let objects = self.objects_by_number()?;
        Ok(found.into_iter().map(|(number, record)| Pack::new(number, record, &objects)).collect())
    }

    fn records(&self) -> Records<'_> {
        Records { index: self, next: 0, page: Vec::new().into_iter() }
    }

    fn objects_by_number(&self) -> Result<HashMap<u32, IndexName>> {
        let objects = self.objects(ObjectStage::Covered)?;
        Ok(objects.into_iter().map(|(name, record)| (record.number, name)).collect())
    }

    /// The records of up to [`BATCH_KEYS`] live packs, from number `next` on.
    pub(crate) fn pack_page(&self, live: &LiveSet, next: u32) -> Result<Vec<(u32, PackRecord)>> {
        let following = |number: &u32| number.checked_add(1).and_then(|next| live.next_from(next));
        let numbers: Vec<u32> =
            std::iter::successors(live.next_from(next), following).take(BATCH_KEYS).collect();
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Ok(Vec::new()) };
        // Neighbours: reading along takes a tenth of the time that asking for each one takes.
        let mut found = Vec::with_capacity(numbers.len());
        for database in self.base.iter().chain([&self.top]) {
            database.scan_from_to(&pack_key(*first), &pack_key(*last), &mut |key, value| {
                let number = key.last_chunk().map(|number| u32::from_be_bytes(*number));
                if let Some(number) = number.filter(|number| live.contains(*number)) {
                    found.push((number, self.decode_record(value)?));
                }
                Ok(())
            })?;
        }
        keep_latest(&mut found);
        let missing = numbers.iter().zip(&found).find(|(number, (found, _))| *number != found);
        match missing.map(|(number, _)| number).or(numbers.get(found.len())) {
            Some(number) => Err(self.lacks_pack(*number)),
            None => Ok(found),
        }
    }

    /// The records of live packs.
    pub(crate) fn pack_records(&self, numbers: Vec<u32>) -> Result<Vec<(u32, PackRecord)>> {
        let keys: Vec<_> = numbers.iter().map(|number| pack_key(*number)).collect();
        let values = self.look_up_many(&keys)?;
        numbers.into_iter().zip(values).map(|(number, value)| self.decode_pack(number, value)).collect()
    }

    pub(crate) fn decode_pack(&self, number: u32, value: Option<Vec<u8>>) -> Result<(u32, PackRecord)> {
        let value = value.ok_or_else(|| self.lacks_pack(number))?;
        Ok((number, self.decode_record(&value)?))
    }

    fn decode_record(&self, value: &[u8]) -> Result<PackRecord> {
        PackRecord::decode(value).map_err(|error| self.corrupt(error.to_string()))
    }

    fn lacks_pack(&self, number: u32) -> Error {
        self.corrupt(format!("it has no record of pack {number}"))
    }
}

/// Iterates over live packs.
pub struct Packs<'a> {
    records: Records<'a>,
    objects: HashMap<u32, IndexName>,
}

impl Iterator for Packs<'_> {
    type Item = Result<Pack>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        Some(record.map(|(number, record)| Pack::new(number, record, &self.objects)))
    }
}

/// Iterates over the records of live packs.
struct Records<'a> {
    index: &'a Index,
    next: u32,
    page: std::vec::IntoIter<(u32, PackRecord)>,
}

impl Iterator for Records<'_> {
    type Item = Result<(u32, PackRecord)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 {
            let page = {
                let state = self.index.state();
                self.index.pack_page(&state.live, self.next)
            };
            match page {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    // Nothing follows an error: the cache is to be thrown away.
                    self.next = u32::MAX;
                    return Some(Err(error));
                }
            }
        }
        let (number, record) = self.page.next()?;
        self.next = number.saturating_add(1);
        Some(Ok((number, record)))
    }
}
