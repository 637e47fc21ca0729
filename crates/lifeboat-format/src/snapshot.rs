//! A snapshot: what was protected at one moment. `docs/format/snapshot.md`

pub mod remembered;
mod source;

pub use source::{SnapshotKind, Source, SourceKind, TreeRoot};

use crate::keys::{Envelope, Keys, SessionKey};
use crate::limits::{DETAIL_BYTES_MAX, NAMES_MAX, SNAPSHOT_BYTES_MAX};
use crate::object::{ObjectKind, frame, unframe};
use crate::seal::{self, Binding, Codec, Purpose};
use crate::wire::{Reader, Write};
use crate::{AuthorId, Error, HostId, Result, SessionId, SnapshotId, Timestamp};

/// Figures of the run that made a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent.
    pub files_unmodified: u64,
    /// Directories that the parent did not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories as in the parent.
    pub dirs_unmodified: u64,
    /// New chunks of file content.
    pub data_blobs: u64,
    /// New tree and list nodes.
    pub tree_blobs: u64,
    /// Plaintext bytes of new chunks.
    pub data_added: u64,
    /// Bytes that they take in packs.
    pub data_added_packed: u64,
    /// Files, directories and others met.
    pub total_files_processed: u64,
    /// Bytes of regular files met.
    pub total_bytes_processed: u64,
}

impl Statistics {
    fn fields(&self) -> [u64; 12] {
        [
            self.files_new,
            self.files_changed,
            self.files_unmodified,
            self.dirs_new,
            self.dirs_changed,
            self.dirs_unmodified,
            self.data_blobs,
            self.tree_blobs,
            self.data_added,
            self.data_added_packed,
            self.total_files_processed,
            self.total_bytes_processed,
        ]
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            files_new: reader.varint()?,
            files_changed: reader.varint()?,
            files_unmodified: reader.varint()?,
            dirs_new: reader.varint()?,
            dirs_changed: reader.varint()?,
            dirs_unmodified: reader.varint()?,
            data_blobs: reader.varint()?,
            tree_blobs: reader.varint()?,
            data_added: reader.varint()?,
            data_added_packed: reader.varint()?,
            total_files_processed: reader.varint()?,
            total_bytes_processed: reader.varint()?,
        })
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Portable identity.
    pub id: SnapshotId,
    /// Whether the session finished; checkpoints are incomplete.
    pub complete: bool,
    /// Random identity of the host.
    pub host_id: HostId,
    /// Name of the host, for people.
    pub host: String,
    /// Name of the user who ran lifeboat.
    pub user: String,
    /// Number of this snapshot on its host, from 1.
    pub sequence: u64,
    /// The host's previous snapshot: a repository set back to an older state breaks the chain.
    pub previous: Option<SnapshotId>,
    /// When the walk began.
    pub started: Timestamp,
    /// When the last source was read.
    pub finished: Timestamp,
    /// The user's words, sorted.
    pub tags: Vec<String>,
    /// Version of the program.
    pub program: String,
    /// What is in it.
    pub sources: Vec<Source>,
    /// Figures of the run.
    pub statistics: Statistics,
    /// Services that were unhealthy when it was taken, one text each: such a snapshot never counts as the last good one.
    pub unhealthy: Vec<String>,
    /// What is claimed about the moment that the sources show: a JSON object, or empty where nothing is.
    pub consistency: String,
    /// How often its tags or its pin were changed: of several objects of one snapshot the greatest counts.
    pub revision: u64,
    /// Whether it is kept whatever the rules say.
    pub pinned: bool,
    /// Whether something that it needs was found lost: nothing of it is carried over unseen.
    pub lacking: bool,
    /// Who vouches for it; zeros in version 1.
    pub author: AuthorId,
    /// Signature by the author; empty in version 1.
    pub signature: Vec<u8>,
}

/// What tells a snapshot from others and puts it into their order; reading no more costs a twentieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Portable identity.
    pub id: SnapshotId,
    /// Whose it is.
    pub host_id: HostId,
    /// Its number on its host.
    pub sequence: u64,
    /// When the walk began.
    pub started: Timestamp,
    /// Which change of its tags, its pin or its lack this is.
    pub revision: u64,
    /// Whether something that it needs was found lost.
    pub lacking: bool,
}

/// What an object holds, every byte of it: also what only a later version understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    author: AuthorId,
    signature: Vec<u8>,
    body: Vec<u8>,
}

impl Opened {
    /// What of it this version understands.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let body = Snapshot::decode_body(&self.body)?;
        Ok(Snapshot { author: self.author, signature: self.signature.clone(), ..body })
    }

    /// The same of what [`Head`] has; whether the rest can be read is not looked at.
    pub fn head(&self) -> Result<Head> {
        let (id, host_id) = (SnapshotId([0; 16]), HostId([0; 16]));
        let (started, lacking) = (Timestamp::default(), false);
        let mut head = Head { id, host_id, sequence: 0, started, revision: 0, lacking };
        let mut has_id = false;
        let mut reader = Reader::new(&self.body, "snapshot");
        while reader.remaining() > 0 {
            let tag = reader.varint()?;
            let mut field = Reader::new(reader.string(SNAPSHOT_BYTES_MAX)?, "snapshot");
            match tag {
                TAG_ID => {
                    head.id = SnapshotId(field.array()?);
                    has_id = true;
                }
                TAG_HOST_ID => head.host_id = HostId(field.array()?),
                TAG_SEQUENCE => head.sequence = field.varint()?,
                TAG_STARTED => head.started = decode_time(&mut field)?,
                TAG_REVISION => head.revision = field.varint()?,
                TAG_LACKING => head.lacking = field.u8()? == 1,
                _ => {}
            }
        }
        if has_id { Ok(head) } else { Err(field_error("it has no id")) }
    }
}

const TAG_ID: u64 = 1;
const TAG_COMPLETE: u64 = 2;
const TAG_HOST_ID: u64 = 3;
const TAG_HOST: u64 = 4;
const TAG_USER: u64 = 5;
const TAG_SEQUENCE: u64 = 6;
const TAG_PREVIOUS: u64 = 7;
const TAG_STARTED: u64 = 8;
const TAG_FINISHED: u64 = 9;
const TAG_TAG: u64 = 10;
const TAG_PROGRAM: u64 = 11;
const TAG_SOURCE: u64 = 12;
const TAG_STATISTICS: u64 = 13;
const TAG_UNHEALTHY: u64 = 14;
const TAG_CONSISTENCY: u64 = 15;
const TAG_REVISION: u64 = 16;
const TAG_PINNED: u64 = 17;
const TAG_LACKING: u64 = 18;

impl Snapshot {
    const SIGNATURE_BYTES_MAX: u32 = 1024;

    /// An incomplete snapshot of nothing, of which nothing more is said.
    pub fn new(id: SnapshotId, host_id: HostId) -> Self {
        Self {
            id,
            complete: false,
            host_id,
            host: String::new(),
            user: String::new(),
            sequence: 0,
            previous: None,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            tags: Vec::new(),
            program: String::new(),
            sources: Vec::new(),
            statistics: Statistics::default(),
            unhealthy: Vec::new(),
            consistency: String::new(),
            revision: 0,
            pinned: false,
            lacking: false,
            author: AuthorId::NONE,
            signature: Vec::new(),
        }
    }

    /// The bytes of a snapshot, draft or checkpoint that `session` puts.
    pub fn encode(
        &self,
        kind: ObjectKind,
        keys: &Keys,
        session: SessionId,
        key: &SessionKey,
    ) -> Result<Vec<u8>> {
        let plain = self.encode_body();
        let texts = self.sources.iter().map(|source| &source.detail).chain([&self.consistency]);
        if let Some(text) = texts.into_iter().find(|text| text.len() > DETAIL_BYTES_MAX as usize) {
            return Err(Error::limit("snapshot", format!("{} bytes of detail", text.len())));
        }
        if plain.len() > SNAPSHOT_BYTES_MAX as usize - 8192 {
            return Err(Error::limit("snapshot", format!("{} bytes", plain.len())));
        }
        let mut body = Vec::new();
        key.envelope().encode(&mut body);
        body.extend_from_slice(&self.author.0);
        body.put_string(&self.signature);
        let binding = binding(kind, keys, key.envelope(), session);
        body.append(&mut seal::seal_box(keys.suite(), &key.key, binding, &plain));
        Ok(frame(kind, &body))
    }

    /// Reads the object that `session` put.
    pub fn decode(kind: ObjectKind, keys: &Keys, session: SessionId, bytes: &[u8]) -> Result<Self> {
        Self::open(kind, keys, session, bytes)?.snapshot()
    }

    /// Opens the object that `session` put.
    pub fn open(kind: ObjectKind, keys: &Keys, session: SessionId, bytes: &[u8]) -> Result<Opened> {
        let mut reader = Reader::new(unframe(kind, bytes)?, "snapshot");
        let envelope = Envelope::decode(&mut reader)?;
        let author = AuthorId(reader.array()?);
        let signature = reader.string(Self::SIGNATURE_BYTES_MAX)?.to_vec();
        let sealed = reader.bytes(reader.remaining())?;
        let key = keys.open_envelope(&envelope)?;
        let body =
            seal::open_box(&key.key, binding(kind, keys, &envelope, session), sealed, SNAPSHOT_BYTES_MAX)?;
        Ok(Opened { author, signature, body })
    }

    /// What tells it from others.
    pub fn head(&self) -> Head {
        let Self { id, host_id, sequence, started, revision, lacking, .. } = *self;
        Head { id, host_id, sequence, started, revision, lacking }
    }

    /// Errors of all sources.
    pub fn errors(&self) -> u64 {
        self.sources.iter().map(|source| source.errors).sum()
    }

    pub(crate) fn encode_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut field = |tag: u64, value: &[u8]| {
            body.put_varint(tag);
            body.put_string(value);
        };
        field(TAG_ID, &self.id.0);
        field(TAG_COMPLETE, &[u8::from(self.complete)]);
        field(TAG_HOST_ID, &self.host_id.0);
        field(TAG_HOST, self.host.as_bytes());
        field(TAG_USER, self.user.as_bytes());
        field(TAG_SEQUENCE, &varint(self.sequence));
        if let Some(previous) = self.previous {
            field(TAG_PREVIOUS, &previous.0);
        }
        field(TAG_STARTED, &time(self.started));
        field(TAG_FINISHED, &time(self.finished));
        self.tags.iter().for_each(|tag| field(TAG_TAG, tag.as_bytes()));
        field(TAG_PROGRAM, self.program.as_bytes());
        self.sources.iter().for_each(|source| field(TAG_SOURCE, &source.encode()));
        let mut statistics = Vec::new();
        self.statistics.fields().iter().for_each(|value| statistics.put_varint(*value));
        field(TAG_STATISTICS, &statistics);
        self.unhealthy.iter().for_each(|text| field(TAG_UNHEALTHY, text.as_bytes()));
        if !self.consistency.is_empty() {
            field(TAG_CONSISTENCY, self.consistency.as_bytes());
        }
        if self.revision > 0 {
            field(TAG_REVISION, &varint(self.revision));
        }
        if self.pinned {
            field(TAG_PINNED, &[1]);
        }
        if self.lacking {
            field(TAG_LACKING, &[1]);
        }
        body
    }

    pub(crate) fn decode_body(plain: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(plain, "snapshot");
        let mut snapshot = Self::new(SnapshotId([0; 16]), HostId([0; 16]));
        let mut has_id = false;
        while reader.remaining() > 0 {
            let tag = reader.varint()?;
            let value = reader.string(SNAPSHOT_BYTES_MAX)?;
            let mut field = Reader::new(value, "snapshot");
            let text = || String::from_utf8(value.to_vec()).map_err(|_| field_error("text is not UTF-8"));
            match tag {
                TAG_ID => {
                    snapshot.id = SnapshotId(field.array()?);
                    has_id = true;
                }
                TAG_COMPLETE => snapshot.complete = field.u8()? == 1,
                TAG_HOST_ID => snapshot.host_id = HostId(field.array()?),
                TAG_HOST => snapshot.host = text()?,
                TAG_USER => snapshot.user = text()?,
                TAG_SEQUENCE => snapshot.sequence = field.varint()?,
                TAG_PREVIOUS => snapshot.previous = Some(SnapshotId(field.array()?)),
                TAG_STARTED => snapshot.started = decode_time(&mut field)?,
                TAG_FINISHED => snapshot.finished = decode_time(&mut field)?,
                TAG_TAG => snapshot.tags.push(text()?),
                TAG_PROGRAM => snapshot.program = text()?,
                TAG_SOURCE => snapshot.sources.push(Source::decode(&mut field)?),
                TAG_STATISTICS => snapshot.statistics = Statistics::decode(&mut field)?,
                TAG_UNHEALTHY => snapshot.unhealthy.push(text()?),
                TAG_CONSISTENCY if value.len() > DETAIL_BYTES_MAX as usize => {
                    return Err(reader.damaged("its claim is too long"));
                }
                TAG_CONSISTENCY => snapshot.consistency = text()?,
                TAG_REVISION => snapshot.revision = field.varint()?,
                TAG_PINNED => snapshot.pinned = field.u8()? == 1,
                TAG_LACKING => snapshot.lacking = field.u8()? == 1,
                // Later versions add fields; what changes the meaning of the known ones changes the version.
                _ => {}
            }
            let counts = [snapshot.sources.len(), snapshot.tags.len(), snapshot.unhealthy.len()];
            if counts.iter().any(|count| *count > NAMES_MAX as usize) {
                return Err(reader.damaged("it has too many sources, tags or unhealthy services"));
            }
        }
        if has_id { Ok(snapshot) } else { Err(field_error("it has no id")) }
    }
}

fn binding(kind: ObjectKind, keys: &Keys, envelope: &Envelope, session: SessionId) -> Binding {
    let purpose = match kind {
        ObjectKind::Draft => Purpose::Draft,
        ObjectKind::Checkpoint => Purpose::Checkpoint,
        _ => Purpose::Snapshot,
    };
    Binding {
        repository: keys.repository(),
        purpose,
        codec: Codec::Raw,
        envelope: envelope.id,
        unique: session.0,
        plain_bytes: 0,
    }
}

fn field_error(detail: &'static str) -> Error {
    Error::damaged("snapshot", detail)
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_varint(value);
    bytes
}

fn time(time: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_signed(time.seconds);
    bytes.put_varint(u64::from(time.nanos));
    bytes
}

fn decode_time(reader: &mut Reader<'_>) -> Result<Timestamp> {
    Ok(Timestamp { seconds: reader.signed()?, nanos: reader.varint_max(999_999_999)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Key, Suite};
    use crate::{ChunkId, RepositoryId};
    use proptest::prelude::*;

    fn snapshot() -> Snapshot {
        let source = Source {
            kind: SourceKind::Path,
            name: b"/srv/\xff".to_vec(),
            root: TreeRoot { id: ChunkId([4; ChunkId::BYTES]), height: 1, entries: 9 },
            parent: Some(SnapshotId([5; 16])),
            snapshot_kind: SnapshotKind::Incremental,
            errors: 1,
            bytes: 1 << 40,
            users: vec![(0, b"root".to_vec())],
            groups: vec![],
            detail: "{}".into(),
        };
        Snapshot {
            id: SnapshotId([1; 16]),
            complete: true,
            host_id: HostId([2; 16]),
            host: "host".into(),
            user: "user".into(),
            sequence: 7,
            previous: Some(SnapshotId([3; 16])),
            started: Timestamp { seconds: -1, nanos: 5 },
            finished: Timestamp { seconds: 1, nanos: 6 },
            tags: vec!["a".into(), "b".into()],
            program: "lifeboat".into(),
            sources: vec![source],
            statistics: Statistics { files_new: 1, total_bytes_processed: 2, ..Statistics::default() },
            unhealthy: vec!["api: unhealthy".into()],
            consistency: "{}".into(),
            revision: 300,
            pinned: true,
            lacking: true,
            author: AuthorId::NONE,
            signature: vec![],
        }
    }

    #[test]
    fn a_snapshot_reads_back_under_its_own_session_and_kind_only() {
        let keys = Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305);
        let key = keys.new_session();
        let session = SessionId([8; 16]);
        let bytes = snapshot().encode(ObjectKind::Snapshot, &keys, session, &key).unwrap();
        assert_eq!(Snapshot::decode(ObjectKind::Snapshot, &keys, session, &bytes).unwrap(), snapshot());
        let opened = Snapshot::open(ObjectKind::Snapshot, &keys, session, &bytes);
        assert!(opened.and_then(|opened| opened.head()).is_ok_and(|head| head == snapshot().head()));
        assert!(Snapshot::decode(ObjectKind::Draft, &keys, session, &bytes).is_err());
        assert!(Snapshot::decode(ObjectKind::Snapshot, &keys, SessionId([9; 16]), &bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let whole = Snapshot::decode_body(&bytes);
            let head = Opened { author: AuthorId::NONE, signature: Vec::new(), body: bytes.clone() }.head();
            if let Ok(whole) = whole {
                assert!(head.is_ok_and(|head| head == whole.head()));
            }
            let _ = Source::decode(&mut Reader::new(&bytes, "source"));
        }
    }
}
