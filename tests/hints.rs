//! What was backed up before is read again by the parent's chunk list, and a page file stays one.

mod scene;

use lifeboat::backup::{Counters, Options, Outcome, SourceSpec, backup};
use lifeboat::format::Node;
use lifeboat::format::entry::{Chunker, Content};
use lifeboat::format::list::{ListChild, ListNode, Piece};
use lifeboat::format::snapshot::SnapshotKind;
use lifeboat::{Quiet, Repository, restore};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::lists::read_list_node;
use lifeboat_repo::reader::ChunkReader;
use scene::noise;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// One chunk at most, before and behind a change.
const CHUNK_MAX: u64 = 64 << 10;

/// A repository, and one file that is backed up as a file or as a command's output.
struct Bench {
    folder: tempfile::TempDir,
    repository: Repository,
    options: Options,
    is_stream: bool,
}

/// What one snapshot of the file did.
struct Made {
    outcome: Outcome,
    content: Content,
    size: u64,
    scanned: u64,
    asked: u64,
}

impl Made {
    fn chunker(&self) -> Chunker {
        let Content::List(root) = self.content else { panic!("it has a list") };
        root.chunker
    }
}

impl Bench {
    fn new(is_stream: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = lifeboat::Secret::Passphrase(b"bench");
        let location = folder.path().join("repository");
        let repository = lifeboat::init(location.to_str().unwrap(), &secret).unwrap();
        let mut options = lifeboat::backup_options(folder.path());
        options.threads = 2;
        Self { folder, repository, options, is_stream }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    /// Writes the file, after a pause that lets its times tell.
    fn write(&self, content: &[u8]) {
        std::thread::sleep(std::time::Duration::from_millis(40));
        std::fs::write(self.file(), content).unwrap();
    }

    fn spec(&self) -> SourceSpec {
        match self.is_stream {
            true => SourceSpec::Command("s".into(), vec!["cat".into(), self.file().into()]),
            false => SourceSpec::Path(self.file()),
        }
    }

    fn snapshot(&self) -> Made {
        self.snapshot_with(&self.options)
    }

    /// Without a parent, so without hints.
    fn fresh(&self) -> Made {
        self.snapshot_with(&Options { kind: SnapshotKind::Full, ..self.options.clone() })
    }

    fn snapshot_with(&self, options: &Options) -> Made {
        let counters = Counters::default();
        let outcome = backup(&self.repository, &[self.spec()], options, &counters, &Quiet).unwrap();
        let reader = ChunkReader::new(&self.repository);
        let (_, entry) =
            TreeCursor::new(&reader, outcome.snapshot.sources[0].root).next_entry().unwrap().unwrap();
        let Node::File { content, size } = entry.node else { panic!("a file") };
        let [scanned, asked] =
            [&counters.bytes_scanned, &counters.chunks_asked].map(|count| count.load(Relaxed));
        Made { outcome, content, size, scanned, asked }
    }

    fn pieces(&self, made: &Made) -> Vec<Piece> {
        let Content::List(root) = made.content else { panic!("it has a list") };
        let reader = ChunkReader::new(&self.repository);
        self.below(&reader, ListChild { id: root.id, bytes: made.size }, root.height)
    }

    fn below(&self, reader: &ChunkReader, child: ListChild, height: u8) -> Vec<Piece> {
        match read_list_node(reader, &child, height).unwrap() {
            ListNode::Leaf(pieces) => pieces,
            ListNode::Inner(_, children) => {
                children.into_iter().flat_map(|child| self.below(reader, child, height - 1)).collect()
            }
        }
    }

    fn assert_restores(&self, made: &Made) {
        let (target, stop) = (self.folder.path().join("restored"), Default::default());
        let options = restore::Options::new(&stop);
        let source = &made.outcome.snapshot.sources[0];
        let path = if self.is_stream { b"command:s".to_vec() } else { source.name.clone() };
        lifeboat::restore_path(
            &self.repository,
            &made.outcome.snapshot,
            &path,
            &target,
            &options,
            &restore::Quiet,
        )
        .unwrap();
        // One file, in a folder.
        let restored = std::fs::read(&walk(&target)[0]).unwrap();
        assert!(restored == std::fs::read(self.file()).unwrap(), "restored as it was");
        std::fs::remove_dir_all(target).unwrap();
    }
}

/// What has everything that cuts differently: noise, zeros longer and shorter than a chunk, and text.
fn mixture() -> Vec<u8> {
    let text = b"a line of text that comes again and again\n".repeat(20_000);
    [
        noise("one", 6 * MIB),
        vec![0; 3 * MIB + 77],
        noise("two", MIB),
        vec![0; 9000],
        text,
        noise("three", MIB + 5),
    ]
    .concat()
}

#[test]
fn an_unchanged_stream_is_neither_scanned_nor_looked_up() {
    let bench = Bench::new(true);
    bench.write(&noise("stream", 20 * MIB + 123));
    let first = bench.snapshot();
    assert_eq!(first.scanned, first.size);
    let again = bench.snapshot();
    assert_eq!((again.scanned, again.asked), (0, 0));
    assert_eq!(again.content, first.content);
    assert_eq!(again.outcome.snapshot.statistics.data_blobs, 0);
    bench.assert_restores(&again);
}

#[test]
fn a_touched_file_is_neither_scanned_nor_looked_up() {
    let bench = Bench::new(false);
    let content = noise("file", 20 * MIB + 123);
    bench.write(&content);
    let first = bench.snapshot();
    bench.write(&content);
    let again = bench.snapshot();
    assert_eq!((again.scanned, again.asked), (0, 0));
    assert_eq!(again.content, first.content);
}

#[test]
fn zeros_and_text_come_out_as_in_a_fresh_cut() {
    for is_stream in [true, false] {
        let bench = Bench::new(is_stream);
        bench.write(&mixture());
        let first = bench.snapshot();
        bench.write(&mixture());
        let again = bench.snapshot();
        assert_eq!(again.content, first.content);
        // Only zeros, which are not named, are scanned.
        assert!(again.scanned <= 3 * MIB as u64 + 9077, "{} bytes scanned", again.scanned);
        assert_eq!(again.asked, 0);
        bench.assert_restores(&again);
    }
}

#[test]
fn only_what_changed_in_a_stream_is_scanned_and_the_list_is_that_of_a_fresh_cut() {
    let before = noise("before", 24 * MIB);
    let edit = |range: std::ops::Range<usize>, new: &[u8]| {
        [&before[..range.start], new, &before[range.end..]].concat()
    };
    let edits = [
        ("one byte", edit(7 * MIB..7 * MIB + 1, b"!"), 1),
        ("an insertion", edit(9 * MIB..9 * MIB, &noise("inserted", 100 * KIB)), 100 * KIB),
        ("a deletion", edit(9 * MIB..9 * MIB + 200 * KIB, b""), 0),
        ("a long stretch", edit(3 * MIB..11 * MIB, &noise("other", 8 * MIB)), 8 * MIB),
        ("more at the end", [&before[..], &noise("more", 50 * KIB)].concat(), 50 * KIB),
        ("less at the end", before[..23 * MIB].to_vec(), 0),
        ("the beginning", edit(0..1000, b"begins otherwise"), 1000),
    ];
    for (what, after, changed) in edits {
        let bench = Bench::new(true);
        bench.write(&before);
        bench.snapshot();
        bench.write(&after);
        let hinted = bench.snapshot();
        let most = changed as u64 + 4 * CHUNK_MAX;
        assert!(hinted.scanned <= most, "{what}: {} bytes scanned, {most} expected", hinted.scanned);
        assert!(hinted.asked <= most / (8 << 10), "{what}: {} chunks looked up", hinted.asked);
        assert_eq!(hinted.content, bench.fresh().content, "{what}");
        bench.assert_restores(&hinted);
    }
}

#[test]
fn what_a_parent_that_lost_a_pack_hints_at_is_stored_again() {
    let bench = Bench::new(true);
    bench.write(&noise("stream", 8 * MIB));
    bench.snapshot();
    let packs: Vec<PathBuf> = walk(&bench.folder.path().join("repository/packs"));
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    let again = bench.snapshot();
    assert!(again.asked > 0, "a parent that is not whole is not believed");
    assert!(again.outcome.snapshot.statistics.data_blobs > 0);
    bench.assert_restores(&again);
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// A relation: noise behind page headers as PostgreSQL writes them.
fn relation(pages: usize) -> Vec<u8> {
    let mut bytes = noise("relation", pages * 8 * KIB);
    for page in bytes.chunks_exact_mut(8 * KIB) {
        page[10..20].copy_from_slice(&[0, 0, 40, 0, 0, 4, 0, 32, 4, 32]);
    }
    bytes
}

#[test]
fn a_rewritten_page_is_one_new_chunk_and_one_question() {
    let bench = Bench::new(false);
    let mut bytes = relation(1000);
    bytes[8 * KIB * 500..8 * KIB * 520].fill(0);
    bench.write(&bytes);
    let first = bench.snapshot();
    assert_eq!((first.chunker(), first.scanned), (Chunker::Pages8K, 0));
    bytes[8 * KIB * 700 + 100] ^= 1;
    bench.write(&bytes);
    let second = bench.snapshot();
    assert_eq!((second.asked, second.outcome.snapshot.statistics.data_blobs), (1, 1));
    // A page is written where zeros were: it moves no other page to another node.
    bytes[8 * KIB * 510 + 100] ^= 1;
    bench.write(&bytes);
    let third = bench.snapshot();
    assert_eq!((third.asked, third.outcome.snapshot.statistics.data_blobs), (1, 1));
    // One leaf, the nodes above it, and one node of the tree.
    assert!(third.outcome.snapshot.statistics.tree_blobs <= 4);
    assert_eq!(third.content, bench.fresh().content);
    bench.assert_restores(&third);
}

#[test]
fn a_file_keeps_its_chunker_until_a_full_snapshot() {
    let bench = Bench::new(false);
    for (before, kept, after, anew) in [
        (relation(100), Chunker::Pages8K, noise("later", 800 * KIB), Chunker::Content),
        (noise("early", 800 * KIB), Chunker::Content, relation(100), Chunker::Pages8K),
    ] {
        bench.write(&before);
        assert_eq!(bench.fresh().chunker(), kept);
        bench.write(&after);
        let second = bench.snapshot();
        assert_eq!(second.chunker(), kept);
        bench.assert_restores(&second);
        assert_eq!(bench.fresh().chunker(), anew);
    }
}

#[test]
fn pages_stay_pages_behind_a_hole_that_ends_inside_one() {
    let bench = Bench::new(false);
    let bytes = relation(200);
    bench.write(b"");
    let file = File::options().write(true).open(bench.file()).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    // Two pages at the front, so that it is recognised; then a hole from and to the middle of a page.
    file.write_all_at(&bytes[..20 * KIB], 0).unwrap();
    file.write_all_at(&bytes[1020 * KIB..], 1020 * KIB as u64).unwrap();
    file.write_all_at(&bytes[400 * KIB..408 * KIB], 400 * KIB as u64).unwrap();
    drop(file);
    let made = bench.snapshot();
    assert_eq!(made.chunker(), Chunker::Pages8K);
    let mut position = 0;
    for piece in bench.pieces(&made) {
        if let Piece::Chunk(..) = piece {
            let page = position / (8 << 10);
            assert!(position + piece.bytes() <= (page + 1) * (8 << 10), "a chunk lies in one page");
        }
        position += piece.bytes();
    }
    assert_eq!(position, made.size);
    let pieces = bench.pieces(&made);
    assert_eq!(pieces[2..4].iter().map(Piece::bytes).collect::<Vec<_>>(), [4 << 10, 380 << 10]);
    bench.assert_restores(&made);
}
