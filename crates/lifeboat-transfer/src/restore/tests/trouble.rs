//! Damage, interruption, and reading back.

use super::*;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

/// A tree with small and large files.
fn tree() -> (Tree, Vec<Piece>) {
    let mut tree = Tree::new();
    tree.directory("d");
    for number in 0..200 {
        tree.file(&format!("d/{number:03}"), format!("content {number}").as_bytes());
    }
    let pieces: Vec<Piece> = (0..120).map(|byte| tree.chunk(byte, 1 << 18)).collect();
    tree.pieces("d/large", &pieces);
    tree.file("e", b"the last");
    (tree, pieces)
}

fn id_of(entry: &Entry) -> ChunkId {
    match entry.node {
        Node::File { content: Content::Chunk(id), .. } => id,
        Node::File { content: Content::List(root), .. } => root.id,
        _ => panic!("not a file with content"),
    }
}

#[test]
fn files_with_damaged_chunks_are_absent_and_named_and_the_rest_is_there() {
    let parent = temporary();
    let (mut tree, pieces) = tree();
    let small = id_of(&tree.entries[&path("d/100")]);
    tree.chunks.0.remove(&(ChunkKind::Data, small));
    let Piece::Chunk(in_large, _) = pieces[100] else { panic!("not a chunk") };
    tree.chunks.0.remove(&(ChunkKind::Data, in_large));
    let listed = tree.pieces("d/listed", &pieces[..90]).clone();
    tree.chunks.0.remove(&(ChunkKind::List, id_of(&listed)));
    let target = parent.path().join("target");
    let report = tree.restore(&target, &options()).unwrap();
    assert_eq!((report.failed, report.count_of(ProblemKind::Content), report.files), (3, 3, 200));
    let mut named: Vec<_> = report.problems.iter().map(|problem| problem.path.to_string()).collect();
    named.sort();
    assert_eq!(named, ["d/100", "d/large", "d/listed"]);
    for name in named {
        tree.entries.remove(&path(&name));
    }
    tree.assert_restored(&target);
}

#[test]
fn a_file_that_is_there_already_survives_the_damage_of_its_successor() {
    let parent = temporary();
    let (mut tree, pieces) = tree();
    let target = parent.path().join("target");
    std::fs::create_dir_all(target.join("d")).unwrap();
    std::fs::write(target.join("d/large"), b"old").unwrap();
    std::fs::write(target.join("e"), b"old").unwrap();
    let Piece::Chunk(in_large, _) = pieces[0] else { panic!("not a chunk") };
    tree.chunks.0.remove(&(ChunkKind::Data, in_large));
    tree.chunks.0.remove(&(ChunkKind::Data, id_of(&tree.entries[&path("e")])));
    let report = tree.restore(&target, &options()).unwrap();
    assert_eq!(report.failed, 2);
    assert_eq!(std::fs::read(target.join("d/large")).unwrap(), b"old");
    assert_eq!(std::fs::read(target.join("e")).unwrap(), b"old");
    assert_eq!(count_below(&target), tree.entries.len());
}

/// Raises the flag at the so-manieth chunk.
struct Raising<'c>(&'c Chunks, AtomicUsize, &'c AtomicBool);

impl ChunkReader for Raising<'_> {
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.2.store(true, Ordering::Relaxed);
        }
        self.0.read_chunk(kind, id, output)
    }

    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.0.is_chunk(id, bytes)
    }
}

#[test]
fn an_interrupted_restore_leaves_only_complete_files_and_can_be_repeated() {
    let (tree, _) = tree();
    for at in [1, 50, 150, 230, 260, 320] {
        let parent = temporary();
        let target = parent.path().join("target");
        let flag = AtomicBool::new(false);
        let reader = Raising(&tree.chunks, AtomicUsize::new(at), &flag);
        let with = Options { interrupt: &flag, ..options() };
        let mut entries = tree.stream(&TreePath::root()).into_iter();
        let result = restore(&mut entries, &TreePath::root(), &reader, &target, &with, &Quiet);
        assert!(matches!(result, Err(Error::Interrupted)), "at {at}");
        for (at, entry) in &tree.entries {
            let place = place_of(&target, at);
            if !entry.is_directory() && place.exists() {
                assert_eq!(std::fs::read(&place).unwrap(), tree.content(entry), "{at}");
            }
        }
        assert!(count_below(&target) < tree.entries.len());
        tree.restore_exactly(&target, &options());
    }
}

/// Writes into the file that is being restored, as soon as its last chunk was read for the first time.
struct Meddling<'c> {
    chunks: &'c Chunks,
    id: ChunkId,
    place: PathBuf,
    seen: Mutex<u32>,
}

impl ChunkReader for Meddling<'_> {
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        if *id == self.id {
            let mut seen = self.seen.lock().unwrap();
            *seen += 1;
            if *seen == 2 {
                std::fs::write(&self.place, b"THE LAST").unwrap();
            }
        }
        self.chunks.read_chunk(kind, id, output)
    }

    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.chunks.is_chunk(id, bytes)
    }
}

#[test]
fn verifying_finds_what_reads_back_otherwise() {
    let parent = temporary();
    let (tree, _) = tree();
    let target = parent.path().join("target");
    let verify = Options { verify: true, ..options() };
    tree.restore_exactly(&parent.path().join("undisturbed"), &verify);
    let id = id_of(&tree.entries[&path("e")]);
    let reader = Meddling { chunks: &tree.chunks, id, place: target.join("e"), seen: Mutex::new(0) };
    let mut entries = tree.stream(&TreePath::root()).into_iter();
    let report = restore(&mut entries, &TreePath::root(), &reader, &target, &verify, &Quiet).unwrap();
    assert_eq!((report.failed, report.count_of(ProblemKind::Content)), (1, 1));
    assert!(!target.join("e").exists());
}

#[test]
fn problems_are_told_as_they_happen_and_listed_up_to_a_bound() {
    #[derive(Default)]
    struct Counting(AtomicUsize, AtomicUsize);
    impl Progress for Counting {
        fn advanced(&self, entries: u64, _: u64) {
            self.1.fetch_add(entries as usize, Ordering::Relaxed);
        }
        fn problem(&self, _: &Problem) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let parent = temporary();
    let mut tree = Tree::new();
    for number in 0..3000 {
        tree.file(&format!("{number}"), b"x").metadata.uid = u32::MAX;
    }
    let (progress, root) = (Counting::default(), TreePath::root());
    let mut entries = tree.stream(&root).into_iter();
    let target = parent.path().join("target");
    let report = restore(&mut entries, &root, &tree.chunks, &target, &options(), &progress).unwrap();
    assert_eq!((report.count_of(ProblemKind::Owner), report.problems.len()), (3000, 1000));
    assert_eq!((progress.0.into_inner(), progress.1.into_inner()), (3000, 3001));
}

#[test]
fn a_target_that_is_a_file_is_refused() {
    let parent = temporary();
    let target = parent.path().join("target");
    std::fs::write(&target, b"x").unwrap();
    let (tree, _) = tree();
    assert_eq!(tree.restore(&target, &options()).unwrap_err().kind(), ErrorKind::Target);
    assert_eq!(std::fs::read(&target).unwrap(), b"x");
}
