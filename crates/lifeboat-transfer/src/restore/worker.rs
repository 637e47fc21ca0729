//! Makes everything that is not a directory.

use super::beneath;
use super::compare::Comparer;
use super::content::{self, Buffer};
use super::directory::Directory;
use super::existing::{self, Old, Verdict};
use super::large::Large;
use super::link::{Duty, Group, Inode, Source};
use super::metadata::{self, Handle};
use super::place::{Placed, Placement, abandon, commit, place};
use super::report::{Count, Problem, ProblemKind};
use super::run::Run;
use super::spans::Span;
use super::unfinished::{Unfinished, refusal};
use super::work::{Item, Job, Link};
use crate::pieces::Pieces;
use lifeboat_format::{Entry, Node};
use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

/// Works until there is nothing more to do.
pub(super) fn work(run: &Run<'_>, jobs: &Mutex<Receiver<Job>>) {
    let mut buffer = Buffer::new();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(Job::Batch(items)) => items.into_iter().for_each(|item| do_item(run, &mut buffer, item)),
            Ok(Job::Compare(stretch)) => stretch.compare(run, &mut buffer),
            Ok(Job::Write(file, span)) => do_span(run, &mut buffer, file, span),
            Err(_) => return,
        }
    }
}

fn do_item(run: &Run<'_>, buffer: &mut Buffer, item: Item) {
    let Item { directory, name, entry, link } = item;
    if run.is_interrupted() {
        return run.release(directory);
    }
    let duty = match link {
        Link::None => None,
        Link::First(duty) => Some(duty),
        Link::Later(group) => match link_to(run, &directory, &name, &entry, &group) {
            Ok(()) => return run.release(directory),
            Err(detail) => {
                if run.is_interrupted() {
                    return run.release(directory);
                }
                let path = directory.path_of(&name);
                run.ledger.problem(Problem { path, kind: ProblemKind::HardLink, detail });
                None
            }
        },
    };
    if let Node::File { .. } = entry.node {
        do_file(run, buffer, directory, name, entry, duty);
    } else {
        do_special(run, &directory, &name, &entry, duty);
        run.release(directory);
    }
}

fn do_file(
    run: &Run<'_>,
    buffer: &mut Buffer,
    directory: Arc<Directory>,
    name: Vec<u8>,
    entry: Entry,
    duty: Option<Duty>,
) {
    let old = Old::open(run, &directory, &name, &entry);
    if let (Some(old), Node::File { size, content }) = (&old, &entry.node) {
        let pieces = Pieces::new(run.reader, content, *size);
        let mut comparer = Comparer::new(run.reader, run.options.interrupt, old.fd.as_fd(), &old.stat);
        let path = || directory.path_of(&name);
        if let Some(bytes) = comparer.whole(buffer, *size, pieces)
            && old.keep(run, &entry, &path)
        {
            run.found(&directory, &name, duty, old, bytes);
            return run.release(directory);
        }
    }
    if let Some(file) = Unfinished::create(run, directory, name, entry, duty) {
        file.write(run, buffer, old.as_ref());
    }
}

fn do_span(run: &Run<'_>, buffer: &mut Buffer, file: Arc<Large>, span: Span) {
    if !file.has_failed() {
        let pieces = span.pieces.into_iter().map(Ok);
        let old = file.old.as_deref();
        let written = content::write(run, buffer, &file.file.fd, span.offset, pieces, old);
        file.add(written.map(|written| written.bytes));
    }
    file.release(run, buffer);
}

/// A symbolic link, pipe, socket or device.
fn do_special(run: &Run<'_>, directory: &Arc<Directory>, name: &[u8], entry: &Entry, duty: Option<Duty>) {
    let path = || directory.path_of(name);
    let placement = place(
        run,
        directory,
        name,
        |stat| existing::judge(run, directory, name, entry, stat, &path),
        |name| create_special(directory, name, &entry.node),
    );
    let temporary = match placement {
        Placement::New(Placed { made: (), temporary }) => temporary,
        Placement::Kept(verdict, stat) => return run.kept(directory, name, duty, verdict, &stat),
        Placement::Refused(kind, error) => {
            return run.failed(path(), refusal(&entry.node, kind, error), error);
        }
    };
    match complete_special(run, directory, name, temporary.as_deref(), entry) {
        Ok(inode) => {
            if let Some(duty) = duty {
                duty.fulfil(directory, name, inode);
            }
            let is_symlink = matches!(entry.node, Node::Symlink { .. });
            run.ledger.one(if is_symlink { Count::Symlinks } else { Count::Others });
            run.ledger.advanced(1, 0);
        }
        Err((kind, error)) => {
            abandon(directory, name, temporary.as_deref());
            run.failed(path(), kind, error);
        }
    }
}

fn kind_of(node: &Node) -> FileType {
    match node {
        Node::Directory => FileType::Directory,
        Node::File { .. } => FileType::RegularFile,
        Node::Symlink { .. } => FileType::Symlink,
        Node::Fifo => FileType::Fifo,
        Node::Socket => FileType::Socket,
        Node::CharDevice { .. } => FileType::CharacterDevice,
        Node::BlockDevice { .. } => FileType::BlockDevice,
    }
}

fn create_special(directory: &Directory, name: &[u8], node: &Node) -> Result<(), Errno> {
    let device = match node {
        Node::Symlink { target } => return rustix::fs::symlinkat(target.as_slice(), directory, name),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            rustix::fs::makedev(*major, *minor)
        }
        _ => 0,
    };
    rustix::fs::mknodat(directory, name, kind_of(node), Mode::RUSR | Mode::WUSR, device)
}

/// Gives it its metadata and its name. It was created by name, so it is held and looked at first: if somebody put a
/// second name of another file here, that file must not get an owner from us.
pub(super) fn complete_special(
    run: &Run<'_>,
    directory: &Directory,
    name: &[u8],
    temporary: Option<&[u8]>,
    entry: &Entry,
) -> Result<Inode, (ProblemKind, Errno)> {
    let current = temporary.unwrap_or(name);
    let held = beneath::hold(directory, current).map_err(|error| (ProblemKind::Raced, error))?;
    let stat = rustix::fs::fstat(&held).map_err(|error| (ProblemKind::Raced, error))?;
    let kind = kind_of(&entry.node);
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_nlink != 1 {
        return Err((ProblemKind::Raced, Errno::EXIST));
    }
    let handle = match kind {
        FileType::Symlink => Handle::Symlink(held.as_fd(), directory.as_fd(), current),
        _ => Handle::Special(held.as_fd()),
    };
    metadata::apply_to(run, handle, kind, &entry.metadata, directory.children, &|| directory.path_of(name));
    commit(directory, name, temporary).map_err(|error| (ProblemKind::of_creating(error), error))?;
    Ok(Inode::of(&stat))
}

/// Makes a further hard link, or says why not.
fn link_to(
    run: &Run<'_>,
    directory: &Directory,
    name: &[u8],
    entry: &Entry,
    group: &Group,
) -> Result<(), String> {
    if group.node != entry.node {
        return Err("the members of the set are not the same file".to_owned());
    }
    let source = group.wait().ok_or("the first of the set could not be restored")?;
    if let Some(held) = source.directory.upgrade() {
        let result = link_from(run, &held, &source, directory, name, entry);
        run.release(held);
        return result;
    }
    let found = beneath::open_key(&run.root, source.directory_path.as_key())
        .map_err(|error| format!("the directory of the set's first is gone: {error}"))?;
    link_from(run, found, &source, directory, name, entry)
}

fn link_from(
    run: &Run<'_>,
    from: impl AsFd,
    source: &Source,
    directory: &Directory,
    name: &[u8],
    entry: &Entry,
) -> Result<(), String> {
    let judge = |stat: &Stat| match run.options.may_overwrite() {
        _ if Inode::of(stat) == source.inode => Verdict::Same,
        true => Verdict::Replaced,
        false => Verdict::Spared,
    };
    let create =
        |name: &[u8]| rustix::fs::linkat(&from, source.name.as_slice(), directory, name, AtFlags::empty());
    let temporary = match place(run, directory, name, judge, create) {
        Placement::New(Placed { made: (), temporary }) => temporary,
        Placement::Kept(..) => {
            run.ledger.kept();
            return Ok(());
        }
        Placement::Refused(_, error) => return Err(error.to_string()),
    };
    let current = temporary.as_deref().unwrap_or(name);
    let is_ours = beneath::stat(directory, current).is_ok_and(|stat| Inode::of(&stat) == source.inode);
    if !is_ours {
        abandon(directory, name, temporary.as_deref());
        return Err("somebody replaced the first of the set".to_owned());
    }
    commit(directory, name, temporary.as_deref()).map_err(|error| error.to_string())?;
    run.ledger.one(Count::Links);
    run.ledger.advanced(1, entry.size());
    Ok(())
}

impl Run<'_> {
    /// An entry whose place was taken by something that stays.
    pub(super) fn kept(
        &self,
        directory: &Arc<Directory>,
        name: &[u8],
        duty: Option<Duty>,
        verdict: Verdict,
        stat: &Stat,
    ) {
        if let (Some(duty), Verdict::Same) = (duty, verdict) {
            duty.fulfil(directory, name, Inode::of(stat));
        }
        self.ledger.kept();
    }

    /// A file whose content was compared and is the entry's.
    pub(super) fn found(
        &self,
        directory: &Arc<Directory>,
        name: &[u8],
        duty: Option<Duty>,
        old: &Old,
        bytes: u64,
    ) {
        if let Some(duty) = duty {
            duty.fulfil(directory, name, old.inode());
        }
        self.ledger.one(Count::Kept);
        self.ledger.add(Count::Unchanged, bytes);
        self.ledger.advanced(1, bytes);
    }
}
