//! What many increments have scattered over the packs is restored without opening every region again and again.

mod scene;

use lifeboat::backup::{Options, SourceSpec, backup};
use lifeboat::format::config::Parameters;
use lifeboat::format::seal::Key;
use lifeboat::format::snapshot::SnapshotKind;
use lifeboat::format::{ObjectKind, Timestamp};
use lifeboat::{Quiet, Repository, Secret, restore};
use lifeboat_store::{CountingStore, MemoryStore, Store};
use scene::{noise, tree};
use std::sync::Arc;

const FILES: usize = 3000;
const FILE_BYTES: usize = 16 << 10;
const INCREMENTS: usize = 30;

#[test]
fn a_restore_after_many_increments_opens_each_region_a_few_times_only() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target, state) =
        (folder.path().join("source"), folder.path().join("target"), folder.path().join("state"));
    let write = |number: usize, version: usize| {
        let path = source.join(format!("{:02}/{number:04}", number / 40));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, noise(&format!("{number} {version}"), FILE_BYTES)).unwrap();
    };
    (0..FILES).for_each(|number| write(number, 0));
    let store = CountingStore::new(MemoryStore::new());
    let secret = Key::new([3; 32]);
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let secret = Secret::KeyFile(&secret);
    let repository =
        Repository::init(shared, Parameters::default(), &secret, "", Timestamp::default()).unwrap();
    let options =
        Options { kind: SnapshotKind::Incremental, compression_level: 1, ..lifeboat::backup_options(&state) };
    let specs = [SourceSpec::Path(source.clone())];
    let mut newest = backup(&repository, &specs, &options, &Default::default(), &Quiet).unwrap().snapshot;
    for increment in 1..=INCREMENTS {
        // Every thirtieth file, another one each time: the regions of all increments are needed all the time.
        (increment - 1..FILES).step_by(INCREMENTS).for_each(|number| write(number, increment));
        newest = backup(&repository, &specs, &options, &Default::default(), &Quiet).unwrap().snapshot;
    }
    let regions = (FILES * FILE_BYTES * 2).div_ceil(2 << 20) as u64;
    store.reset();
    let stop = Default::default();
    let how = restore::Options::new(&stop);
    let place = source.as_os_str().as_encoded_bytes();
    lifeboat::restore_path(&repository, &newest, place, &target, &how, &restore::Quiet).unwrap();
    let reads = store.reads_of(ObjectKind::Pack).operations;
    assert!(reads < 3 * regions + 50, "{reads} reads of {regions} regions");
    tree::assert_same(&tree::survey(&source), &tree::survey(&target));
}
