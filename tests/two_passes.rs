//! Two passes show one moment, read twice only what changed, and hold nobody longer than they read.

mod scene;

use lifeboat::backup::{
    Claims, Counters, Folder, MemoryFile, Options, Outcome, Quiesce, Remainder, SourceSpec, TreeSpec,
    Verdict, backup_quiesced,
};
use lifeboat::format::snapshot::SourceKind;
use lifeboat::format::{Metadata, TreePath};
use lifeboat::{Quiet, Repository, restore};
use scene::mapper::Mapper;
use scene::{noise, tree};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Services that the test plays: what happens when they are held and released.
struct Services<'s> {
    held: Box<dyn Fn(u32) -> Result<(), String> + 's>,
    verdicts: RefCell<Vec<Verdict>>,
    holds: Cell<u32>,
    releases: Cell<u32>,
    released: Box<dyn Fn() + 's>,
    /// Of a database that mends what was read while it wrote.
    remainder: Option<Remainder>,
    prepared: Cell<u32>,
}

impl<'s> Services<'s> {
    fn new(held: impl Fn(u32) -> Result<(), String> + 's) -> Self {
        Self {
            held: Box::new(held),
            verdicts: RefCell::default(),
            holds: Cell::new(0),
            releases: Cell::new(0),
            released: Box::new(|| {}),
            remainder: None,
            prepared: Cell::new(0),
        }
    }
}

impl Quiesce for Services<'_> {
    fn prepare(&self, _: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(self.prepared.get(), self.releases.get(), "before each first pass, once");
        self.prepared.set(self.prepared.get() + 1);
        Ok(())
    }

    fn mended(&self, _: &SourceSpec) -> Option<TreePath> {
        self.remainder.as_ref().map(|_| TreePath::from_slashes(b"db").unwrap())
    }

    fn remainder(&self, _: &SourceSpec) -> Remainder {
        assert_eq!(self.holds.get(), self.releases.get() + 1, "while holding");
        self.remainder.clone().unwrap_or_default()
    }

    fn hold(&self, round: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        (self.held)(round)?;
        self.holds.set(self.holds.get() + 1);
        Ok(())
    }

    fn release(&self) -> Verdict {
        self.releases.set(self.releases.get() + 1);
        (self.released)();
        self.verdicts.borrow_mut().pop().unwrap_or(Verdict::Kept)
    }

    fn claims(&self) -> Claims {
        let consistency = r#"{"moment":"played"}"#.into();
        Claims { unhealthy: vec!["api: unhealthy".into()], consistency, details: vec![(0, "{}".into())] }
    }
}

/// A repository and one volume.
struct Bench {
    folder: tempfile::TempDir,
    repository: Repository,
    options: Options,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = lifeboat::Secret::Passphrase(b"bench");
        let repository = lifeboat::init(folder.path().join("repository").to_str().unwrap(), &secret).unwrap();
        let mut options = lifeboat::backup_options(folder.path());
        options.threads = 2;
        std::fs::create_dir(folder.path().join("volume")).unwrap();
        Self { folder, repository, options }
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("volume")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.volume().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn spec(&self) -> SourceSpec {
        SourceSpec::Tree(TreeSpec::folder(SourceKind::Volume, "data", self.volume()))
    }

    fn take(&self, specs: &[SourceSpec], services: &Services<'_>) -> (lifeboat::Result<Outcome>, Counters) {
        let counters = Counters::default();
        let outcome = backup_quiesced(&self.repository, specs, &self.options, &counters, &Quiet, services);
        (outcome, counters)
    }

    fn restored(&self, outcome: &Outcome, path: &str) -> PathBuf {
        let (target, stop) = (self.folder.path().join("restored"), Default::default());
        scene::remove(&target);
        let options = restore::Options::new(&stop);
        lifeboat::restore_path(
            &self.repository,
            &outcome.snapshot,
            path.as_bytes(),
            &target,
            &options,
            &restore::Quiet,
        )
        .unwrap();
        target
    }
}

/// Past the time within which a file is read again anyway.
fn pause() {
    std::thread::sleep(Duration::from_millis(60));
}

#[test]
fn only_what_changed_after_the_first_pass_began_is_read_twice() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.write(&format!("{}/{number}", number % 7), noise(&format!("{number}"), 20_000));
    }
    bench.write("grown", noise("grown", 5 << 20));
    bench.write("gone", "gone");
    pause();
    let services = Services::new(|_| {
        bench.write("3/17", noise("changed", 30_000));
        bench.write("new", "new");
        let mut grown = std::fs::OpenOptions::new().append(true).open(bench.volume().join("grown")).unwrap();
        grown.write_all(b"more").unwrap();
        std::fs::remove_file(bench.volume().join("gone")).unwrap();
        std::fs::rename(bench.volume().join("5"), bench.volume().join("moved")).unwrap();
        Ok(())
    });
    let (outcome, counters) = bench.take(&[bench.spec()], &services);
    let outcome = outcome.unwrap();
    let moved = (0..300).filter(|number| number % 7 == 5).count() as u64;
    assert_eq!(counters.files_reread.load(Relaxed), 3 + moved);
    assert_eq!(counters.bytes_reread.load(Relaxed), 30_000 + 3 + (5 << 20) + 4 + moved * 20_000);
    assert_eq!((services.holds.get(), services.releases.get()), (1, 1));
    let figures = &outcome.snapshot.statistics;
    assert_eq!((figures.files_new, figures.files_changed), (302, 0), "the first pass counts");
    tree::assert_same(
        &tree::survey(&bench.volume()),
        &tree::survey(&bench.restored(&outcome, "volume:data")),
    );
    // The list of the large file goes along with the first pass's: nothing of it is searched but its end.
    assert!(counters.bytes_scanned.load(Relaxed) < (5 << 20) + (1 << 20));
}

#[test]
fn nothing_is_read_twice_where_nothing_changed() {
    let bench = Bench::new();
    for number in 0..50 {
        bench.write(&format!("{number}"), noise(&format!("{number}"), 2000));
    }
    pause();
    let services = Services::new(|_| Ok(()));
    let (outcome, counters) = bench.take(&[bench.spec()], &services);
    assert_eq!((counters.files_reread.load(Relaxed), counters.bytes_reread.load(Relaxed)), (0, 0));
    let first = outcome.unwrap();
    let claims = &first.snapshot;
    assert_eq!(claims.unhealthy, ["api: unhealthy"]);
    assert_eq!(
        (claims.consistency.as_str(), claims.sources[0].detail.as_str()),
        (r#"{"moment":"played"}"#, "{}")
    );
    let (second, counters) = bench.take(&[bench.spec()], &services);
    assert_eq!(counters.bytes_done.load(Relaxed), 50 * 2000);
    let second = second.unwrap().snapshot;
    assert_eq!(second.statistics.files_unmodified, 50);
    assert_eq!(second.sources[0].root, first.snapshot.sources[0].root);
    assert_eq!(second.sources[0].parent, Some(first.snapshot.id));
    let listed = bench.repository.snapshots().unwrap();
    assert_eq!(listed.snapshots[0].snapshot, first.snapshot, "claims and details are stored");
}

#[test]
fn a_store_through_a_mapping_between_the_passes_is_in_the_snapshot() {
    let bench = Bench::new();
    bench.write("other", "other");
    let mut mapper = Mapper::start(&bench.volume().join("mapped"));
    mapper.wait_for_store();
    pause();
    let mapper = RefCell::new(mapper);
    let services = Services::new(|_| {
        // Into the page that is dirty already, unless the first pass had it written back.
        mapper.borrow_mut().go_on();
        mapper.borrow_mut().wait_for_store();
        Ok(())
    });
    let (outcome, counters) = bench.take(&[bench.spec()], &services);
    assert_eq!(counters.files_reread.load(Relaxed), 1);
    let restored = bench.restored(&outcome.unwrap(), "volume:data/mapped");
    assert_eq!(&std::fs::read(restored.join("mapped")).unwrap()[..4], b"2222");
}

#[test]
fn services_are_released_before_anything_is_committed() {
    let bench = Bench::new();
    bench.write("a", noise("a", 100_000));
    pause();
    let repository = bench.folder.path().join("repository");
    let packs = |folder: &Path| {
        let all = std::fs::read_dir(folder.join("packs")).unwrap().flatten();
        all.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten()).count()
    };
    let at_release = Cell::new((usize::MAX, usize::MAX));
    let mut services = Services::new(|_| {
        bench.write("b", noise("b", 40 << 20));
        Ok(())
    });
    services.released = Box::new(|| {
        let listed = std::fs::read_dir(repository.join("snapshots")).map_or(0, Iterator::count);
        at_release.set((listed, packs(&repository)));
    });
    let outcome = bench.take(&[bench.spec()], &services).0.unwrap();
    // The pack of the first pass; what the second one read is still on its way.
    assert_eq!(at_release.get(), (0, 1));
    assert!(packs(&repository) > 2);
    tree::assert_same(
        &tree::survey(&bench.volume()),
        &tree::survey(&bench.restored(&outcome, "volume:data")),
    );
}

#[test]
fn a_moment_that_was_not_kept_is_taken_again() {
    let bench = Bench::new();
    bench.write("a", "1");
    pause();
    let services = Services::new(|round| {
        bench.write("a", format!("round {round}"));
        Ok(())
    });
    services.verdicts.borrow_mut().extend([Verdict::Kept, Verdict::Again("db restarted".into())]);
    let (outcome, counters) = bench.take(&[bench.spec()], &services);
    assert_eq!((services.prepared.get(), services.holds.get(), services.releases.get()), (2, 2, 2));
    assert_eq!(outcome.as_ref().unwrap().snapshot.statistics.files_new, 1, "no file counts twice");
    assert!(counters.files_reread.load(Relaxed) >= 2);
    let restored = bench.restored(&outcome.unwrap(), "volume:data");
    assert_eq!(std::fs::read_to_string(restored.join("a")).unwrap(), "round 2");
    // A moment that is never kept ends after three rounds.
    let services = Services::new(|_| Ok(()));
    services.verdicts.borrow_mut().extend(vec![Verdict::Again("db restarts".into()); 9]);
    bench.take(&[bench.spec()], &services).0.unwrap();
    assert_eq!((services.holds.get(), services.releases.get()), (3, 3));
}

#[test]
fn services_that_cannot_be_held_make_no_snapshot_and_are_not_released() {
    let bench = Bench::new();
    bench.write("a", "1");
    let services = Services::new(|_| Err("no such container".into()));
    let error = bench.take(&[bench.spec()], &services).0.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no such container"));
    assert_eq!(services.releases.get(), 0);
    assert!(bench.repository.snapshots().unwrap().snapshots.is_empty());
}

#[test]
fn services_are_released_when_the_source_is_gone_or_the_user_interrupts() {
    let bench = Bench::new();
    bench.write("a", "1");
    let services = Services::new(|_| {
        std::fs::remove_dir_all(bench.volume()).unwrap();
        Ok(())
    });
    let error = bench.take(&[bench.spec()], &services).0.unwrap_err();
    assert!(matches!(error, lifeboat::Error::Source { .. }), "{error}");
    assert_eq!(services.releases.get(), 1);
    bench.write("a", "1");
    let counters = Counters::default();
    let services = Services::new(|_| {
        counters.interrupted.store(true, Relaxed);
        Ok(())
    });
    let specs = [bench.spec()];
    let outcome = backup_quiesced(&bench.repository, &specs, &bench.options, &counters, &Quiet, &services);
    assert!(outcome.unwrap_err().is_interrupted());
    assert_eq!(services.releases.get(), 1);
    assert!(bench.repository.snapshots().unwrap().snapshots.is_empty());
}

#[test]
fn what_a_database_mends_is_taken_as_it_was_read_first_and_its_log_is_read_last() {
    let bench = Bench::new();
    let old = noise("old", 3 << 20);
    bench.write("beside", "before");
    bench.write("db/base/1", &old);
    bench.write("db/base/2", "dropped later");
    bench.write("db/log/1", "written before");
    bench.write("db/log.old", "of another name");
    bench.write("db/pid", "of a process");
    pause();
    let mut services = Services::new(|_| {
        bench.write("beside", "no database, no log");
        bench.write("db/base/1", noise("new", 3 << 20));
        bench.write("db/base/3", "made later");
        std::fs::remove_file(bench.volume().join("db/base/2")).unwrap();
        std::fs::remove_file(bench.volume().join("db/log/1")).unwrap();
        bench.write("db/log/2", "written meanwhile");
        bench.write("db/log.old", "changed too");
        Ok(())
    });
    let at = |path: &str| TreePath::from_slashes(path.as_bytes()).unwrap();
    let label =
        MemoryFile { at: at("db/label"), bytes: b"begun there".into(), metadata: Metadata::default() };
    services.remainder =
        Some(Remainder { again: vec![at("db/log")], files: vec![label], without: vec![at("db/pid")] });
    let (outcome, counters) = bench.take(&[bench.spec()], &services);
    let outcome = outcome.unwrap();
    let restored = bench.restored(&outcome, "volume:data");
    let read = |name: &str| std::fs::read(restored.join(name)).unwrap();
    assert_eq!(read("beside"), b"no database, no log");
    assert_eq!(read("db/base/1"), old);
    assert_eq!(read("db/base/2"), b"dropped later");
    for absent in ["base/3", "log/1", "pid"] {
        assert!(!restored.join("db").join(absent).exists(), "{absent}");
    }
    assert_eq!(
        (read("db/log/2"), read("db/log.old")),
        (b"written meanwhile".into(), b"of another name".into())
    );
    assert_eq!(read("db/label"), b"begun there");
    // `beside`, the log, and the label.
    assert_eq!((counters.files_reread.load(Relaxed), services.prepared.get()), (1 + 1 + 1, 1));
    assert_eq!(outcome.torn, 0);
    // Nothing of it is taken for what it has become since.
    let services = Services::new(|_| Ok(()));
    let outcome = bench.take(&[bench.spec()], &services).0.unwrap();
    tree::assert_same(
        &tree::survey(&bench.volume()),
        &tree::survey(&bench.restored(&outcome, "volume:data")),
    );
}

#[test]
fn only_a_file_that_nobody_vouches_for_is_told_to_be_written_on() {
    let bench = Bench::new();
    let (log, beside) = ("db/log/1", "beside");
    [log, beside].into_iter().for_each(|name| bench.write(name, noise(name, 32 << 20)));
    pause();
    let at = |path: &str| TreePath::from_slashes(path.as_bytes()).unwrap();
    for (written_on, torn) in [(log, 0), (beside, 1)] {
        let path = bench.volume().join(written_on);
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let (holding, held) = std::sync::mpsc::channel();
            let (path, stop) = (&path, &stop);
            scope.spawn(move || {
                held.recv().unwrap();
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                for number in (0u64..).map(|number| number * 1_000_003 % (32 << 20)) {
                    file.write_all_at(b"change", number).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                    if stop.load(Relaxed) {
                        break;
                    }
                }
            });
            let mut services = Services::new(move |_| {
                holding.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                Ok(())
            });
            services.remainder = Some(Remainder { again: vec![at("db/log")], ..Remainder::default() });
            let outcome = bench.take(&[bench.spec()], &services).0;
            stop.store(true, Relaxed);
            outcome.unwrap()
        });
        assert_eq!(outcome.torn, torn, "{written_on}");
    }
}

#[test]
fn a_source_of_parts_is_one_tree() {
    let bench = Bench::new();
    bench.write("etc/app.conf", "on disk");
    let at = |path: &str| TreePath::from_slashes(path.as_bytes()).unwrap();
    let metadata = Metadata { mode: 0o640, uid: 7, ..Metadata::default() };
    let file =
        |path: &str, text: &str| MemoryFile { at: at(path), bytes: text.into(), metadata: metadata.clone() };
    let spec = TreeSpec {
        folders: vec![Folder { at: at("layer"), ..Folder::new(bench.volume()) }],
        files: vec![file("container.json", "{}"), file("layer/etc/app.conf", "in memory")],
        ..TreeSpec::folder(SourceKind::Container, "api", "")
    };
    let services = Services::new(|_| Ok(()));
    let outcome = bench.take(&[SourceSpec::Tree(spec)], &services).0.unwrap();
    let restored = bench.restored(&outcome, "container:api");
    assert_eq!(std::fs::read_to_string(restored.join("container.json")).unwrap(), "{}");
    assert_eq!(std::fs::read_to_string(restored.join("layer/etc/app.conf")).unwrap(), "in memory");
    let status = rustix::fs::stat(restored.join("container.json")).unwrap();
    assert_eq!(status.st_mode & 0o7777, 0o640);
}
