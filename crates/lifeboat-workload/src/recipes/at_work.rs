//! Recipes while a snapshot is taken: their sessions, and what they give to it.
//!
//! Must stay true: a session that ends too early is noticed, and what it held counts as not held; whoever drops this lets
//! go of everything.
//!
//! The order: [`AtWork::prepare`] before anything is read, [`AtWork::hold`] before anybody is made quiet,
//! [`AtWork::when_quiet`] after, [`AtWork::release`] when everybody is back.

use super::{Data, How, Recipe, postgresql};
use crate::engine::Engine;
use crate::hooks::{self, Hold};
use crate::quiesce::holding::{Holding, Released};
use crate::quiesce::session::{self, Session};
use crate::quiesce::undo::chain;
use lifeboat_format::{Metadata, Timestamp, TreePath};
use lifeboat_transfer::backup::{Folder, MemoryFile, Remainder, SourceSpec};
use std::collections::BTreeMap;

/// Why a database cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its session.
    #[error("the database in container {name} cannot be captured")]
    Session {
        /// Which.
        name: String,
        /// Why not.
        source: Box<hooks::Error>,
    },
    /// It may not hold anything.
    #[error("the database in container {name} cannot be captured")]
    Unknown {
        /// Which.
        name: String,
        /// Why not.
        source: Box<session::Error>,
    },
    /// What it said.
    #[error("the database in container {name} gave no label of its backup")]
    NoLabel {
        /// Which.
        name: String,
    },
}

/// All recipes of a capture.
#[derive(Debug)]
pub struct AtWork {
    engine: Engine,
    ones: Vec<One>,
}

#[derive(Debug)]
struct One {
    id: String,
    name: String,
    recipe: Recipe,
    holding: Option<Holding>,
    moment: Option<String>,
    /// `backup_label` and `tablespace_map`, once the backup has ended.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl AtWork {
    /// Nothing is done yet. Of each: the container's id and name, and its recipe.
    pub fn new<'r>(
        engine: &Engine,
        recipes: impl IntoIterator<Item = (&'r str, &'r str, &'r Recipe)>,
    ) -> Self {
        let one = |(id, name, recipe): (&str, &str, &Recipe)| One {
            id: id.to_owned(),
            name: name.to_owned(),
            recipe: recipe.clone(),
            holding: recipe.session.as_ref().map(|session| {
                let shown = format!("{} session", recipe.kind.word());
                Holding::new((id, name), &session.command, &session.told, &shown)
            }),
            moment: None,
            files: Vec::new(),
        };
        Self { engine: engine.clone(), ones: recipes.into_iter().map(one).collect() }
    }

    /// All that may come to hold something.
    pub fn holding(&self) -> impl Iterator<Item = &Holding> {
        self.ones.iter().filter_map(|one| one.holding.as_ref())
    }

    /// Begins what has to hold while everything is read; what an earlier attempt began ends.
    ///
    /// # Errors
    ///
    /// A database refuses, or what holds cannot be written down.
    pub fn prepare(&mut self, session: &mut Option<Session>) -> Result<(), Error> {
        for one in &mut self.ones {
            one.let_go(session);
            if one.recipe.how == How::BackupMode {
                one.begin(&self.engine, session)?;
            }
        }
        Ok(())
    }

    /// Begins what has to hold before anybody is made quiet.
    ///
    /// # Errors
    ///
    /// A database refuses, or what holds cannot be written down.
    pub fn hold(&mut self, session: &mut Option<Session>) -> Result<(), Error> {
        let others = self.ones.iter_mut().filter(|one| one.recipe.how != How::BackupMode);
        others.into_iter().try_for_each(|one| one.begin(&self.engine, session))
    }

    /// Ends what may end only when everybody else is quiet: so what the log has then is never older than the rest.
    ///
    /// # Errors
    ///
    /// A session has ended, or does not answer.
    pub fn when_quiet(&mut self, session: &mut Option<Session>) -> Result<(), Error> {
        let backups = self.ones.iter_mut().filter(|one| one.recipe.how == How::BackupMode);
        backups.into_iter().try_for_each(|one| one.end_backup(session))
    }

    /// The part of a source that a database mends.
    #[must_use]
    pub fn mended(&self, source: &SourceSpec) -> Option<TreePath> {
        self.ones.iter().find_map(|one| one.recipe.data.as_ref()?.place_in(source))
    }

    /// What is read of that part at the end.
    #[must_use]
    pub fn remainder(&self, source: &SourceSpec) -> Remainder {
        let mut remainder = Remainder::default();
        for one in &self.ones {
            let Some(data) = &one.recipe.data else { continue };
            let Some(place) = data.place_in(source) else { continue };
            // Of these names a path can only be too long, and then the server could not have made it.
            let at = |name: &str| place.join(name.as_bytes()).ok();
            remainder.again.extend(at("pg_wal"));
            // It names a process of the server that wrote it.
            remainder.without.extend(at("postmaster.pid"));
            let files = one.files.iter().filter_map(|(name, bytes)| Some(data.file(at(name)?, bytes)));
            remainder.files.extend(files);
        }
        remainder
    }

    /// Lets go of everything; gives what was not held to the end.
    pub fn release(&mut self, session: &mut Option<Session>) -> Vec<String> {
        self.ones.iter_mut().flat_map(|one| one.release(session)).collect()
    }

    /// Lets go of what is held for the last pass alone, because it will be begun again.
    pub fn release_holds(&mut self, session: &mut Option<Session>) -> Vec<String> {
        let others = self.ones.iter_mut().filter(|one| one.recipe.how != How::BackupMode);
        others.flat_map(|one| one.release(session)).collect()
    }

    /// The recipe's own moment, by a container's id.
    #[must_use]
    pub fn moment(&self, id: &str) -> Option<&str> {
        self.ones.iter().find(|one| one.id == id)?.moment.as_deref()
    }
}

impl One {
    fn failed(&self, error: hooks::Error) -> Error {
        Error::Session { name: self.name.clone(), source: Box::new(error) }
    }

    fn let_go(&mut self, session: &mut Option<Session>) {
        // How it went is of no interest any more.
        let _ = self.release(session);
        self.moment = None;
        self.files.clear();
    }

    fn begin(&mut self, engine: &Engine, session: &mut Option<Session>) -> Result<(), Error> {
        let Some(holding) = &mut self.holding else { return Ok(()) };
        let begun = holding.begin(engine, session);
        let said = holding.hold().map(Hold::said).unwrap_or_default();
        begun
            .map_err(|error| Error::Unknown { name: self.name.clone(), source: Box::new(error) })?
            .map_err(|error| self.failed(error))?;
        self.moment = answers(&said).remove("moment").map(readable);
        Ok(())
    }

    fn end_backup(&mut self, session: &mut Option<Session>) -> Result<(), Error> {
        // It ended when this was tried before; its session still keeps the log.
        if !self.files.is_empty() {
            return Ok(());
        }
        let no_label = || Error::NoLabel { name: self.name.clone() };
        let Some(holding) = &mut self.holding else { return Err(no_label()) };
        let said = holding.ask(postgresql::END, postgresql::ENDED, session);
        let said = said.map_err(|error| self.failed(error))?.ok_or_else(no_label)?;
        let mut answers = answers(&said);
        let text = |hex: Option<String>| hex.and_then(|hex| bytes(&hex)).unwrap_or_default();
        let (label, map) = (text(answers.remove("label")), text(answers.remove("map")));
        if !label.starts_with(b"START WAL LOCATION") {
            return Err(no_label());
        }
        self.moment = answers.remove("moment");
        self.files = vec![("backup_label", label)];
        if !map.is_empty() {
            self.files.push(("tablespace_map", map));
        }
        Ok(())
    }

    fn release(&mut self, session: &mut Option<Session>) -> Vec<String> {
        let released = self.holding.as_mut().and_then(|holding| holding.release(session));
        let Some(Released { held, ran }) = released else { return Vec::new() };
        let mut reasons = Vec::new();
        if !held {
            reasons
                .push(format!("the database in container {} let go before the capture was over", self.name));
        }
        reasons.extend(ran.err().map(|error| chain(&self.failed(error))));
        reasons
    }
}

/// What a session said so far, in lines `name=value`.
fn answers(said: &str) -> BTreeMap<String, String> {
    super::ask::pairs(said, '=')
}

/// Seconds since 1970, as the rest of a snapshot says times.
fn readable(moment: String) -> String {
    let time = moment.split_once('.').and_then(|(seconds, micros)| {
        let micros = micros.parse::<i32>().ok()?.checked_mul(1000)?;
        jiff::Timestamp::new(seconds.parse().ok()?, micros).ok()
    });
    time.map_or(moment, |time| time.to_string())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl Data {
    /// Where the data folder is in a source, if it is in it.
    fn place_in(&self, source: &SourceSpec) -> Option<TreePath> {
        let folders = match source {
            SourceSpec::Path(path) => vec![Folder::new(path)],
            SourceSpec::Tree(tree) => tree.folders.clone(),
            SourceSpec::Stdin(_) | SourceSpec::Command(..) | SourceSpec::Archive(_) => Vec::new(),
        };
        folders.iter().find_map(|folder| {
            let below = self.folder.strip_prefix(&folder.root).ok()?;
            let below = TreePath::from_slashes(below.as_os_str().as_encoded_bytes()).ok()?;
            folder.at.append(&below).ok()
        })
    }

    fn file(&self, at: TreePath, bytes: &[u8]) -> MemoryFile {
        let now = jiff::Timestamp::now();
        let now = Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() };
        let (uid, gid) = self.owner;
        let metadata = Metadata { mode: 0o600, uid, gid, mtime: now, ctime: now, ..Metadata::default() };
        MemoryFile { at, bytes: bytes.to_vec(), metadata }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::snapshot::SourceKind;
    use lifeboat_transfer::backup::TreeSpec;

    #[test]
    fn a_data_folder_is_found_in_the_source_that_holds_it() {
        let data = Data { folder: "/volumes/pg/_data/15/main".into(), owner: (1, 2) };
        let place = |spec: SourceSpec| data.place_in(&spec).map(|place| place.to_string());
        let volume = |root: &str| SourceSpec::Tree(TreeSpec::folder(SourceKind::Volume, "pg", root));
        assert_eq!(place(volume("/volumes/pg/_data")).as_deref(), Some("15/main"));
        assert_eq!(place(volume("/volumes/pg/_data/15/main")).as_deref(), Some(""));
        assert_eq!(place(volume("/volumes/pg/_dat")), None);
        assert_eq!(place(SourceSpec::Path("/volumes".into())).as_deref(), Some("pg/_data/15/main"));
        assert_eq!(place(SourceSpec::Stdin("x".into())), None);
    }

    #[test]
    fn answers_are_read_as_the_servers_give_them() {
        let said =
            "6h\n(lifeboat_7,0/15)\nready\nmoment=2026-01-02T03:04:05.000006Z\nlabel=53540a\nmap=\nstopped\n";
        let mut answers = answers(said);
        assert_eq!(answers.remove("moment").unwrap(), "2026-01-02T03:04:05.000006Z");
        assert_eq!(bytes(&answers["label"]).unwrap(), b"ST\n");
        assert_eq!(bytes(&answers["map"]).unwrap(), b"");
        assert_eq!(bytes("5"), Some(vec![5]));
        assert_eq!(bytes("5x"), None);
        assert_eq!(readable("1700000000.000250".into()), "2023-11-14T22:13:20.00025Z");
        assert_eq!(readable("soon".into()), "soon");
    }
}
