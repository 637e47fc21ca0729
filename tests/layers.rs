//! A writable layer comes back as what it was: the same files over the same image, the same ones deleted.

mod scene;

use lifeboat::backup::{Counters, Folder, MemoryFile, SourceSpec, TreeSpec, backup};
use lifeboat::format::snapshot::SourceKind;
use lifeboat::format::{Metadata, Node, TreePath};
use lifeboat::{Quiet, restore};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::reader::ChunkReader;
use scene::{Scene, tool, tree};
use std::path::{Path, PathBuf};

/// An overlay of a lower and an upper folder, mounted; it needs root.
struct Overlay(PathBuf);

impl Overlay {
    fn mount(lower: &Path, upper: &Path, merged: &Path) -> Self {
        let work = upper.with_extension("work");
        for folder in [upper, merged, &work] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let show = |path: &Path| path.display().to_string();
        // As engines mount it: without renaming folders by reference.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
            show(lower),
            show(upper),
            show(&work)
        );
        tool("mount", &["-t", "overlay", "overlay", "-o", &options, merged.to_str().unwrap()]);
        Self(merged.to_owned())
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_layer_that_comes_back_shows_the_same_files_over_the_same_image() {
    let scene = Scene::new();
    for name in
        ["kept", "changed", "deleted", "folder/deleted", "folder/kept", "replaced/old", "gone/a", "gone/b"]
    {
        scene.write(&format!("image/{name}"), format!("{name} of the image"));
    }
    let (image, upper) = (scene.path("image"), scene.path("upper"));
    let merged = Overlay::mount(&image, &upper, &scene.path("merged"));
    let root = scene.path("merged");
    std::fs::write(root.join("changed"), "changed").unwrap();
    std::fs::write(root.join("new"), "new").unwrap();
    std::fs::remove_file(root.join("deleted")).unwrap();
    std::fs::remove_file(root.join("folder/deleted")).unwrap();
    std::fs::remove_dir_all(root.join("gone")).unwrap();
    std::fs::remove_dir_all(root.join("replaced")).unwrap();
    std::fs::create_dir(root.join("replaced")).unwrap();
    std::fs::write(root.join("replaced/new"), "hides what the image has here").unwrap();
    let expected = tree::survey(&root);

    let at = |path: &str| TreePath::from_slashes(path.as_bytes()).unwrap();
    let spec = TreeSpec {
        folders: vec![Folder { at: at("layer"), ..Folder::new(upper.canonicalize().unwrap()) }],
        files: vec![MemoryFile {
            at: at("container.json"),
            bytes: b"{}".to_vec(),
            metadata: Metadata::default(),
        }],
        ..TreeSpec::folder(SourceKind::Container, "api", "")
    };
    let repository =
        lifeboat::init(&scene.text("repository"), &lifeboat::Secret::Passphrase(b"test")).unwrap();
    let options = lifeboat::backup_options(&scene.path("state"));
    let outcome =
        backup(&repository, &[SourceSpec::Tree(spec)], &options, &Counters::default(), &Quiet).unwrap();
    drop(merged);

    let reader = ChunkReader::new(&repository);
    let mut cursor = TreeCursor::new(&reader, outcome.snapshot.sources[0].root);
    let mut deleted = Vec::new();
    while let Some((path, entry)) = cursor.next_entry().unwrap() {
        if entry.node == (Node::CharDevice { major: 0, minor: 0 }) {
            deleted.push(path.to_string());
        }
        for xattr in &entry.metadata.xattrs {
            let name = String::from_utf8_lossy(&xattr.name).into_owned();
            assert_eq!(
                (path.to_string().as_str(), name.as_str()),
                ("layer/replaced", "trusted.overlay.opaque")
            );
        }
    }
    assert_eq!(deleted, ["layer/deleted", "layer/folder/deleted", "layer/gone"]);

    let (target, stop) = (scene.path("upper2"), Default::default());
    let how = restore::Options::new(&stop);
    let path = b"container:api/layer";
    let report =
        lifeboat::restore_path(&repository, &outcome.snapshot, path, &target, &how, &restore::Quiet).unwrap();
    assert!(report.is_exact(), "{:?}", report.problems);
    let _merged = Overlay::mount(&image, &target, &scene.path("merged2"));
    tree::assert_same(&expected, &tree::survey(&scene.path("merged2")));
}
