//! Contents of an archive's members: their lengths are known before, and fail where they turn out otherwise.

use super::inputs::read_stream;
use super::{ContentWriter, Failure, Stored};
use crate::backup::cutting::Cutting;
use crate::backup::hint::Earlier;
use crate::source::archive::Member;
use lifeboat_chunker::pages::recognise;
use lifeboat_format::entry::Chunker;
use std::io::Read;

/// What is read of a stream before it is known how its file is best cut.
const FRONT_BYTES: u64 = 1 << 20;

impl<B> ContentWriter<'_, B> {
    /// Stores the content of a member, which `stream` gives; `earlier` is how the parent had it.
    pub(crate) fn member(
        &mut self,
        stream: &mut dyn Read,
        member: &Member,
        earlier: Option<&Earlier>,
    ) -> Result<Stored, Failure> {
        match &member.stretches {
            Some(stretches) => self.stretches(stream, stretches, member.size, earlier),
            None => self.sized_stream(stream, member.size, earlier),
        }
    }

    /// Stores a stream of exactly `size` bytes. The stream itself fails where it has fewer.
    fn sized_stream(
        &mut self,
        stream: &mut dyn Read,
        size: u64,
        earlier: Option<&Earlier>,
    ) -> Result<Stored, Failure> {
        let bytes_max = self.cutter.bytes_max() as u64;
        if size < bytes_max {
            let (start, end) =
                self.fill_small(size as usize, size as usize, |room| read_stream(stream, room))?;
            return self.name_small(start, end);
        }
        // What a file is made of is told by its beginning: a stream cannot be asked for its middle.
        let mut front = Vec::new();
        let kept = earlier.and_then(|earlier| earlier.chunker(bytes_max));
        let chunker = match kept {
            Some(chunker) => chunker,
            None => {
                stream.take(FRONT_BYTES).read_to_end(&mut front).map_err(Failure::File)?;
                let found = recognise(&front[..], front.len() as u64);
                let page = found.page_bytes().map_or(1, u64::from);
                if size.is_multiple_of(page) { found } else { Chunker::Content }
            }
        };
        let mut cutting = Cutting::with_hint(chunker, self.reader, earlier);
        let mut whole = front.as_slice().chain(stream);
        self.stretch(&mut cutting, Some(size), |buffer, _| read_stream(&mut whole, buffer))?;
        self.finish_cutting(cutting)
    }

    /// Stores a file with holes: `stream` gives its stretches of data, one behind the other.
    fn stretches(
        &mut self,
        stream: &mut dyn Read,
        stretches: &[(u64, u64)],
        size: u64,
        earlier: Option<&Earlier>,
    ) -> Result<Stored, Failure> {
        let kept = earlier.and_then(|earlier| earlier.chunker(self.cutter.bytes_max() as u64));
        let mut cutting = Cutting::with_hint(kept.unwrap_or(Chunker::Content), self.reader, earlier);
        let session = self.session.clone();
        let keys = session.repository().keys();
        for (offset, length) in stretches {
            let gap = offset.saturating_sub(cutting.bytes());
            cutting.hole(gap, &mut self.sink, keys)?;
            self.stretch(&mut cutting, Some(*length), |buffer, _| read_stream(stream, buffer))?;
        }
        let gap = size.saturating_sub(cutting.bytes());
        cutting.hole(gap, &mut self.sink, keys)?;
        self.finish_cutting(cutting)
    }
}
