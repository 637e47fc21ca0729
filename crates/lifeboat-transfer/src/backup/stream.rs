//! Backs up standard input or a command's output: one file at the source's root.

use super::content::{ContentWriter, Failure};
use super::hint::Earlier;
use super::queue::{Work, WorkQueue};
use super::reading::stream_entry;
use super::{Run, SourceName, now};
use crate::error::{Error, Result};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{Content, Metadata, TreePath};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use rustix::fd::{AsFd, BorrowedFd};
use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};

/// The most that Linux grants to ordinary users.
const PIPE_BYTES: usize = 1 << 20;

/// Backs up standard input to its end.
pub(crate) fn stdin(
    run: &Run<'_>,
    source: &SourceName,
    earlier: Option<&Earlier>,
) -> Result<(TreeRoot, u64)> {
    let stdin = std::io::stdin().lock();
    store(run, source, &mut Unbuffered::new(stdin.as_fd()), earlier)
}

/// Runs a command and backs up what it writes.
///
/// # Errors
/// When it cannot be started or does not exit with 0: then there is no snapshot.
pub(crate) fn command(
    run: &Run<'_>,
    name: &str,
    arguments: &[OsString],
    earlier: Option<&Earlier>,
) -> Result<(TreeRoot, u64)> {
    let failed = |detail: String| Error::Command { name: name.to_owned(), detail };
    let Some((program, arguments)) = arguments.split_first() else {
        return Err(failed("no command is given".into()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // The repository's password is none of the command's business.
        .env_remove("LIFEBOAT_PASSWORD")
        .env_remove("LIFEBOAT_NEW_PASSWORD")
        .spawn()
        .map_err(|error| failed(format!("`{}` cannot be started: {error}", program.to_string_lossy())))?;
    let output = child.stdout.take().ok_or_else(|| failed("it has no output".into()))?;
    let stored = store(run, &SourceName::plain(name), &mut Unbuffered::new(output.as_fd()), earlier);
    drop(output);
    if stored.is_err() {
        // Nobody reads its output any more.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let stored = stored?;
    if status.success() {
        Ok(stored)
    } else {
        Err(failed(format!("it ended with {status}; no snapshot was made")))
    }
}

/// Reads a descriptor into the buffer where it is cut, without another on the way.
struct Unbuffered<'f>(BorrowedFd<'f>);

impl<'f> Unbuffered<'f> {
    fn new(descriptor: BorrowedFd<'f>) -> Self {
        // A longer pipe means fewer changes between its two ends. Files and sockets refuse, and so may the system.
        let _ = rustix::pipe::fcntl_setpipe_size(descriptor, PIPE_BYTES);
        Self(descriptor)
    }
}

impl Read for Unbuffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

fn store(
    run: &Run<'_>,
    source: &SourceName,
    stream: &mut dyn Read,
    earlier: Option<&Earlier>,
) -> Result<(TreeRoot, u64)> {
    let queue = WorkQueue::<()>::new(run.threads);
    let stored = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..run.threads).map(|_| scope.spawn(|| seal_regions(run, &queue))).collect();
        let stored = (|| {
            let mut writer = ContentWriter::new(&run.session, &run.cutter, &queue, run.reader, run.counters)?;
            // Flushed even when the stream fails: later sources of this session rely on what was claimed.
            let stored = writer.stream(stream, earlier);
            writer.flush()?;
            stored
        })();
        queue.close();
        for helper in helpers {
            helper.join().expect("a helper does not panic")?;
        }
        stored.map_err(|failure| match failure {
            Failure::Repository(error) => Error::Repository(error),
            Failure::File(error) => {
                Error::Source { path: source.shown.clone(), doing: "cannot be read", source: error }
            }
        })
    })?;
    run.counters.stream();
    Ok((one_file(run, stored.content, stored.bytes)?, stored.bytes))
}

fn seal_regions(run: &Run<'_>, queue: &WorkQueue<()>) -> lifeboat_repo::Result<()> {
    let mut sink = ChunkSink::new(&run.session)?;
    while let Some(work) = queue.take() {
        if let Work::Region(region) = work {
            sink.seal(region)?;
        }
    }
    Ok(())
}

/// A tree whose root is the file itself.
fn one_file(run: &Run<'_>, content: Content, size: u64) -> Result<TreeRoot> {
    let mut sink = ChunkSink::new(&run.session)?;
    let mut put = |node: Vec<u8>| sink.add(ChunkKind::Tree, &node);
    let time = now();
    let metadata = Metadata {
        mode: 0o600,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: time,
        ctime: time,
        ..Metadata::default()
    };
    let mut builder = TreeBuilder::new(run.session.repository().keys());
    builder.push(&TreePath::root(), &stream_entry(content, size, metadata), &mut put)?;
    let root = builder.finish(&mut put)?;
    sink.flush()?;
    Ok(root)
}
