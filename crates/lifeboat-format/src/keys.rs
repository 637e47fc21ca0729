//! The master key and the keys for each purpose. `docs/format/keys.md#derivation`

use crate::many;
use crate::region::ChunkKind;
use crate::seal::{self, Binding, Codec, Key, Purpose, Suite};
use crate::wire::{Reader, Write};
use crate::{ChunkId, EnvelopeId, Error, RepositoryId, Result};

/// Everything that the full role can do, derived from the master key.
///
/// Version 1 has one role. The fields are those that later roles hold in part: a writer will hold `ids`, `cut` and
/// `index`, and only the public half of `read`.
#[derive(Debug, Clone)]
pub struct Keys {
    repository: RepositoryId,
    suite: Suite,
    ids: [Key; 3],
    cut: Key,
    index: Key,
    read: Key,
    config: Key,
}

impl Keys {
    /// Derives all keys of `repository` from its master key; `suite` seals what they write.
    pub fn derive(master: &Key, repository: RepositoryId, suite: Suite) -> Self {
        Self {
            repository,
            suite,
            ids: [
                master.derive("lifeboat v1 chunk id data"),
                master.derive("lifeboat v1 chunk id tree"),
                master.derive("lifeboat v1 chunk id list"),
            ],
            cut: master.derive("lifeboat v1 cut"),
            index: master.derive("lifeboat v1 index"),
            read: master.derive("lifeboat v1 read"),
            config: master.derive("lifeboat v1 config"),
        }
    }

    /// The repository that these keys belong to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The suite that new objects are sealed with.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The name of a chunk.
    pub fn chunk_id(&self, kind: ChunkKind, plain: &[u8]) -> ChunkId {
        shortened(blake3::keyed_hash(self.id_key(kind).expose(), plain).as_bytes())
    }

    /// The names of many chunks, in their order: the same as [`Self::chunk_id`] gives, sooner.
    pub fn chunk_ids(&self, kind: ChunkKind, chunks: &[&[u8]]) -> Vec<ChunkId> {
        many::keyed_hashes(self.id_key(kind).expose(), chunks).iter().map(shortened).collect()
    }

    fn id_key(&self, kind: ChunkKind) -> &Key {
        match kind {
            ChunkKind::Data => &self.ids[0],
            ChunkKind::Tree => &self.ids[1],
            ChunkKind::List => &self.ids[2],
        }
    }

    /// Secret bytes that decide where files are cut: an extendable output under the cut key.
    pub fn cut_bytes(&self, purpose: &str, output: &mut [u8]) {
        blake3::Hasher::new_keyed(self.cut.expose()).update(purpose.as_bytes()).finalize_xof().fill(output);
    }

    /// A keyed 64-bit hash of a tree entry's key or of a link group's first path; decides where nodes are cut.
    pub fn key_hash(&self, purpose: &str, key: &[u8]) -> u64 {
        let mut output = [0; 8];
        blake3::Hasher::new_keyed(self.cut.expose())
            .update(purpose.as_bytes())
            .update(&[0])
            .update(key)
            .finalize_xof()
            .fill(&mut output);
        u64::from_le_bytes(output)
    }

    /// Authenticates the repository's config.
    pub fn config_tag(&self, body: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(self.config.expose(), body).as_bytes()
    }

    fn binding(&self, purpose: Purpose, unique: [u8; 16]) -> Binding {
        Binding {
            repository: self.repository,
            purpose,
            codec: Codec::Raw,
            envelope: EnvelopeId([0; 16]),
            unique,
            plain_bytes: 0,
        }
    }

    /// Seals under the index key: directories, index objects, intents.
    pub(crate) fn seal_index(&self, purpose: Purpose, unique: [u8; 16], plain: &[u8]) -> Vec<u8> {
        seal::seal_box(self.suite, &self.index, self.binding(purpose, unique), plain)
    }

    /// Seals a directory under the index key, uncompressed: a pack is filled to an exact size around it.
    pub(crate) fn seal_directory(&self, unique: [u8; 16], plain: &[u8]) -> Vec<u8> {
        let binding = self.binding(Purpose::Directory, unique);
        seal::seal_box_raw(self.suite, &self.index, binding, plain)
    }

    /// Opens what [`Self::seal_index`] and [`Self::seal_directory`] made.
    pub(crate) fn open_index(
        &self,
        purpose: Purpose,
        unique: [u8; 16],
        sealed: &[u8],
        max: u32,
    ) -> Result<Vec<u8>> {
        seal::open_box(&self.index, self.binding(purpose, unique), sealed, max)
    }

    /// Seals what a machine keeps of snapshots for itself under the read key.
    pub(crate) fn seal_remembered(&self, plain: &[u8]) -> Vec<u8> {
        seal::seal_box(self.suite, &self.read, self.binding(Purpose::Remembered, [0; 16]), plain)
    }

    /// Opens what [`Self::seal_remembered`] made.
    pub(crate) fn open_remembered(&self, sealed: &[u8], max: u32) -> Result<Vec<u8>> {
        seal::open_box(&self.read, self.binding(Purpose::Remembered, [0; 16]), sealed, max)
    }

    /// Makes a session key and the envelope by which readers get at it.
    pub fn new_session(&self) -> SessionKey {
        let key = Key::random();
        let id = EnvelopeId::random();
        let wrapped =
            seal::seal_box(self.suite, &self.read, self.binding(Purpose::Envelope, id.0), key.expose());
        SessionKey { key, envelope: Envelope { id, recipient: Envelope::READ_KEY, wrapped } }
    }

    /// Takes a session key out of its envelope.
    pub fn open_envelope(&self, envelope: &Envelope) -> Result<SessionKey> {
        if envelope.recipient != Envelope::READ_KEY {
            let feature = format!("envelope recipient {}", envelope.recipient);
            return Err(Error::Unsupported { what: "envelope", feature });
        }
        let binding = self.binding(Purpose::Envelope, envelope.id.0);
        let plain = zeroize::Zeroizing::new(seal::open_box(&self.read, binding, &envelope.wrapped, 32)?);
        let key = <[u8; 32]>::try_from(plain.as_slice())
            .map_err(|_| Error::damaged("envelope", "its key is not 32 bytes long"))?;
        Ok(SessionKey { key: Key::new(key), envelope: envelope.clone() })
    }
}

/// A key that one session seals with, and its envelope.
#[derive(Debug, Clone)]
pub struct SessionKey {
    pub(crate) key: Key,
    envelope: Envelope,
}

impl SessionKey {
    /// The envelope to store beside what this key seals.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// A session key, wrapped for those who may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Random name; regions refer to their key by it.
    pub id: EnvelopeId,
    /// For whom it is wrapped: version 1 knows [`Self::READ_KEY`].
    pub recipient: u8,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

impl Envelope {
    /// Wrapped under the repository's symmetric read key.
    pub const READ_KEY: u8 = 1;
    const WRAPPED_BYTES_MAX: u32 = 4096;

    /// Appends the envelope's encoding.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.id.0);
        output.push(self.recipient);
        output.put_string(&self.wrapped);
    }

    /// Reads an envelope.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: EnvelopeId(reader.array()?),
            recipient: reader.u8()?,
            wrapped: reader.string(Self::WRAPPED_BYTES_MAX)?.to_vec(),
        })
    }
}

fn shortened(hash: &[u8; 32]) -> ChunkId {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&hash[..ChunkId::BYTES]);
    ChunkId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(master: u8) -> Keys {
        Keys::derive(&Key::new([master; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    #[test]
    fn the_same_bytes_have_another_name_in_each_kind() {
        let ids =
            [ChunkKind::Data, ChunkKind::Tree, ChunkKind::List].map(|kind| keys(1).chunk_id(kind, b"bytes"));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }

    #[test]
    fn an_envelope_opens_with_its_own_repository_only() {
        let session = keys(1).new_session();
        assert_eq!(keys(1).open_envelope(session.envelope()).unwrap().key, session.key);
        assert!(keys(2).open_envelope(session.envelope()).is_err());
    }
}
