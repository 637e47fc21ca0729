//! A program that changes a file through its memory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Maps a file and stores into it when told to: a page that is dirty already changes without a new time.
const MAPPER: &str = r#"
import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(f, 4096)
m = mmap.mmap(f, 4096)
for word in (b"1111", b"2222"):
    m[:4] = word
    print("stored", flush=True)
    sys.stdin.readline()
"#;

/// It stores `1111`, and `2222` when it may go on; the page stays dirty in between.
#[derive(Debug)]
pub struct Mapper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Mapper {
    /// Starts it on a file, which it makes.
    pub fn start(file: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", MAPPER])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Waits until it has stored the next word.
    pub fn wait_for_store(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "stored\n");
    }

    /// Lets it go on to the next word, or to its end.
    pub fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }
}

impl Drop for Mapper {
    /// It ends when its input does.
    fn drop(&mut self) {
        let _ = self.input.write_all(b"\n\n");
        let _ = self.child.wait();
    }
}
