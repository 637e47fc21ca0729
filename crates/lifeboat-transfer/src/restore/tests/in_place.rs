//! Restoring over files that are nearly right: what is read, what is written, and what is left alone.

use super::*;
use proptest::prelude::*;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Mutex;

const PIECE: usize = 1 << 16;
/// So many pieces make a file that may be changed in its place.
const PIECES: usize = 160;

/// Counts the data chunks that are read, and acts before one of them is.
struct Counting<'c> {
    chunks: &'c Chunks,
    reads: Mutex<Vec<ChunkId>>,
    act: Box<dyn Fn() + Send + Sync + 'c>,
}

impl<'c> Counting<'c> {
    fn new(chunks: &'c Chunks, act: impl Fn() + Send + Sync + 'c) -> Self {
        Self { chunks, reads: Mutex::default(), act: Box::new(act) }
    }
}

impl ChunkReader for Counting<'_> {
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        if kind == ChunkKind::Data {
            self.reads.lock().unwrap().push(*id);
            (self.act)();
        }
        self.chunks.read_chunk(kind, id, output)
    }

    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.chunks.is_chunk(id, bytes)
    }
}

const ALWAYS: Overwrite = Overwrite::Always;

/// A large file with data, zeros and a hole, restored once.
fn large() -> (TempDir, PathBuf, Tree) {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    let mut pieces: Vec<Piece> = (0..PIECES).map(|number| tree.chunk(number as u8, PIECE)).collect();
    pieces.insert(40, Piece::Hole(PIECE as u64));
    pieces.insert(20, Piece::Zeros(PIECE as u64));
    tree.pieces("f", &pieces);
    tree.restore_exactly(&target, &options());
    (parent, target, tree)
}

fn counted(tree: &Tree, target: &Path, act: impl Fn() + Send + Sync) -> (Report, usize) {
    let reader = Counting::new(&tree.chunks, act);
    let root = TreePath::root();
    let with = Options { overwrite: ALWAYS, ..options() };
    let report = restore(&mut tree.stream(&root).into_iter(), &root, &reader, target, &with, &Quiet).unwrap();
    let reads = reader.reads.lock().unwrap().len();
    (report, reads)
}

fn open(place: &Path) -> std::fs::File {
    std::fs::File::options().read(true).write(true).open(place).unwrap()
}

fn blocks(place: &Path) -> (u64, u64) {
    let found = std::fs::metadata(place).unwrap();
    (found.ino(), found.blocks())
}

/// The inode, and where it has data. Not the number of its blocks: ext4 counts its own for lists of extents among them.
fn layout(place: &Path) -> (u64, Vec<std::ops::Range<u64>>) {
    let file = open(place);
    let (mut at, mut found) = (0, Vec::new());
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(data)).unwrap();
        found.push(data..at);
    }
    (file.metadata().unwrap().ino(), found)
}

#[test]
fn a_tree_that_is_right_already_costs_no_chunk_and_no_write_and_only_its_metadata_is_mended() {
    let (_parent, target, mut tree) = large();
    tree.directory("d");
    for number in 0..300 {
        tree.file(&format!("d/{number:03}"), format!("content {number}").as_bytes());
    }
    tree.file("d/empty", b"");
    tree.restore_exactly(&target, &options());
    let inodes = |at: &str| blocks(&target.join(at));
    let before = ["f", "d/007"].map(inodes);
    let time = std::time::UNIX_EPOCH;
    for name in ["f", "d/007"] {
        open(&target.join(name)).set_modified(time).unwrap();
        std::fs::set_permissions(target.join(name), std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    let (report, reads) = counted(&tree, &target, || ());
    assert!(report.is_exact(), "{:?}", report.problems);
    assert_eq!((reads, report.files, report.bytes, report.kept), (0, 0, 0, 302));
    assert_eq!(["f", "d/007"].map(inodes), before);
    tree.assert_restored(&target);
}

#[test]
fn what_differs_in_a_large_file_is_written_in_its_place_and_nothing_else_is_read() {
    let (_parent, target, tree) = large();
    let place = target.join("f");
    let before = layout(&place);
    let file = open(&place);
    // A byte of a chunk, a byte of the zeros, data in the hole, a hole in data and in the zeros, and a tail.
    file.write_at(b"x", 5 * PIECE as u64 + 7).unwrap();
    file.write_at(b"x", 20 * PIECE as u64 + 7).unwrap();
    file.write_at(b"x", 41 * PIECE as u64 + 9000).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 100 * PIECE as u64, 4096).unwrap();
    file.write_at(b"longer", (PIECES as u64 + 2) * PIECE as u64).unwrap();
    drop(file);
    let (report, reads) = counted(&tree, &target, || ());
    assert!(report.is_exact(), "{:?}", report.problems);
    assert_eq!((report.files, report.patched, reads), (1, 1, 2));
    assert_eq!(report.bytes, 3 * PIECE as u64);
    assert_eq!(report.unchanged, (PIECES as u64 - 2) * PIECE as u64);
    tree.assert_restored(&target);
    assert_eq!(layout(&place), before, "the inode and its holes");
    assert_eq!(counted(&tree, &target, || ()).0.bytes, 0);
}

#[test]
fn a_file_cut_short_is_extended_in_its_place_and_one_that_grew_is_only_cut() {
    let (_parent, target, tree) = large();
    let before = layout(&target.join("f"));
    open(&target.join("f")).set_len(150 * PIECE as u64 + 5).unwrap();
    let (report, reads) = counted(&tree, &target, || ());
    assert_eq!((report.patched, reads, report.bytes), (1, 12, 12 * PIECE as u64));
    tree.assert_restored(&target);
    open(&target.join("f")).set_len(500 * PIECE as u64).unwrap();
    let (report, reads) = counted(&tree, &target, || ());
    assert_eq!((report.patched, reads, report.bytes), (1, 0, 0));
    tree.assert_restored(&target);
    assert_eq!(layout(&target.join("f")), before);
}

#[test]
fn a_file_that_is_mostly_different_is_replaced_and_what_it_shares_is_not_fetched() {
    let (_parent, target, tree) = large();
    let before = blocks(&target.join("f")).0;
    open(&target.join("f")).write_at(&vec![7; 100 * PIECE], 60 * PIECE as u64).unwrap();
    let (report, reads) = counted(&tree, &target, || ());
    assert_eq!((report.files, report.patched, reads), (1, 0, 100));
    assert_ne!(blocks(&target.join("f")).0, before);
    tree.assert_restored(&target);
}

#[test]
fn a_file_with_a_second_name_outside_or_wider_permissions_or_setuid_is_replaced() {
    let spoil = |place: &Path| open(place).write_all_at(b"x", 7).unwrap();
    let (parent, target, mut tree) = large();
    let (place, outside) = (target.join("f"), parent.path().join("outside"));
    std::fs::hard_link(&place, &outside).unwrap();
    spoil(&place);
    let content = std::fs::read(&outside).unwrap();
    let (report, reads) = counted(&tree, &target, || ());
    assert_eq!((report.files, report.patched, reads), (1, 0, 1));
    tree.assert_restored(&target);
    assert_eq!(std::fs::read(&outside).unwrap(), content, "a file outside was changed");
    // Equal content with a second name outside gets no other metadata either.
    std::fs::remove_file(&outside).unwrap();
    std::fs::hard_link(&place, &outside).unwrap();
    tree.entries.get_mut(&path("f")).unwrap().metadata.mode = 0o600;
    counted(&tree, &target, || ());
    tree.assert_restored(&target);
    assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o777, 0o644);
    // Whoever has it open with wider rights must not see what only the owner may.
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o644)).unwrap();
    spoil(&place);
    assert_eq!(counted(&tree, &target, || ()).0.patched, 0);
    tree.assert_restored(&target);
    tree.entries.get_mut(&path("f")).unwrap().metadata.mode = 0o4755;
    counted(&tree, &target, || ());
    spoil(&place);
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(counted(&tree, &target, || ()).0.patched, 0);
    tree.assert_restored(&target);
}

#[test]
fn damage_and_interruption_leave_a_large_file_as_it_was() {
    let (_parent, target, mut tree) = large();
    let place = target.join("f");
    let file = open(&place);
    file.write_at(b"x", 5 * PIECE as u64).unwrap();
    file.write_at(b"x", 80 * PIECE as u64).unwrap();
    let look = || (std::fs::read(&place).unwrap(), std::fs::metadata(&place).unwrap().modified().unwrap());
    let before = look();
    let flag = AtomicBool::new(false);
    let reader = Counting::new(&tree.chunks, || flag.store(true, Ordering::Relaxed));
    let with = Options { overwrite: ALWAYS, interrupt: &flag, ..options() };
    let root = TreePath::root();
    let result = restore(&mut tree.stream(&root).into_iter(), &root, &reader, &target, &with, &Quiet);
    assert!(matches!(result, Err(Error::Interrupted)));
    drop(reader);
    assert!(look() == before, "an interruption changed it");
    let Node::File { size, content } = &tree.entries[&path("f")].node else { panic!("not a file") };
    let pieces: Vec<Piece> =
        crate::pieces::Pieces::new(&tree.chunks, content, *size).map(Result::unwrap).collect();
    let Piece::Chunk(id, _) = pieces[80] else { panic!("not a chunk") };
    tree.chunks.0.remove(&(ChunkKind::Data, id));
    let report = tree.restore(&target, &Options { overwrite: ALWAYS, ..options() }).unwrap();
    assert_eq!((report.failed, report.count_of(ProblemKind::Content)), (1, 1));
    assert!(look() == before, "damage in the repository changed it");
    assert_eq!(count_below(&target), 2);
}

#[test]
fn a_file_that_somebody_writes_to_meanwhile_is_replaced_as_a_whole() {
    let (_parent, target, tree) = large();
    let place = target.join("f");
    let before = blocks(&place).0;
    open(&place).write_at(b"x", 5 * PIECE as u64).unwrap();
    let writer = open(&place);
    let (report, _) = counted(&tree, &target, || writer.write_all_at(b"y", 90 * PIECE as u64).unwrap());
    assert!(report.is_exact(), "{:?}", report.problems);
    assert_eq!((report.files, report.patched), (1, 0));
    assert_ne!(blocks(&place).0, before);
    tree.assert_restored(&target);
}

#[test]
fn a_program_that_runs_is_replaced() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    let program = std::fs::read("/bin/sleep").unwrap();
    let mut pieces: Vec<Piece> = program
        .chunks(PIECE)
        .map(|part| Piece::Chunk(tree.chunks.put(ChunkKind::Data, part.to_vec()), part.len() as u32))
        .collect();
    pieces.extend((0..PIECES).map(|number| tree.chunk(number as u8, PIECE)));
    tree.pieces("sleep", &pieces).metadata.mode = 0o755;
    tree.restore_exactly(&target, &options());
    let place = target.join("sleep");
    open(&place).write_at(b"x", (100 * PIECE + program.len()) as u64).unwrap();
    let mut running = std::process::Command::new(&place).arg("100").spawn().unwrap();
    let report = tree.restore_exactly(&target, &Options { overwrite: ALWAYS, ..options() });
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!((report.files, report.patched), (1, 0));
}

#[test]
fn what_was_changed_in_its_place_is_verified_too_and_a_dry_run_foretells_it() {
    let (_parent, target, tree) = large();
    open(&target.join("f")).write_at(b"x", 5 * PIECE as u64).unwrap();
    let with = Options { overwrite: ALWAYS, ..options() };
    let foretold = tree.restore(&target, &Options { dry_run: true, ..with }).unwrap();
    let done = tree.restore_exactly(&target, &Options { verify: true, ..with });
    assert_eq!(foretold.files, 1);
    let of = |report: &Report| (report.files, report.patched, report.bytes, report.unchanged, report.kept);
    assert_eq!(of(&foretold), of(&done));
    let foretold = tree.restore(&target, &Options { dry_run: true, ..with }).unwrap();
    assert_eq!(of(&foretold), of(&tree.restore_exactly(&target, &with)));
    assert_eq!((foretold.kept, foretold.bytes), (1, 0));
}

/// What somebody does to a file.
#[derive(Debug, Clone)]
enum Edit {
    Write(u64, usize),
    Zero(u64, usize),
    Punch(u64, usize),
    Length(u64),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let end = (PIECES as u64 + 10) * PIECE as u64;
    let edit = prop_oneof![
        (0..end, 1usize..200_000).prop_map(|(at, bytes)| Edit::Write(at, bytes)),
        (0..end, 1usize..200_000).prop_map(|(at, bytes)| Edit::Zero(at, bytes)),
        (0..end, 1usize..200_000).prop_map(|(at, bytes)| Edit::Punch(at, bytes)),
        (end / 2..end).prop_map(Edit::Length),
    ];
    proptest::collection::vec(edit, 0..8)
}

/// Does it, and gives the stretch that it touches.
fn edit(file: &std::fs::File, edit: &Edit) -> std::ops::Range<u64> {
    let length = file.metadata().unwrap().len();
    match *edit {
        Edit::Write(at, bytes) => file.write_all_at(&vec![7; bytes], at).unwrap(),
        Edit::Zero(at, bytes) => file.write_all_at(&vec![0; bytes], at).unwrap(),
        Edit::Punch(at, bytes) => {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, punch, at, bytes as u64).unwrap();
        }
        Edit::Length(to) => file.set_len(to).unwrap(),
    }
    match *edit {
        Edit::Write(at, bytes) | Edit::Zero(at, bytes) | Edit::Punch(at, bytes) => {
            at.min(length)..(at + bytes as u64)
        }
        Edit::Length(to) => to.min(length)..to.max(length),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn whatever_was_done_to_a_file_it_is_restored_and_no_piece_is_read_that_nobody_touched(edits in edits()) {
        let (_parent, target, tree) = large();
        let file = open(&target.join("f"));
        let touched: Vec<_> = edits.iter().map(|done| edit(&file, done)).collect();
        drop(file);
        let (report, reads) = counted(&tree, &target, || ());
        prop_assert!(report.is_exact(), "{:?}", report.problems);
        tree.assert_restored(&target);
        let fresh = temporary();
        tree.restore_exactly(&fresh.path().join("x"), &options());
        prop_assert_eq!(layout(&target.join("f")).1, layout(&fresh.path().join("x/f")).1);
        let is_touched = |number: u64| {
            let (start, end) = (number * PIECE as u64, (number + 1) * PIECE as u64);
            touched.iter().any(|stretch| stretch.start < end && stretch.end > start)
        };
        let pieces = (0..PIECES as u64 + 2).filter(|number| is_touched(*number)).count();
        prop_assert!(reads <= pieces, "{reads} chunks were read for {pieces} touched pieces");
    }
}
