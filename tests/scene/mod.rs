//! A machine of its own for one test: a home, a cache, a state, a key file, a repository, and the command.
//!
//! Must stay true: nothing outside of the scene's folder is written, and no setting of the person who runs the tests
//! reaches the command. The command is the one built from this checkout; `LIFEBOAT_TEST_BINARY` names another.
//! Read next: [`tree`] compares trees exactly, [`disk`] brings disks that are small or lose their power.

#![allow(dead_code, reason = "each file of tests uses its own part of the scene")]

pub mod disk;
pub mod mapper;
pub mod tree;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The command under test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("LIFEBOAT_TEST_BINARY") {
        Some(named) => PathBuf::from(named),
        None => build(),
    })
}

/// Cargo builds no binaries of other packages for a test, so this does. When all is fresh it takes half a second.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile =
        test.parent().and_then(Path::parent).expect("a test lies in TARGET/PROFILE/deps").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "lifeboat-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.env("CARGO_TARGET_DIR", profile.parent().expect("a profile lies in TARGET"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().unwrap();
    assert!(
        output.status.success(),
        "the command cannot be built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let binary = profile.join("lifeboat");
    assert!(binary.exists(), "{} was not built", binary.display());
    binary
}

/// A scratch folder with everything that the command needs.
pub struct Scene {
    folder: PathBuf,
}

impl Scene {
    /// An empty machine; the repository will be opened with a key file.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("lifeboat-test-").tempdir().unwrap().keep();
        // Ordinary users must get at the sources in it.
        set_mode(&folder, 0o755);
        let folder = folder.canonicalize().unwrap();
        std::fs::create_dir(folder.join("home")).unwrap();
        Self { folder }
    }

    /// A machine with a repository.
    pub fn with_repository() -> Self {
        let scene = Self::new();
        scene.run(&["init"]).expect(0);
        scene
    }

    /// A path in the scene.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text, for arguments.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Lets `program` see this machine and nothing of the one it runs on.
    pub fn dress<'c>(&self, program: &'c mut Command) -> &'c mut Command {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LIFEBOAT_"))
        {
            program.env_remove(name);
        }
        program
            .current_dir(&self.folder)
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("LIFEBOAT_REPOSITORY", self.path("repository"))
            .env("LIFEBOAT_KEY_FILE", self.path("key"))
            .stdin(Stdio::null())
    }

    /// The command, ready for arguments. It runs in the scene's folder.
    pub fn lifeboat(&self) -> Command {
        let mut command = Command::new(binary());
        self.dress(&mut command);
        command
    }

    /// Runs the command to its end.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Done {
        Done::of(self.lifeboat().args(arguments))
    }

    /// Takes a snapshot and gives its summary; the exit code is 0.
    #[track_caller]
    pub fn snapshot(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[&["snapshot", "--json"], arguments].concat()).expect(0);
        done.message("summary")
    }

    /// Restores `latest:SOURCE` and demands that it is `source` again.
    #[track_caller]
    pub fn assert_restores(&self, source: &Path) {
        self.assert_restores_as("latest", source, &tree::survey(source));
    }

    /// Restores a path of a snapshot and demands that it is as `expected`.
    #[track_caller]
    pub fn assert_restores_as(&self, snapshot: &str, source: &Path, expected: &tree::Survey) {
        let target = tempfile::Builder::new().prefix("out-").tempdir_in(&self.folder).unwrap().keep();
        let argument = format!("{snapshot}:{}", source.display());
        self.run(&["restore", &argument, "--to", target.to_str().unwrap()]).expect(0);
        tree::assert_same(expected, &tree::survey(&target));
        remove(&target);
    }

    /// Demands that every stored byte is sound.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.run(&["check", "--read-data"]).expect(0);
    }

    /// The snapshots, oldest first.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<Value> {
        self.run(&["snapshots", "--json"]).expect(0).json()
    }

    /// All object files of the repository.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = tree::files(&self.path("repository"));
        found.sort();
        found
    }

    /// Object files in one folder of the repository.
    pub fn objects_in(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.path("repository").join(folder);
        self.objects().into_iter().filter(|path| path.starts_with(&folder)).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("LIFEBOAT_TEST_KEEP").is_some() {
            eprintln!("the scene is kept at {}", self.folder.display());
            return;
        }
        remove(&self.folder);
    }
}

/// `rm` removes trees of any depth, which the standard library does not.
pub fn remove(path: &Path) {
    let _ = Command::new("rm").arg("-rf").arg(path).status();
}

/// Sets permissions.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Runs a program that a test needs; failing says so.
#[track_caller]
pub fn tool<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs the program `{program}`: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{program}` failed; these tests run as root: {stderr}");
    output.stdout
}

/// A command that ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    what: String,
}

impl Done {
    /// Runs `command` to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self::from_output(format!("{command:?}"), output)
    }

    /// What a child gave.
    pub fn from_output(what: String, output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let done = Self { code: output.status.code(), stdout: output.stdout, stderr, what };
        assert!(!done.stderr.contains("panicked at"), "a panic reached the user: {done}");
        done
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Demands a text in the standard error.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` in the messages: {self}");
        self
    }

    /// Refuses a text in the standard error.
    #[track_caller]
    pub fn says_not(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "`{text}` is in the messages: {self}");
        self
    }

    /// Demands a text in the standard output.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.text().contains(text), "expected `{text}` in the output: {self}");
        self
    }

    /// The standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The messages of `--json`: every line must be one and say its type.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| -> Value {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}`: {error}: {self}"));
            assert!(value["message_type"].is_string(), "a message without type: {line}");
            value
        };
        self.text().lines().map(parse).collect()
    }

    /// The only message of a type.
    #[track_caller]
    pub fn message(&self, message_type: &str) -> Value {
        let mut found: Vec<Value> = self.json();
        found.retain(|value| value["message_type"] == message_type);
        assert!(found.len() == 1, "{} messages `{message_type}`: {self}", found.len());
        found.remove(0)
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |text: &str| text.chars().take(4000).collect::<String>();
        let (stdout, stderr) = (cut(&self.text()), cut(&self.stderr));
        write!(
            formatter,
            "{}\nexit code {:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
            self.what, self.code
        )
    }
}
