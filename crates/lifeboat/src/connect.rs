//! From a location and a secret to an open repository.

use lifeboat_format::Timestamp;
use lifeboat_format::config::Parameters;
use lifeboat_format::seal::Key;
use lifeboat_format::slot::Secret;
use lifeboat_repo::{Error, Repository, Result};
use lifeboat_store::{LocalStore, RepositoryProblem, Store};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first word of a key file; its number is the key file's version.
const KEY_FILE_WORD: &str = "lifeboat-key-1";

/// Makes a repository at `location`, a local folder that is missing or empty.
pub fn init(location: &str, secret: &Secret<'_>) -> Result<Repository> {
    let path = local_path(location)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(format!("{} cannot be made", parent.display())))?;
    }
    let store = LocalStore::create(&path).map_err(|error| explain(location, error))?;
    Repository::init(Arc::new(store), Parameters::default(), secret, "first", now())
}

/// Opens the store at `location`.
pub fn open_store(location: &str) -> Result<Arc<dyn Store>> {
    let store = LocalStore::open(local_path(location)?).map_err(|error| explain(location, error))?;
    Ok(Arc::new(store))
}

/// Opens the repository at `location`; its local index lives below `cache`, or in a throw-away folder.
pub fn open(location: &str, secret: &Secret<'_>, cache: Option<PathBuf>) -> Result<Repository> {
    Ok(Repository::open(open_store(location)?, secret)?.with_cache(cache))
}

/// Removes what killed writers left unfinished in a local repository; gives how many bytes that frees.
///
/// Files of running writers are locked, and nothing younger than an hour is touched.
pub fn remove_stale(location: &str) -> Result<u64> {
    let store = LocalStore::open(local_path(location)?).map_err(|error| explain(location, error))?;
    let doing = || Error::store(format!("unfinished files in {location} cannot be removed"));
    let stale = store.stale_spools(std::time::Duration::from_secs(3600)).map_err(doing())?;
    store.remove_stale_spools(&stale).map_err(doing())?;
    Ok(stale.iter().map(|spool| spool.bytes).sum())
}

/// A location is a path; what looks like a URL is refused by name until there are remote stores.
fn local_path(location: &str) -> Result<PathBuf> {
    let scheme = location.split_once(':').map(|(scheme, _)| scheme);
    match scheme {
        Some("local" | "file") => Ok(PathBuf::from(&location[scheme.map_or(0, str::len) + 1..])),
        Some(scheme @ ("s3" | "sftp" | "rest" | "b2" | "azure" | "gs" | "rclone" | "http" | "https")) => {
            Err(Error::Usage(format!("repositories at `{scheme}:` are not supported yet; use a local path")))
        }
        _ if location.is_empty() => Err(Error::Usage("the repository's location is empty".into())),
        _ => Ok(PathBuf::from(location)),
    }
}

fn explain(location: &str, error: lifeboat_store::Error) -> Error {
    let location = location.to_owned();
    match &error {
        lifeboat_store::Error::Repository { problem, .. } => match problem {
            RepositoryProblem::Missing
            | RepositoryProblem::NotRepository
            | RepositoryProblem::NotDirectory => Error::NoRepository { location },
            RepositoryProblem::HalfCreated => Error::HalfCreated { location },
            RepositoryProblem::Repository => Error::RepositoryExists { location },
            _ => Error::store(format!("{location} cannot be used"))(error),
        },
        _ => Error::store(format!("{location} cannot be used"))(error),
    }
}

/// Reads a key file: one line, `lifeboat-key-1` and 64 hexadecimal digits.
pub fn read_key_file(path: &Path) -> Result<Key> {
    let text = std::fs::read_to_string(path)
        .map_err(Error::io(format!("key file {} cannot be read", path.display())))?;
    let text = zeroize::Zeroizing::new(text);
    let digits = text.trim().strip_prefix(KEY_FILE_WORD).map(str::trim);
    let bytes = digits.and_then(|digits| digits.parse::<lifeboat_format::PackName>().ok());
    let bytes = bytes.ok_or_else(|| Error::KeyFile { file: path.display().to_string() })?;
    Ok(Key::new(bytes.0))
}

/// Makes a key file that only its owner can read; an existing file is never replaced.
pub fn write_key_file(path: &Path) -> Result<Key> {
    let doing = || Error::io(format!("key file {} cannot be written", path.display()));
    let key = Key::random();
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(doing())?;
    let digits = zeroize::Zeroizing::new(lifeboat_format::PackName(*key.expose()).to_string());
    writeln!(file, "{KEY_FILE_WORD} {}", digits.as_str()).map_err(doing())?;
    // The key must be as durable as the repository that only it opens.
    file.sync_all().map_err(doing())?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing())?;
    Ok(key)
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
