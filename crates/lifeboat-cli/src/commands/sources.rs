//! What a snapshot is asked to read: from words on the command line to sources.

use super::services::{self, Services};
use super::volumes::Reach;
use crate::args::SnapshotArgs;
use crate::failure::Hinted;
use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use lifeboat::backup::{ArchiveSpec, SourceSpec};
use lifeboat::format::snapshot::SourceKind;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a source that is a path begins with, where it is not to be taken for another kind.
const PATH: &str = "path:";

/// A path as the word of a source.
pub(super) fn path_word(path: &Path) -> OsString {
    let mut word = OsString::from(PATH);
    word.push(path);
    word
}

/// What was named.
pub(super) fn named(arguments: &SnapshotArgs) -> Result<Vec<OsString>> {
    let mut named: Vec<OsString> = arguments.sources.clone();
    for file in &arguments.files_from {
        let text = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()).map(String::into_bytes),
            false => std::fs::read(file),
        };
        let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
        named.extend(lines.map(|line| OsString::from_vec(line.to_vec())));
    }
    if named.is_empty() {
        bail!(Hinted::new(
            "there is nothing to back up",
            "lifeboat snapshot /srv/app    # or project:NAME, container:NAME, volume:NAME, image:NAME, stdin:NAME, tar:FILE, command:NAME -- COMMAND"
        ));
    }
    Ok(named)
}

/// What to back up, and how many of the named things are not there.
pub(super) fn sources(
    named: Vec<OsString>,
    arguments: &SnapshotArgs,
    reach: &mut Reach<'_>,
    services: Option<&mut Services>,
    ui: &Ui,
) -> Result<(Vec<SourceSpec>, u64)> {
    let mut specs: Vec<SourceSpec> = Vec::new();
    let mut missing = 0;
    let has_services = services.is_some();
    if let Some(services) = services {
        (specs, missing) = services.sources(reach, ui)?;
    }
    for name in named {
        if has_services && services::is_theirs(&name) {
            continue;
        }
        let text = name.to_string_lossy();
        let found = if let Some(volume) = reach.source(&text, ui)? {
            volume.map_err(anyhow::Error::new)
        } else if let Some(image) = reach.image_source(&text, arguments.images)? {
            image.map_err(anyhow::Error::new)
        } else {
            source(&name, arguments)?.map_err(anyhow::Error::new)
        };
        match found {
            Ok(spec) if specs.contains(&spec) => {}
            Ok(spec) => specs.push(spec),
            Err(error) => {
                missing += 1;
                ui.trouble(&name, "scan", &error.to_string());
            }
        }
    }
    let takes_command = specs.iter().any(|spec| matches!(spec, SourceSpec::Command(..)));
    if !arguments.command.is_empty() && !takes_command {
        bail!(Hinted::new(
            "there is a command behind `--`, but no source takes it",
            "lifeboat snapshot command:NAME -- COMMAND"
        ));
    }
    if specs.is_empty() {
        let text = "none of the sources can be read; no snapshot was made";
        if arguments.sources.iter().any(|name| name.as_bytes().starts_with(b"image:")) {
            bail!(Hinted::new(text, "docker images    # the images that this engine has"));
        }
        if arguments.sources.iter().any(|name| name.as_bytes().starts_with(b"volume:")) {
            bail!(Hinted::new(text, "lifeboat docker ls    # the volumes that this engine has"));
        }
        bail!(text);
    }
    Ok((without_nested(specs, ui), missing))
}

fn source(name: &OsStr, arguments: &SnapshotArgs) -> Result<std::io::Result<SourceSpec>> {
    let text = name.to_string_lossy();
    if let Some(name) = text.strip_prefix("stdin:") {
        return Ok(Ok(SourceSpec::Stdin(checked_name(name)?)));
    }
    if let Some(name) = text.strip_prefix("command:") {
        if arguments.command.is_empty() {
            bail!(Hinted::new(
                format!("command:{name} has no command"),
                format!("lifeboat snapshot command:{name} -- pg_dump app")
            ));
        }
        return Ok(Ok(SourceSpec::Command(checked_name(name)?, arguments.command.clone())));
    }
    if let Some(file) = name.as_bytes().strip_prefix(b"tar:") {
        return Ok(archive(OsStr::from_bytes(file)));
    }
    let stated = name.as_bytes().strip_prefix(PATH.as_bytes()).map(OsStr::from_bytes);
    match std::fs::canonicalize(stated.unwrap_or(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound && stated.is_none() => no_path(&text, error),
        found => Ok(found.map(SourceSpec::Path)),
    }
}

/// What was meant by a name that is no path: perhaps a kind of source.
fn no_path(name: &str, error: std::io::Error) -> Result<std::io::Result<SourceSpec>> {
    match name.split_once(':') {
        Some((kind @ "etcd", _)) => bail!(Hinted::new(
            format!("{name}: this version has no sources of the kind `{kind}`, and no file has that name"),
            "lifeboat snapshot container:NAME    # for each container that `lifeboat docker ls` shows"
        )),
        Some((kind, _)) if !kind.contains('/') => Ok(Err(std::io::Error::new(
            error.kind(),
            format!(
                "{error}; kinds of sources are path:, project:, host:, container:, volume:, image:, tar:, stdin: and command:"
            ),
        ))),
        _ => Ok(Err(error)),
    }
}

/// A tar archive is known by its file's name; `-` is standard input.
fn archive(file: &OsStr) -> std::io::Result<SourceSpec> {
    let open = |path: PathBuf| {
        move || -> std::io::Result<Box<dyn Read + Send>> {
            match path.as_os_str() == "-" {
                true => Ok(Box::new(std::io::stdin())),
                false => Ok(Box::new(File::open(&path)?)),
            }
        }
    };
    let path = if file == "-" { PathBuf::from(file) } else { std::fs::canonicalize(file)? };
    let name = path.file_name().unwrap_or(file).to_string_lossy().into_owned();
    Ok(SourceSpec::Archive(ArchiveSpec::new(SourceKind::Tar, name, open(path))))
}

fn checked_name(name: &str) -> Result<String> {
    if name.is_empty() || name.contains(['/', '\0', '\n']) {
        bail!("`{name}` is no name for a stream: use letters, digits, dots and dashes");
    }
    Ok(name.to_owned())
}

/// A path as a source, and whether parts of it are left out for its own reasons.
fn path_of(spec: &SourceSpec) -> Option<(&Path, bool)> {
    match spec {
        SourceSpec::Path(path) => Some((path, false)),
        SourceSpec::Tree(tree) if tree.kind == SourceKind::Path => {
            tree.folders.first().map(|folder| (folder.root.as_path(), !folder.excludes.is_empty()))
        }
        _ => None,
    }
}

/// A source inside another one is in the snapshot already.
fn without_nested(specs: Vec<SourceSpec>, ui: &Ui) -> Vec<SourceSpec> {
    let paths: Vec<(PathBuf, bool, bool)> = specs
        .iter()
        .filter_map(|spec| {
            let (path, has_gaps) = path_of(spec)?;
            Some((path.to_owned(), has_gaps, matches!(spec, SourceSpec::Tree(_))))
        })
        .collect();
    let is_left_out = |spec: &SourceSpec| {
        let Some((path, _)) = path_of(spec) else { return false };
        // What containers say of a path is kept.
        let is_twice = matches!(spec, SourceSpec::Path(_))
            && paths.iter().any(|(other, has_gaps, is_tree)| other == path && *is_tree && !has_gaps);
        let outer =
            paths.iter().find(|(other, has_gaps, _)| other != path && path.starts_with(other) && !has_gaps);
        if let Some((outer, ..)) = outer {
            ui.notice(&format!("{} is part of {}", path.display(), outer.display()));
        }
        is_twice || outer.is_some()
    };
    let left_out: Vec<bool> = specs.iter().map(is_left_out).collect();
    specs.into_iter().zip(left_out).filter_map(|(spec, left_out)| (!left_out).then_some(spec)).collect()
}
