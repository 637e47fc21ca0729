//! From errors to exit codes, messages and hints.

use lifeboat::bundle;
use lifeboat::repo::ErrorKind;
use lifeboat::workload::layer::LayerError;
use lifeboat::workload::{capture, engine, image, recreate, volume};
use std::fmt;

/// Everything was done.
pub(crate) const DONE: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// It was done, but for some files.
pub(crate) const PARTIAL: u8 = 3;
/// A service that has to be healthy is not: nothing was done.
pub(crate) const NOT_HEALTHY: u8 = 4;
/// There is no repository.
pub(crate) const NO_REPOSITORY: u8 = 10;
/// Another run works with the same services.
pub(crate) const BUSY: u8 = 11;
/// Wrong password or key.
pub(crate) const WRONG_KEY: u8 = 12;
/// The container engine is not there, refuses this user, or is of another version.
pub(crate) const NO_ENGINE: u8 = 13;
/// The user interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// What to do about a full disk of this machine.
const MAKE_ROOM: &str = "df -h    # make room and run the same command again; nothing stored is lost";

/// An error that knows what to type next.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    /// A message, and a command that can be pasted.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

fn repository_error(error: &anyhow::Error) -> Option<&lifeboat::repo::Error> {
    error.chain().find_map(|cause| {
        cause.downcast_ref::<lifeboat::repo::Error>().or_else(|| inside(cause)).or_else(|| {
            match cause.downcast_ref::<lifeboat::Error>() {
                Some(lifeboat::Error::Repository(error)) => Some(error),
                _ => match cause.downcast_ref::<lifeboat::RestoreError>() {
                    Some(lifeboat::RestoreError::Repository(error)) => Some(error),
                    _ => match cause.downcast_ref::<bundle::Error>() {
                        Some(bundle::Error::Repository(error)) => Some(error),
                        _ => None,
                    },
                },
            }
        })
    })
}

fn engine_error(error: &anyhow::Error) -> Option<&engine::Error> {
    error.chain().find_map(|cause| engines(cause).or_else(|| wrapped(cause).find_map(engines)))
}

/// The engine's error that a cause is. What is transparent gives its cause's cause as its own.
fn engines<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e engine::Error> {
    let own = cause
        .downcast_ref::<engine::Error>()
        .or_else(|| Some(&**cause.downcast_ref::<Box<engine::Error>>()?))
        .or_else(|| of_volume(cause.downcast_ref()?))
        .or_else(|| of_layer(cause.downcast_ref()?));
    let captured = || match cause.downcast_ref()? {
        capture::Error::Engine(error) => Some(error),
        capture::Error::Volume(error) => of_volume(error),
        capture::Error::Layer(error) => of_layer(error),
        _ => None,
    };
    own.or_else(captured)
        .or_else(|| match cause.downcast_ref()? {
            recreate::Error::Engine(error) => Some(error),
            recreate::Error::Volume(error) => of_volume(error),
            recreate::Error::Layer(error) => of_layer(error),
            _ => None,
        })
        .or_else(|| match cause.downcast_ref()? {
            image::Error::Engine(error) => Some(error),
            _ => None,
        })
}

fn of_volume(error: &volume::Error) -> Option<&engine::Error> {
    match error {
        volume::Error::Engine(error) => Some(error),
        _ => None,
    }
}

fn capture_error(error: &anyhow::Error) -> Option<&capture::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn of_layer(error: &LayerError) -> Option<&engine::Error> {
    match error {
        LayerError::Engine(error) => Some(error),
        LayerError::Volume(error) => of_volume(error),
        _ => None,
    }
}

/// The image's error, which comes through a stream.
fn image_error(error: &anyhow::Error) -> Option<&image::Error> {
    error.chain().find_map(|cause| cause.downcast_ref().or_else(|| inside(cause)))
}

/// The error that a stream failed with.
fn inside<'e, E: std::error::Error + 'static>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e E> {
    wrapped(cause).find_map(|cause| cause.downcast_ref())
}

/// What an I/O error wraps, and its causes: a chain leaves the first of them out.
fn wrapped<'e>(
    cause: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    type Cause<'e> = &'e (dyn std::error::Error + 'static);
    let next = |cause: Cause<'e>| -> Option<Cause<'e>> {
        match cause.downcast_ref::<std::io::Error>() {
            Some(error) => Some(error.get_ref()?),
            None => cause.source(),
        }
    };
    let first = cause.is::<std::io::Error>().then(|| next(cause)).flatten();
    std::iter::successors(first, move |cause| next(*cause))
}

fn bundle_error(error: &anyhow::Error) -> Option<&bundle::Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    let restore = error.chain().find_map(|cause| {
        cause.downcast_ref::<lifeboat::restore::Error>().or_else(|| {
            match cause.downcast_ref::<lifeboat::RestoreError>() {
                Some(lifeboat::RestoreError::Restore(error)) => Some(error),
                _ => None,
            }
        })
    });
    matches!(restore, Some(lifeboat::restore::Error::Interrupted))
        || matches!(repository_error(error), Some(lifeboat::repo::Error::Interrupted))
        || matches!(capture_error(error), Some(capture::Error::Interrupted))
}

/// The exit code for an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    use lifeboat::repo::Error;
    if is_interrupted(error) {
        return INTERRUPTED;
    }
    match capture_error(error) {
        Some(capture::Error::NotHealthy { .. }) => return NOT_HEALTHY,
        Some(error) if error.is_busy() => return BUSY,
        _ => {}
    }
    let kind = engine_error(error).map(engine::Error::kind);
    if let Some(engine::ErrorKind::Denied | engine::ErrorKind::Unavailable | engine::ErrorKind::Unsupported) =
        kind
    {
        return NO_ENGINE;
    }
    if let Some(image::Error::Incomplete(_)) = image_error(error) {
        return PARTIAL;
    }
    if let Some(bundle::Error::WrongKey) = bundle_error(error) {
        return WRONG_KEY;
    }
    match repository_error(error) {
        Some(Error::NoRepository { .. } | Error::HalfCreated { .. }) => NO_REPOSITORY,
        Some(Error::WrongKey { .. } | Error::KeyFile { .. }) => WRONG_KEY,
        _ => FAILED,
    }
}

/// What to type next, where that can be said.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    use lifeboat::repo::Error;
    if let Some(hinted) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
        return Some(hinted.hint.clone());
    }
    if is_interrupted(error) {
        return Some(
            "run the same command again; an interrupted snapshot goes on from what it has stored".into(),
        );
    }
    match capture_error(error) {
        Some(capture::Error::NoContainer(_)) => return Some("lifeboat docker ls".into()),
        Some(capture::Error::NotHealthy { name, .. }) => {
            return Some(format!("docker inspect --format '{{{{json .State}}}}' {name}"));
        }
        Some(capture::Error::Volume(error)) => return error.hint(),
        _ => {}
    }
    if let Some(error) = engine_error(error).filter(|error| error.kind() != engine::ErrorKind::Input) {
        return error.hint();
    }
    if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<volume::Error>()) {
        return error.hint();
    }
    if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<recreate::Error>()) {
        return error.hint();
    }
    if let Some(hint) = image_error(error).and_then(|found| image_hint(error, found)) {
        return Some(hint);
    }
    if let Some(hint) = bundle_error(error).and_then(bundle_hint) {
        return Some(hint);
    }
    let Some(error) = repository_error(error) else { return full_hint(error) };
    Some(match error {
        Error::NoRepository { location } => format!("lifeboat init -r {location}"),
        Error::HalfCreated { location } => {
            format!("lifeboat init -r {location}    # starts it over; nothing was stored in it yet")
        }
        Error::WrongKey { .. } => "check LIFEBOAT_PASSWORD, LIFEBOAT_PASSWORD_FILE and --key-file".into(),
        Error::NoSnapshot(_) | Error::AmbiguousSnapshot { .. } => "lifeboat snapshots".into(),
        Error::MissingChunk(_) | Error::MissingPack(_) => {
            "lifeboat check --read-data    # names every file that is touched".into()
        }
        _ => match error.kind() {
            ErrorKind::Damaged => "lifeboat check --read-data    # names everything that is damaged".into(),
            ErrorKind::Full => MAKE_ROOM.into(),
            ErrorKind::Unsupported => "install a newer lifeboat".into(),
            _ => return None,
        },
    })
}

/// Where the repository has room, and something else has not: the state folder, a folder for temporary files.
fn full_hint(error: &anyhow::Error) -> Option<String> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_full = |error: &std::io::Error| matches!(error.kind(), StorageFull | QuotaExceeded);
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_full)).then(|| MAKE_ROOM.into())
}

/// What to do about an image that cannot be stored: its name is in the error that it caused.
fn image_hint(error: &anyhow::Error, found: &image::Error) -> Option<String> {
    let source = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(lifeboat::Error::Source { path, .. }) => path.to_str()?.strip_prefix("image:"),
        _ => None,
    });
    match (found, source) {
        (image::Error::Incomplete(_), Some(name)) => {
            Some(format!("docker pull {name}    # or build it again: the engine does not have all of it"))
        }
        _ => found.hint(),
    }
}

fn bundle_hint(error: &bundle::Error) -> Option<String> {
    let short = |id: &lifeboat::format::SnapshotId| id.to_string()[..8].to_owned();
    Some(match error {
        bundle::Error::MissingBase { id, .. } => {
            format!(
                "lifeboat export {} -o FILE    # where the bundle came from; import that first",
                short(id)
            )
        }
        bundle::Error::OtherBase { .. } => {
            "lifeboat export ID --full -o FILE    # where the bundle came from".to_owned()
        }
        bundle::Error::ParentGone { id, .. } => {
            format!("lifeboat export {} --full -o FILE    # or --since another snapshot", short(id))
        }
        bundle::Error::WrongKey => {
            "check LIFEBOAT_BUNDLE_PASSWORD, --bundle-password-file and --bundle-key-file".to_owned()
        }
        bundle::Error::CutOff(_) | bundle::Error::Damaged(_) => {
            "lifeboat import --check FILE    # fetch or export the bundle again if that fails".to_owned()
        }
        _ => return None,
    })
}

/// The error and its causes, without saying anything twice.
pub(crate) fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if lines.last().is_none_or(|last| !last.ends_with(&text)) {
            lines.push(text);
        }
    }
    lines
}
