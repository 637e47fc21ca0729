//! Images of a container engine, as what is backed up and as what is restored.

use super::select::Selected;
use super::stored;
use super::volumes::Reach;
use crate::args::{ImagesArg, OverwriteArg, RestoreArgs};
use crate::failure::{DONE, Hinted};
use crate::ui::{Ui, bytes};
use anyhow::{Context, Result, bail};
use lifeboat::Repository;
use lifeboat::backup::SourceSpec;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::repo::snapshots::pick_source;
use lifeboat::restore::Options;
use lifeboat::workload::engine::{self, Engine};
use lifeboat::workload::image::description::{DESCRIPTION_BYTES_MAX, Description, Store};
use lifeboat::workload::image::load::{Loaded, load};
use lifeboat::workload::image::plan::{Plan, Wanted, plan};
use lifeboat::workload::image::{DESCRIPTION_FILE, Found, Images, LoadStream, Names};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What an image is called on the command line.
pub(super) const PREFIX: &str = "image:";
/// The engine gets the archive in pieces of this length.
const BUFFER_BYTES: usize = 1 << 20;

/// The name that `--to` gives an image, empty for its own, if it names one.
pub(crate) fn target_name(to: &OsStr) -> Option<&str> {
    to.to_str()?.strip_prefix(PREFIX)
}

impl From<ImagesArg> for Images {
    fn from(argument: ImagesArg) -> Self {
        match argument {
            ImagesArg::Exact => Self::Exact,
            ImagesArg::Portable => Self::Portable,
        }
    }
}

impl Reach<'_> {
    /// A source by its name, if it is an image's; an image that is not there is the inner error.
    pub(crate) fn image_source(
        &mut self,
        name: &str,
        images: ImagesArg,
    ) -> Result<Option<Result<SourceSpec, engine::Error>>> {
        let Some(image) = name.strip_prefix(PREFIX) else { return Ok(None) };
        let volumes = self.volumes()?;
        match Found::find(volumes.engine(), volumes.info(), image, images.into()) {
            Ok(found) => Ok(Some(Ok(SourceSpec::Archive(found.source(volumes.engine(), image))))),
            Err(error) if error.is_not_found() => Ok(Some(Err(error))),
            Err(error) => Err(error.into()),
        }
    }
}

/// Says how much of the images of a snapshot could not be stored by file.
pub(super) fn tell_shares(ui: &Ui, repository: &Repository, sources: &[Source]) {
    let reader = ChunkReader::new(repository);
    for source in sources.iter().filter(|source| source.kind == SourceKind::Image) {
        // A snapshot was just made: what cannot be told of it now is no reason to fail.
        let Ok(description) = description(&reader, source) else { continue };
        let (mut whole, mut split) = (0, 0);
        let mut layers: HashSet<&str> = HashSet::new();
        for layer in description.layers.iter().filter(|layer| layers.insert(layer.as_str())) {
            match description.file(layer) {
                Some(file) if file.split => split += file.bytes,
                Some(file) => whole += file.bytes,
                None => {}
            }
        }
        let name = String::from_utf8_lossy(&source.full_name()).into_owned();
        if ui.json {
            ui.emit(
                "image",
                json!({
                    "name": name, "id": description.id, "layer_bytes_by_file": split, "layer_bytes_as_they_are": whole,
                    "absent_platforms": description.absent_platforms,
                }),
            );
        } else if whole > 0 && description.store == Store::Containerd {
            ui.notice(&format!(
                "{name}: {} of layers are stored as the engine compressed them, so only whole layers are stored once; \
                 `--images portable` stores them by file and gives up the id",
                bytes(whole)
            ));
        }
        if description.absent_platforms > 0 {
            ui.notice(&format!(
                "{name}: the engine does not have {} of its platforms; the others are stored",
                description.absent_platforms
            ));
        }
    }
}

/// Makes an image of a snapshot an image of an engine again.
pub(crate) fn restore(
    ui: &Ui,
    repository: &Repository,
    selected: &Selected,
    name: &str,
    arguments: &RestoreArgs,
    options: &Options<'_>,
) -> Result<u8> {
    refuse_what_images_cannot(arguments)?;
    let reader = ChunkReader::new(repository);
    let sources = image_sources(selected)?;
    if !name.is_empty() && sources.len() > 1 {
        bail!(Hinted::new(
            "the snapshot has several images, and one name",
            format!("lifeboat restore {}:image:NAME --to image:{name}", short_id(selected))
        ));
    }
    let mut reach = Reach::new(&arguments.engine);
    let volumes = reach.volumes()?;
    let wanted = Wanted {
        tags: (!name.is_empty()).then(|| vec![name.to_owned()]),
        takes_names: arguments.overwrite.is_some(),
    };
    let mut plans = Vec::new();
    for source in sources {
        let description = description(&reader, source)?;
        let planned = plan(volumes.engine(), volumes.info(), description, &wanted)?;
        plans.push((source, planned));
    }
    for (source, plan) in &plans {
        if arguments.dry_run {
            show(ui, source, plan);
            continue;
        }
        plan.remarks.iter().for_each(|text| ui.notice(text));
        let loaded = load_one(volumes.engine(), volumes.run(), &reader, source, plan, options.interrupt)?;
        report(ui, plan, &loaded);
    }
    Ok(DONE)
}

/// How many images an engine is given at once: while it unpacks one, another one is read.
const LOADS: usize = 2;

/// Loads all images of a project. Those that share their lowest layer come one after the other, so that it is given once.
pub(super) fn load_all(
    engine: &Engine,
    run: &str,
    reader: &ChunkReader,
    images: &[(&Source, Plan)],
    interrupt: &AtomicBool,
) -> Result<Vec<Loaded>> {
    let mut families: BTreeMap<&str, Vec<&(&Source, Plan)>> = BTreeMap::new();
    for image in images {
        let lowest = image.1.description.diff_ids.first().map_or("", String::as_str);
        families.entry(lowest).or_default().push(image);
    }
    let families: Vec<_> = families.into_values().collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        while let Some(family) = families.get(next.fetch_add(1, Ordering::Relaxed)) {
            for (source, plan) in family.iter().copied() {
                if failed.load(Ordering::Relaxed) {
                    return Ok(loaded);
                }
                let one = load_one(engine, run, reader, source, plan, interrupt)
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                loaded.push(one);
            }
        }
        Ok(loaded)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..LOADS.min(families.len())).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that loads an image panicked")))
        });
        let mut all = own?;
        for one in others {
            all.extend(one?);
        }
        Ok(all)
    })
}

/// Loads one image of a snapshot.
fn load_one(
    engine: &Engine,
    run: &str,
    reader: &ChunkReader,
    source: &Source,
    plan: &Plan,
    interrupt: &AtomicBool,
) -> Result<Loaded> {
    // An image that was loaded since it was planned may have layers of this one.
    let plan = plan.clone().again(engine)?;
    let stream = |omitted: &HashSet<String>| {
        let stream = LoadStream::new(
            &plan.description,
            omitted,
            Names::Dropped,
            stored::below(reader, source),
            reader,
        );
        BufReader::with_capacity(BUFFER_BYTES, Interruptible { stream, interrupt })
    };
    let loaded = load(engine, run, &plan, stream);
    if loaded.is_err() && interrupt.load(Ordering::Relaxed) {
        // The stream says so only in words.
        return Err(lifeboat::repo::Error::Interrupted.into());
    }
    loaded.with_context(|| {
        format!("{} cannot be restored", String::from_utf8_lossy(&source.full_name()).into_owned())
    })
}

/// Writes an image to standard output, for `docker load`.
pub(super) fn to_stdout(repository: &Repository, source: &Source) -> Result<()> {
    let reader = ChunkReader::new(repository);
    let description = description(&reader, source)?;
    let mut stream =
        LoadStream::new(&description, &HashSet::new(), Names::Kept, stored::below(&reader, source), &reader);
    let mut output = std::io::stdout().lock();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).context("the image cannot be read")? {
            0 => break,
            length => output.write_all(&buffer[..length]).context("the archive cannot be written")?,
        }
    }
    Ok(output.flush()?)
}

struct Interruptible<'i, R> {
    stream: R,
    interrupt: &'i AtomicBool,
}

impl<R: Read> Read for Interruptible<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(std::io::Error::other(lifeboat::repo::Error::Interrupted));
        }
        self.stream.read(buffer)
    }
}

fn refuse_what_images_cannot(arguments: &RestoreArgs) -> Result<()> {
    if arguments.delete || arguments.verify {
        bail!(
            "--delete and --verify have no meaning for an image: it is whole, and always looked at, or not there"
        );
    }
    if !(arguments.include.is_empty() && arguments.exclude.is_empty()) {
        bail!("an image is loaded whole: --include and --exclude are for folders and volumes");
    }
    if let Some(OverwriteArg::IfChanged | OverwriteArg::Never) = arguments.overwrite {
        bail!(
            "for an image, `--overwrite always` takes its name from another one; nothing else can be meant"
        );
    }
    Ok(())
}

fn short_id(selected: &Selected) -> String {
    selected.snapshot.id.to_string()[..8].to_owned()
}

/// The image that is named, or all of the snapshot.
fn image_sources(selected: &Selected) -> Result<Vec<&Source>> {
    let found: Vec<&Source> = match &selected.path {
        Some(path) => {
            let (source, inner) = pick_source(&selected.snapshot, path)?;
            let is_image = source.kind == SourceKind::Image && inner.is_root();
            is_image.then_some(source).into_iter().collect()
        }
        None => selected.snapshot.sources.iter().filter(|source| source.kind == SourceKind::Image).collect(),
    };
    if found.is_empty() {
        let hint = format!("lifeboat restore {}:image:NAME --to image:", short_id(selected));
        bail!(Hinted::new("that is no image of the snapshot", hint));
    }
    Ok(found)
}

/// What the snapshot says of an image.
pub(super) fn description(reader: &ChunkReader, source: &Source) -> Result<Description> {
    let text = stored::description(reader, source, DESCRIPTION_FILE, DESCRIPTION_BYTES_MAX)?;
    Ok(Description::read(&text)?)
}

fn plan_json(plan: &Plan) -> serde_json::Value {
    json!({
        "id": plan.description.id, "config": plan.description.config, "present": plan.present, "tags": plan.tags,
        "bytes": plan.bytes, "layers_there": plan.omitted.len(), "remarks": plan.remarks,
    })
}

fn show(ui: &Ui, source: &Source, plan: &Plan) {
    if ui.json {
        ui.emit("summary", json!({"dry_run": true, "plan": plan_json(plan)}));
        return;
    }
    let name = String::from_utf8_lossy(&source.full_name()).into_owned();
    match &plan.present {
        Some(id) => ui.say(format!("Would load nothing for {name}: the engine has it as {id}")),
        None if plan.omitted.is_empty() => ui.say(format!("Would load {name}, {}", bytes(plan.bytes))),
        None => ui.say(format!(
            "Would load {name}, {}, without {} layers that the engine has",
            bytes(plan.bytes),
            plan.omitted.len()
        )),
    }
    if !plan.tags.is_empty() {
        ui.say(format!("  names: {}", plan.tags.join(", ")));
    }
    plan.remarks.iter().for_each(|remark| ui.say(format!("  note: {remark}")));
}

fn report(ui: &Ui, plan: &Plan, loaded: &Loaded) {
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "id": loaded.id, "recorded_id": plan.description.id, "was_there": loaded.was_there, "tags": loaded.tags,
                "lost_digests": loaded.lost_digests, "bytes": if loaded.was_there { 0 } else { plan.bytes },
                "layers_there": plan.omitted.len(), "remarks": plan.remarks,
            }),
        );
    } else {
        let names = match loaded.tags.is_empty() {
            true => String::new(),
            false => format!(" as {}", loaded.tags.join(", ")),
        };
        match loaded.was_there {
            true => ui.say(format!("The engine has image {}{names} already", loaded.id)),
            false => ui.say(format!("Loaded image {}{names}, {}", loaded.id, bytes(plan.bytes))),
        }
    }
    tell_lost_names(ui, loaded);
}

/// Says which names an image has no more, and how it gets them.
pub(super) fn tell_lost_names(ui: &Ui, loaded: &Loaded) {
    for digest in &loaded.lost_digests {
        ui.notice(&format!(
            "its name {digest} cannot be given by loading; where it is asked for by that name: docker pull {digest}"
        ));
    }
}
