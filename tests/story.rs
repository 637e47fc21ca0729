//! The story that `docs/story.md` tells, as it stands there: every command is run, in its order.

mod scene;

use scene::{Scene, tree};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command line of the page.
struct Line {
    /// Typed on the other machine.
    is_there: bool,
    text: String,
    /// What it says behind `# exit code`; 0 where it says nothing.
    code: i32,
}

fn lines(page: &str) -> Vec<Line> {
    let typed = page.lines().filter_map(|line| {
        let (is_there, text) = match line.strip_prefix("there$ ") {
            Some(text) => (true, text),
            None => (false, line.strip_prefix("$ ")?),
        };
        let code = text.split_once("# exit code ").map_or(0, |(_, code)| code.trim().parse().unwrap());
        Some(Line { is_there, text: text.to_owned(), code })
    });
    typed.collect()
}

/// The largest file below `folder`.
fn largest(folder: &Path) -> PathBuf {
    tree::files(folder).into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

struct Story {
    scene: Scene,
    /// What was exported so far: a shell line in front of each command.
    exports: String,
}

impl Story {
    fn run(&mut self, line: &Line) {
        let home = if line.is_there { self.scene.path("there") } else { self.scene.path(".") };
        match line.text.split(' ').next() {
            Some("export") => self.exports += &format!("{}\n", line.text),
            Some("flip-a-bit") => {
                let pack = largest(&self.scene.path("backup/packs"));
                let mut bytes = std::fs::read(&pack).unwrap();
                bytes[3000] ^= 1;
                std::fs::write(pack, bytes).unwrap();
            }
            Some("put-back-an-older-state") => {
                std::fs::remove_dir_all(self.scene.path("backup")).unwrap();
                std::fs::rename(self.scene.path("older"), self.scene.path("backup")).unwrap();
            }
            _ => self.shell(line, &home),
        }
    }

    fn shell(&self, line: &Line, home: &Path) {
        let mut exports = self.exports.clone();
        if line.is_there {
            exports += "export LIFEBOAT_PASSWORD='another password'\n";
        }
        let text = line.text.replace("stick/", &format!("{}/", self.scene.path("stick").display()));
        let mut shell = Command::new("sh");
        self.scene.dress(&mut shell).env_remove("LIFEBOAT_KEY_FILE").env_remove("LIFEBOAT_REPOSITORY");
        if line.is_there {
            shell.env("XDG_STATE_HOME", home.join("state")).env("XDG_CACHE_HOME", home.join("cache"));
        }
        let folder = scene::binary().parent().unwrap().display();
        let script = format!("PATH={folder}:$PATH\n{exports}{text}");
        let done = scene::Done::of(shell.current_dir(home).args(["-c", &script]));
        assert_eq!(done.code, Some(line.code), "{}: {done}", line.text);
    }
}

#[test]
fn every_command_of_the_story_does_what_the_page_says() {
    let scene = Scene::new();
    for folder in ["app", "there", "stick"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.write("app/data", scene::noise("data", 5_000_000));
    for number in 0..30 {
        scene.write(&format!("app/file-{number}"), scene::noise(&format!("{number}"), 20_000));
    }
    scene.write("new-password", "a new one\n");
    let page = include_str!("../docs/story.md");
    let mut story = Story { scene, exports: String::new() };
    let lines = lines(page);
    assert!(lines.len() > 30, "{} commands", lines.len());
    for line in &lines {
        if line.text.contains("--tag friday") {
            let (from, to) = (story.scene.path("backup"), story.scene.path("older"));
            let _ = std::fs::remove_dir_all(&to);
            assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        }
        story.run(line);
    }
    let scene = &story.scene;
    let app = tree::survey(&scene.path("app"));
    for restored in ["back", "there/restored"] {
        let restored = scene.path(restored);
        let top = scene.path("app");
        // Absolute paths are made again below the folder.
        let inside = restored.join(top.strip_prefix("/").unwrap());
        tree::assert_same(&app, &tree::survey(&inside));
    }
}
