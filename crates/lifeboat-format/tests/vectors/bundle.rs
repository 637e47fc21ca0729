//! A whole bundle, read from memory.

use crate::describe::{self, hex};
use crate::walk::require;
use lifeboat_format::Result;
use lifeboat_format::bundle::record::Numbering;
use lifeboat_format::bundle::{BundleKey, FRAME_HEAD_BYTES, FrameHead, PREFIX_BYTES, Part};
use lifeboat_format::seal::Key;
use lifeboat_format::slot::Secret;
use lifeboat_format::wire::Reader;
use serde_json::{Value, json};

pub(crate) fn decode(bytes: &[u8], key_file: &Key) -> Result<Value> {
    let mut rest = Reader::new(bytes, "bundle");
    let (id, slot_bytes) = BundleKey::decode_prefix(rest.bytes(PREFIX_BYTES + 4)?)?;
    let key = BundleKey::open(id, rest.bytes(slot_bytes as usize)?, &Secret::KeyFile(key_file))?;
    let (mut manifest, mut chunks, mut records) = (None, Vec::new(), Vec::new());
    let mut numbering = Numbering::default();
    for number in 0.. {
        let head = FrameHead::decode(&rest.array::<FRAME_HEAD_BYTES>()?)?;
        match key.open_frame(number, head, rest.bytes(head.box_bytes as usize)?)? {
            Part::Manifest(found) => {
                numbering = Numbering::new(found.base.as_ref().map_or(0, |base| base.chunks));
                manifest = Some(describe::manifest(&found));
            }
            Part::Chunks(found) => chunks.extend(found.iter().map(hex)),
            Part::Records(plain) => {
                let mut reader = Reader::new(&plain, "records");
                while reader.remaining() > 0 {
                    records.push(describe::record(&numbering.decode(&mut reader)?));
                }
            }
            Part::End(end) => {
                require(rest.remaining() == 0, "nothing behind the end")?;
                let end = json!([end.chunks, end.bytes, end.entries, end.removed]);
                return Ok(json!({ "manifest": manifest, "chunks": chunks, "records": records, "end": end }));
            }
        }
    }
    unreachable!("frames end with an error or the end")
}
