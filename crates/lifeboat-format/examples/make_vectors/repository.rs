//! The golden repository: a complete one that fits a screen, and what restoring it must give.

use crate::describe::{self, hex};
use crate::packs::Packer;
use crate::sketch::{Part, Sketch, data_v1, data_v2, motd, volume};
use crate::topic::HOST;
use crate::writer::Writer;
use lifeboat_format::config::{Config, Features, Parameters};
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::Keys;
use lifeboat_format::object::{ObjectKind, frame};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::{Key, Suite};
use lifeboat_format::slot::{Argon2Cost, Role, RoleBundle, Secret, Slot};
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind};
use lifeboat_format::{ObjectKey, RepositoryId, SessionId, SlotId, SnapshotId, Timestamp};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const PASSPHRASE: &str = "correct horse battery staple";
/// What came with the volume.
const VOLUME: &str = r#"{"driver":"local","read":"directly"}"#;
const CREATED: Timestamp = Timestamp { seconds: 1_760_000_000, nanos: 0 };

/// A repository folder under construction.
struct Folder {
    path: PathBuf,
    keys: Keys,
}

/// One snapshot of the golden repository.
struct Run<'a> {
    session: u8,
    parent: Option<u8>,
    sources: Vec<(SourceKind, &'static str, &'a [Sketch])>,
}

/// Writes the repository, its key file and its manifest beside it.
pub(crate) fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let master = Key::random();
    let repository = RepositoryId::random();
    let keys = Keys::derive(&master, repository, Suite::XChaCha20Poly1305);
    let target = Folder { path: folder.to_owned(), keys };
    let config = Config {
        repository,
        created: CREATED,
        features: Features::default(),
        parameters: Parameters::default(),
    };
    target.put(&ObjectKey::config(), &config.encode(&target.keys)?)?;
    let file = Key::random();
    for (secret, label) in
        [(Secret::Passphrase(PASSPHRASE.as_bytes()), "passphrase"), (Secret::KeyFile(&file), "key file")]
    {
        let bundle =
            RoleBundle { role: Role::Full, master: master.clone(), label: label.into(), created: CREATED };
        let id = SlotId::random();
        let cost = Argon2Cost::default();
        let slot = Slot::seal(repository, id, Suite::XChaCha20Poly1305, &secret, cost, &bundle)?;
        target.put(&ObjectKey::new(ObjectKind::Slot, &id.0), &slot.encode())?;
    }
    let (first, second, motd, pgdata) = (data_v1(), data_v2(), motd(), volume());
    let dump = [Sketch::file("", &[Part::Bytes(b"INSERT INTO boats VALUES ('life');\n".repeat(40))])];
    let mut writer = Writer::new();
    let snapshots = [
        target.run(
            &mut writer,
            &Run {
                session: 0xa1,
                parent: None,
                sources: vec![
                    (SourceKind::Path, "/srv/data", &first),
                    (SourceKind::Stdin, "dump.sql", &dump),
                ],
            },
        )?,
        target.run(
            &mut writer,
            &Run {
                session: 0xb2,
                parent: Some(0xa1),
                sources: vec![
                    (SourceKind::Path, "/srv/data", &second),
                    (SourceKind::Path, "/etc/motd", &motd),
                    (SourceKind::Volume, "pgdata", &pgdata),
                ],
            },
        )?,
    ];
    target.put_leftovers()?;
    let manifest = json!({
        "about": "What restoring the golden repository gives; paths are hexadecimal and relative to OUT.",
        "passphrase": PASSPHRASE,
        "snapshots": snapshots,
    });
    fs::write(folder.with_extension("json"), format!("{manifest:#}\n"))?;
    fs::write(folder.with_extension("key"), format!("lifeboat-key-1 {}\n", hex(file.expose())))?;
    Ok(())
}

impl Folder {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.path.join(key.path());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)
    }

    /// Writes one session's packs, index object and snapshot; gives what the manifest says of it.
    fn run(&self, writer: &mut Writer, run: &Run<'_>) -> Result<Value, Box<dyn Error>> {
        let session = self.keys.new_session();
        let mut sources = Vec::new();
        let mut files = Vec::new();
        for (kind, name, sketches) in &run.sources {
            let root = writer.tree(&self.keys, sketches)?;
            let bytes = sketches.iter().map(Sketch::bytes).sum();
            // A source that the parent did not have is full, whatever was asked for.
            let known = run.parent.filter(|_| *name == "/srv/data");
            sources.push(Source {
                parent: known.map(|parent| SnapshotId([parent ^ 0xff; 16])),
                snapshot_kind: if known.is_some() { SnapshotKind::Incremental } else { SnapshotKind::Full },
                bytes,
                users: vec![(0, b"root".to_vec()), (1000, b"boat".to_vec())],
                groups: vec![(0, b"root".to_vec())],
                detail: if *kind == SourceKind::Volume { VOLUME.into() } else { String::new() },
                ..Source::new(*kind, name.as_bytes(), root)
            });
            let place = match kind {
                SourceKind::Volume => format!("volume:{name}"),
                _ => name.trim_start_matches('/').to_owned(),
            };
            files.extend(sketches.iter().map(|sketch| sketch.manifest(&place)));
        }
        let mut packs = Vec::new();
        for kinds in [&[ChunkKind::Data][..], &[ChunkKind::Tree, ChunkKind::List]] {
            let mut packer = Packer::new(&self.keys, &session);
            for kind in kinds {
                // Regions this small are for the vectors only: several a pack, and one of them raw.
                for (number, chunks) in writer.take(*kind).chunks(6).enumerate() {
                    packer.region(*kind, if number == 1 { 0 } else { 3 }, chunks)?;
                }
            }
            let packed = packer.finish()?;
            self.put(&ObjectKey::new(ObjectKind::Pack, &packed.indexed.name.0), &packed.bytes)?;
            packs.push(packed.indexed);
        }
        let (name, bytes) = IndexObject::new(packs).encode(&self.keys)?;
        self.put(&ObjectKey::new(ObjectKind::Index, &name.0), &bytes)?;
        let snapshot = snapshot(run, sources);
        let id = SessionId([run.session; 16]);
        let bytes = snapshot.encode(ObjectKind::Snapshot, &self.keys, id, &session)?;
        self.put(&ObjectKey::new(ObjectKind::Snapshot, &id.0), &bytes)?;
        Ok(json!({
            "session": hex(&id.0), "snapshot": describe::snapshot(&snapshot), "files": files,
        }))
    }

    /// What a fenced session leaves behind: readers of snapshots never notice.
    fn put_leftovers(&self) -> Result<(), Box<dyn Error>> {
        let id = SessionId([0xc3; 16]);
        let intent = Intent { session: id, counter: 2, host: HOST, parents: vec![] };
        self.put(&intent.key(), &intent.encode(&self.keys))?;
        let run = Run { session: 0xc3, parent: None, sources: vec![] };
        let draft = snapshot(&run, vec![]);
        let bytes = draft.encode(ObjectKind::Draft, &self.keys, id, &self.keys.new_session())?;
        self.put(&ObjectKey::new(ObjectKind::Draft, &id.0), &bytes)?;
        self.put(&ObjectKey::new(ObjectKind::Fence, &id.0), &frame(ObjectKind::Fence, &[]))?;
        Ok(())
    }
}

fn snapshot(run: &Run<'_>, sources: Vec<Source>) -> Snapshot {
    let at = CREATED.seconds + i64::from(run.session) * 60;
    Snapshot {
        complete: true,
        host: "vector".into(),
        user: "root".into(),
        sequence: if run.parent.is_some() { 2 } else { 1 },
        previous: run.parent.map(|parent| SnapshotId([parent ^ 0xff; 16])),
        started: Timestamp { seconds: at, nanos: 1 },
        finished: Timestamp { seconds: at + 5, nanos: 999_999_999 },
        tags: vec!["golden".into()],
        program: "make_vectors".into(),
        sources,
        ..Snapshot::new(SnapshotId([run.session ^ 0xff; 16]), HOST)
    }
}
