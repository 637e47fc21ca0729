//! A repository in memory with keys of its own, a tree on disk, and what a snapshot looks like without its keys.

use lifeboat::backup::{Options, SourceSpec, backup};
use lifeboat::bundle::{self, BundleReader, BundleWriter, Counters, Error, Imported, Plan, Since};
use lifeboat::format::config::Parameters;
use lifeboat::format::list::Piece;
use lifeboat::format::region::ChunkKind;
use lifeboat::format::seal::Key;
use lifeboat::format::snapshot::{Snapshot, SnapshotKind, TreeRoot};
use lifeboat::format::{ChunkId, Content, HostId, LinkGroup, Node, Timestamp, XattrValue};
use lifeboat::pieces::Pieces;
use lifeboat::repo::check::{Depth, Progress, check};
use lifeboat::repo::cursor::TreeCursor;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::repo::session::SessionOptions;
use lifeboat::{Quiet, Repository, Secret};
use lifeboat_store::{MemoryStore, Store};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What opens every repository here, and every bundle: a key file costs no time.
pub fn key() -> Key {
    Key::new([3; 32])
}

pub struct Place {
    pub store: MemoryStore,
    pub repository: Repository,
}

pub fn open(store: impl Store + 'static) -> Repository {
    Repository::open(Arc::new(store), &Secret::KeyFile(&key())).unwrap()
}

/// How an import stores what it gets.
pub fn session() -> SessionOptions {
    SessionOptions { compression_level: 3, host: HostId([9; 16]) }
}

impl Place {
    /// An empty repository; its master key is its own.
    pub fn new() -> Self {
        let store = MemoryStore::new();
        let secret = key();
        let secret = Secret::KeyFile(&secret);
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let repository =
            Repository::init(shared, Parameters::default(), &secret, "", Timestamp::default()).unwrap();
        Self { store, repository }
    }

    pub fn snapshot(&self, roots: &[&Path], kind: SnapshotKind) -> Snapshot {
        // A pause lets the files' times tell.
        std::thread::sleep(std::time::Duration::from_millis(40));
        let specs: Vec<SourceSpec> = roots.iter().map(|root| SourceSpec::Path(root.to_path_buf())).collect();
        let state = tempfile::tempdir().unwrap();
        let options = Options { kind, threads: 2, ..lifeboat::backup_options(state.path()) };
        backup(&self.repository, &specs, &options, &Default::default(), &Quiet).unwrap().snapshot
    }

    pub fn plan(&self, snapshot: &Snapshot, since: Since) -> Plan {
        Plan::new(&self.repository.snapshots().unwrap().snapshots, snapshot, since).unwrap()
    }

    pub fn export(&self, snapshot: &Snapshot, since: Since) -> Vec<u8> {
        self.export_plan(&self.plan(snapshot, since))
    }

    pub fn export_plan(&self, plan: &Plan) -> Vec<u8> {
        let writer = BundleWriter::new(&Secret::KeyFile(&key()), Timestamp::default(), Vec::new()).unwrap();
        let (totals, writer) = bundle::export(&self.repository, plan, &Counters::default(), writer).unwrap();
        assert_eq!(totals, bundle::weigh(&self.repository, plan, &Counters::default()).unwrap());
        let size = writer.bytes;
        let bytes = writer.finish().unwrap();
        assert_eq!(size, bytes.len() as u64);
        bytes
    }

    pub fn import(&self, bytes: &[u8]) -> Result<Imported, Error> {
        import(&self.repository, bytes)
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        let list = self.repository.snapshots().unwrap();
        assert!(list.damaged.is_empty(), "{:?}", list.damaged);
        list.snapshots.into_iter().map(|listed| listed.snapshot).collect()
    }

    pub fn find(&self, snapshot: &Snapshot) -> Snapshot {
        self.snapshots().into_iter().find(|other| other.id == snapshot.id).unwrap()
    }

    pub fn assert_sound(&self) {
        assert_sound(&self.repository);
    }
}

pub fn import(repository: &Repository, bytes: &[u8]) -> Result<Imported, Error> {
    let reader = BundleReader::new(&Secret::KeyFile(&key()), bytes)?;
    bundle::import(repository, session(), &Counters::default(), reader)
}

pub fn check_bundle(bytes: &[u8]) -> Result<(), Error> {
    let reader = BundleReader::new(&Secret::KeyFile(&key()), bytes)?;
    bundle::check(&Counters::default(), reader).map(drop)
}

pub fn assert_sound(repository: &Repository) {
    let report = check(repository, Depth::Data, &Progress::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// A snapshot without what means something in one repository only.
pub fn portable(snapshot: &Snapshot) -> Snapshot {
    let mut portable = snapshot.clone();
    for source in &mut portable.sources {
        source.root = TreeRoot { id: ChunkId([0; ChunkId::BYTES]), height: 0, ..source.root };
    }
    portable
}

/// Every entry of a snapshot, with the lengths of its pieces and the hash of its bytes instead of ids, and the first path
/// of its group instead of the group.
pub fn view(repository: &Repository, snapshot: &Snapshot) -> Vec<String> {
    let reader = ChunkReader::new(repository);
    let mut lines = Vec::new();
    for source in &snapshot.sources {
        let mut groups: HashMap<LinkGroup, String> = HashMap::new();
        for entry in TreeCursor::new(&reader, source.root) {
            let (path, mut entry) = entry.unwrap();
            let link = entry.link.take().map(|group| groups.entry(group).or_insert(path.to_string()).clone());
            let read = |id: &ChunkId, bytes: u32| {
                let mut chunk = Vec::new();
                reader.read_into(ChunkKind::Data, id, &mut chunk).unwrap();
                assert_eq!(chunk.len(), bytes as usize);
                chunk
            };
            for xattr in &mut entry.metadata.xattrs {
                if let XattrValue::Chunk(id, bytes) = &xattr.value {
                    let value = read(id, *bytes);
                    xattr.value = XattrValue::Inline([b"chunk ", &value[..]].concat());
                }
            }
            let mut content = String::new();
            if let Node::File { content: stored, size } = &mut entry.node {
                let mut hasher = blake3::Hasher::new();
                for piece in Pieces::new(&reader, stored, *size) {
                    match piece.unwrap() {
                        Piece::Chunk(id, bytes) => {
                            hasher.update(&read(&id, bytes));
                            content += &format!("{bytes} ");
                        }
                        other => content += &format!("{other:?} "),
                    }
                }
                let sort = match stored {
                    Content::List(root) => format!("list of height {} by {:?}", root.height, root.chunker),
                    Content::Pieces(chunker, _) => format!("pieces by {chunker:?}"),
                    Content::Chunk(_) => "chunk".to_owned(),
                    Content::Empty => "empty".to_owned(),
                };
                // The height depends on the keys: they decide where lists are cut.
                let sort = sort.split(" of height").next().unwrap().to_owned();
                content += &format!("{sort} {}", hasher.finalize());
                *stored = Content::Empty;
            }
            lines.push(format!("{:?} {path:?} {entry:?} {link:?} {content}", source.name));
        }
    }
    lines
}

/// Both repositories have the snapshot, and it is the same.
#[track_caller]
pub fn assert_same(one: &Place, other: &Place, snapshot: &Snapshot) {
    let (first, second) = (one.find(snapshot), other.find(snapshot));
    assert_eq!(portable(&first), portable(&second));
    let (first, second) = (view(&one.repository, &first), view(&other.repository, &second));
    assert_eq!(first.len(), second.len());
    first.iter().zip(&second).for_each(|(first, second)| assert_eq!(first, second));
}
