//! Whether volumes can be read past the engine, on this machine's own disk.
//!
//! A socket does not tell on which machine its engine is, and a path that an engine names may exist here too and be
//! another's. So a file with a random name and content is put into a fresh volume through the engine, and looked for on
//! disk. Must stay true: nothing but that file makes [`Proof::Proven`]; a volume is read on disk only where the engine
//! keeps it beside the proven one, and where its root looks the same from both sides ([`Proven::root_of`]): a disk that
//! is mounted on a volume may be seen by the engine alone.
//!
//! The file can be read by its owner only, and that is nobody here, so the proof is also one of permission.

use super::helper_container::{Access, HelperContainer};
use super::{Error, random_hex};
use crate::engine::views::{EngineInfo, Volume, Words};
use crate::engine::{Engine, PathStat};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Says of a volume that it was made for a proof; the value is the run that made it.
pub const PROOF_LABEL: &str = "lifeboat.proof";
/// What a volume's folder is called below the volume's name.
const DATA: &str = "_data";
/// A container that writes changes its volume's root between two looks at it.
const LOOKS_MAX: u32 = 5;
/// An owner that is nobody on either side.
const STRANGER: u64 = 48_203;

/// What the proof came to.
#[derive(Debug, Clone)]
pub enum Proof {
    /// Volumes beside this one can be read on disk.
    Proven(Proven),
    /// They cannot, for this reason.
    Refused(String),
}

/// Where this engine's volumes are on this machine's disk.
#[derive(Debug, Clone)]
pub struct Proven {
    volumes: PathBuf,
}

/// Puts a file through the engine and looks for it on disk.
pub fn prove(engine: &Engine, info: &EngineInfo, run: &str) -> Result<Proof, Error> {
    if info.is_rootless {
        return Ok(Proof::Refused("the engine is rootless: on disk its files have other owners".into()));
    }
    let (name, file, content) = (random_hex()?, random_hex()?, random_hex()?);
    let labels = Words::from([(PROOF_LABEL.to_owned(), run.to_owned())]);
    let volume = engine.create_volume(
        Some(&format!("lifeboat-proof-{}", &name[..16])),
        "local",
        &Words::new(),
        &labels,
    )?;
    let result = look(engine, run, &volume, &file, &content);
    let removed = engine.remove_volume(&volume.name);
    let proof = result?;
    removed?;
    Ok(proof)
}

fn look(engine: &Engine, run: &str, volume: &Volume, file: &str, content: &str) -> Result<Proof, Error> {
    let helper = HelperContainer::create(engine, run, &[(volume, Access::Write)])?;
    helper.unpack(0, one_file(file, content.as_bytes())?.as_slice())?;
    let refused = |why: String| Ok(Proof::Refused(why));
    let Some(volumes) = folder_of_all(volume) else {
        return refused(format!("the engine keeps volumes in a way of its own: `{}`", volume.mount_point));
    };
    let path = Path::new(&volume.mount_point).join(file);
    let found = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .and_then(|mut open| {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(&mut open, 1 << 10), &mut text)?;
            Ok((text, open.metadata()?))
        });
    helper.remove()?;
    match found {
        Ok((text, metadata)) => match text == content.as_bytes() && u64::from(metadata.uid()) == STRANGER {
            true => Ok(Proof::Proven(Proven { volumes })),
            false => refused(format!("{} here is another file than in the engine", path.display())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refused("what the engine writes is not on this machine's disk".into())
        }
        Err(error) => refused(format!("what the engine writes cannot be read here: {error}")),
    }
}

impl Proven {
    /// The folder of a volume on this machine's disk, or why it cannot be read there. `engines_view` is what the engine
    /// sees at the volume's root, asked anew at each call.
    pub fn root_of(
        &self,
        volume: &Volume,
        engines_view: impl Fn() -> Result<Option<PathStat>, Error>,
    ) -> Result<Result<PathBuf, String>, Error> {
        if folder_of_all(volume).as_deref() != Some(self.volumes.as_path()) {
            return Ok(Err(format!("the engine keeps it elsewhere: `{}`", volume.mount_point)));
        }
        let root = PathBuf::from(&volume.mount_point);
        let mut before = engines_view()?;
        for _ in 0..LOOKS_MAX {
            let here = match std::fs::symlink_metadata(&root) {
                Ok(metadata) => metadata,
                Err(error) => return Ok(Err(format!("its folder cannot be looked at: {error}"))),
            };
            let after = engines_view()?;
            let modified = after.as_ref().and_then(|stat| stat.modified);
            let same = modified == Some((here.mtime(), here.mtime_nsec()))
                && after.as_ref().is_some_and(PathStat::is_directory)
                && here.is_dir();
            match same {
                true => return Ok(Ok(root)),
                // It changed while it was looked at.
                false if after != before => before = after,
                false => break,
            }
        }
        Ok(Err("the engine sees another folder there than this machine: a disk may be mounted on it".into()))
    }
}

/// The folder that holds the folders of all volumes; `None` where this one's is not in the usual place.
fn folder_of_all(volume: &Volume) -> Option<PathBuf> {
    let data = Path::new(&volume.mount_point);
    let own = data.parent().filter(|_| data.is_absolute() && data.file_name() == Some(DATA.as_ref()))?;
    let is_plain = own.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    (is_plain && own.file_name() == Some(volume.name.as_ref())).then(|| own.parent().map(Path::to_owned))?
}

/// A tar archive of a single file that nobody but a stranger may read.
fn one_file(name: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o400);
    header.set_uid(STRANGER);
    header.set_gid(STRANGER);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).map_err(Error::Archive)?;
    archive.into_inner().map_err(Error::Archive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    fn volume(root: &Path, name: &str) -> Volume {
        let mount_point = root.join(name).join(DATA).display().to_string();
        Volume { name: name.into(), driver: "local".into(), mount_point, ..Volume::default() }
    }

    fn seen(root: &Path) -> PathStat {
        let metadata = std::fs::symlink_metadata(root).unwrap();
        PathStat {
            name: DATA.into(),
            size: 0,
            go_mode: PathStat::DIRECTORY | 0o755,
            link_target: String::new(),
            modified: Some((metadata.mtime(), metadata.mtime_nsec())),
        }
    }

    #[test]
    fn a_volume_is_read_on_disk_only_beside_the_proven_one() {
        let folder = tempfile::tempdir().unwrap();
        let proven = Proven { volumes: folder.path().to_owned() };
        std::fs::create_dir_all(folder.path().join("v").join(DATA)).unwrap();
        let fine = volume(folder.path(), "v");
        let view = || Ok(Some(seen(&folder.path().join("v").join(DATA))));
        assert_eq!(proven.root_of(&fine, view).unwrap(), Ok(folder.path().join("v").join(DATA)));
        let elsewhere =
            |mount_point: String, name: &str| Volume { mount_point, name: name.into(), ..fine.clone() };
        for bad in [
            elsewhere("/etc".into(), "v"),
            elsewhere(fine.mount_point.clone(), "other"),
            elsewhere(folder.path().join("x/../v").join(DATA).display().to_string(), "v"),
            elsewhere(folder.path().join("deeper/v").join(DATA).display().to_string(), "v"),
            elsewhere("v/_data".into(), "v"),
            elsewhere(String::new(), "v"),
        ] {
            assert!(proven.root_of(&bad, view).unwrap().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_disk_that_only_the_engine_sees_on_a_volume_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let proven = Proven { volumes: folder.path().to_owned() };
        let root = folder.path().join("v").join(DATA);
        std::fs::create_dir_all(&root).unwrap();
        let volume = volume(folder.path(), "v");
        let other = PathStat { modified: Some((5, 0)), ..seen(&root) };
        assert!(proven.root_of(&volume, || Ok(Some(other.clone()))).unwrap().is_err());
        assert!(proven.root_of(&volume, || Ok(None)).unwrap().is_err());
        let file = PathStat { go_mode: 0o644, ..seen(&root) };
        assert!(proven.root_of(&volume, || Ok(Some(file.clone()))).unwrap().is_err());
    }

    #[test]
    fn a_volume_that_changes_while_it_is_looked_at_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let proven = Proven { volumes: folder.path().to_owned() };
        let root = folder.path().join("v").join(DATA);
        std::fs::create_dir_all(&root).unwrap();
        let looks = std::cell::Cell::new(0_u64);
        let view = || {
            looks.set(looks.get() + 1);
            if looks.get() < 4 {
                let later: SystemTime = UNIX_EPOCH + Duration::from_secs(1000 + looks.get());
                std::fs::File::open(&root).unwrap().set_modified(later).unwrap();
            }
            Ok(Some(seen(&root)))
        };
        assert_eq!(proven.root_of(&volume(folder.path(), "v"), view).unwrap(), Ok(root.clone()));
        assert!(looks.get() >= 4);
    }
}
