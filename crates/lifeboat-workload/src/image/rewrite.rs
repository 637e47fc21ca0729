//! An engine's archive of an image, made into the archive that a snapshot takes.
//!
//! Must stay true: what cannot be put together to the same digest is not stored as taken apart: the digest of a file that
//! was split is that of its parts, in the order in which they are joined; and every digest that the image states is
//! compared with it before the end mark is written.
//!
//! Memory is one part of a skeleton, the recipe of one piece of a file, one piece of what is no archive, and
//! [`KEPT_BYTES_MAX`] of small files.

use super::description::{Description, FileRecord, checked_path};
use super::gzip::{Begun, FILLED_MAX, PIECE_BYTES, Unpacking};
use super::hashing::Hashing;
use super::packer::{BUFFER_BYTES, Packer};
use super::verify::{Portable, Saved};
use super::{
    DATA_FOLDER, DESCRIPTION_FILE, Error, Images, RECIPE_FOLDER, SKELETON_FOLDER, SPLIT_FOLDER, WHOLE_FOLDER,
};
use lifeboat_format::{hex, skeleton};
use lifeboat_transfer::dump::head::BLOCK_BYTES;
use lifeboat_transfer::source::archive::split::{Part, Split, is_archive};
use lifeboat_transfer::source::archive::{Kind, Member, Members};
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read, Write};

/// Files up to this length are looked at: manifests, indexes and configurations.
const SMALL_BYTES_MAX: u64 = 4 << 20;
/// All of them together.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Pieces in which a skeleton takes raw bytes.
const RAW_BYTES: usize = 64 << 10;
/// Most files and links of an image's archive: one for each layer, and a few.
pub(super) const FILES_MAX: usize = 10_000;
/// Most contents of one archive: their names have eight digits.
const CONTENTS_MAX: u64 = 99_999_999;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Rewrites what an engine saved. `about` is what is known of the image; gives the description that was written with it.
///
/// # Errors
/// Whatever the archive is not whole, sound and the image that its digests say; then the output has no end mark.
pub fn rewrite(saved: impl Read, output: impl Write, about: Description) -> Result<Description, Error> {
    let mut rewriter = Rewriter {
        output: Packer::new(output),
        images: about.images,
        saved: Saved::default(),
        kept_bytes: 0,
    };
    let mut members = Members::new(BufReader::with_capacity(BUFFER_BYTES, saved));
    while let Some(member) = members.next_member()? {
        rewriter.member(&member, &mut members)?;
    }
    rewriter.finish(about)
}

/// What is written between the parts of an archive that is taken apart, with the stream that they come from.
type Beside<'b, W, R> = &'b mut dyn FnMut(&mut W, &mut R) -> Result<(), Error>;

/// What the parts of an archive are together.
struct Joined {
    bytes: u64,
    sha256: String,
}

struct Rewriter<W: Write> {
    output: Packer<W>,
    images: Images,
    saved: Saved,
    kept_bytes: usize,
}

impl<W: Write> Rewriter<W> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), Error> {
        let shown = String::from_utf8_lossy(&member.name);
        if self.saved.files.len() >= FILES_MAX {
            return Err(Error::Unsupported(format!("its archive has more than {FILES_MAX} files")));
        }
        match &member.kind {
            Kind::Directory => Ok(()),
            Kind::Symlink(target) => {
                let path = checked_path(&member.name).map_err(Error::Incomplete)?;
                let link = String::from_utf8(target.clone())
                    .map_err(|_| Error::Incomplete(format!("`{shown}` points to what is no name")))?;
                self.saved.files.push(FileRecord { path, link: Some(link), ..FileRecord::default() });
                Ok(())
            }
            Kind::File if member.stretches.is_none() => {
                let path = checked_path(&member.name).map_err(Error::Incomplete)?;
                if self.saved.files.iter().any(|file| file.path == path) {
                    return Err(Error::Incomplete(format!("`{path}` is there twice")));
                }
                self.file(path, member.size, content)
            }
            _ => Err(Error::Unsupported(format!("its archive has `{shown}`, which is no plain file"))),
        }
    }

    fn file(&mut self, path: String, bytes: u64, content: &mut dyn Read) -> Result<(), Error> {
        let mut front = Vec::new();
        content.take(BLOCK_BYTES as u64).read_to_end(&mut front)?;
        let is_portable = self.images == Images::Portable;
        let whole = front.as_slice().chain(content);
        let record = if is_portable && (front.starts_with(GZIP) || front.starts_with(ZSTD)) {
            self.unpack(path, front.starts_with(GZIP), whole)?
        } else if front.starts_with(GZIP) {
            self.gzip(path, bytes, whole)?
        } else if is_archive(&front) {
            self.split(path, whole, Some(bytes))?
        } else if bytes <= SMALL_BYTES_MAX {
            self.small(path, whole)?
        } else if is_portable {
            return Err(Error::Unsupported(format!(
                "its layer `{path}` is compressed in a way that is not known here: use `--images exact`"
            )));
        } else {
            self.large(path, bytes, whole)?
        };
        self.saved.files.push(record);
        Ok(())
    }

    /// Takes apart what is compressed, under another name: the old one is its digest as it was.
    fn unpack(&mut self, path: String, is_gzip: bool, content: impl Read) -> Result<FileRecord, Error> {
        let stored = format!("layers/{}.tar", path.rsplit('/').next().unwrap_or(&path));
        let mut hashing = Hashing::new(content);
        let record = match is_gzip {
            // Several members behind each other are one stream: what parallel programs write.
            true => self.split(stored.clone(), flate2::read::MultiGzDecoder::new(&mut hashing), None)?,
            false => self.split(stored.clone(), zstd::stream::read::Decoder::new(&mut hashing)?, None)?,
        };
        io::copy(&mut hashing, &mut io::sink())?;
        self.saved.unpacked.insert(path, (stored, hashing.digest()));
        Ok(record)
    }

    /// Takes a gzip stream apart as what it was made of, if it can be made again.
    fn gzip(&mut self, path: String, bytes: u64, content: impl Read) -> Result<FileRecord, Error> {
        let mut hashing = Hashing::new(content);
        let mut unpacking = match Unpacking::begin(&mut hashing)? {
            Begun::Plain(unpacking) => unpacking,
            Begun::AsItIs(read, rest) => {
                let whole = read.as_slice().chain(rest);
                self.output.stream(&format!("{WHOLE_FOLDER}/{path}"), bytes, &mut { whole })?;
                return Ok(FileRecord { path, bytes, sha256: hashing.digest(), ..FileRecord::default() });
            }
        };
        let folder = format!("{SPLIT_FOLDER}/{path}");
        let mut parts = 0;
        let archive = Split::new(&mut unpacking, None).filling(FILLED_MAX);
        let recipes = format!("{folder}/{RECIPE_FOLDER}");
        let split = self.split_into(&folder, PIECE_BYTES, archive, &mut |this, unpacking| {
            this.part(&recipes, &mut parts, unpacking.recipe_part())
        })?;
        while let Some(part) = unpacking.rest_part()? {
            self.part(&recipes, &mut parts, Some(part))?;
        }
        if unpacking.is_whole() {
            self.saved.plain.insert(path.clone(), split.sha256);
        }
        let recipe = Some(unpacking.taken());
        Ok(FileRecord { path, bytes, sha256: hashing.digest(), split: true, recipe, ..FileRecord::default() })
    }

    /// A file that is kept for [`Saved`] to look at. For a portable image it may be left out in the end.
    fn small(&mut self, path: String, mut content: impl Read) -> Result<FileRecord, Error> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let record = FileRecord {
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            path: path.clone(),
            ..FileRecord::default()
        };
        self.kept_bytes += bytes.len();
        if self.kept_bytes > KEPT_BYTES_MAX {
            return Err(Error::Unsupported("its archive has too many small files".into()));
        }
        if self.images == Images::Exact {
            self.output.file(&format!("{WHOLE_FOLDER}/{path}"), &bytes)?;
        }
        self.saved.small.insert(path, bytes);
        Ok(record)
    }

    fn large(&mut self, path: String, bytes: u64, content: impl Read) -> Result<FileRecord, Error> {
        let mut hashing = Hashing::new(content);
        self.output.stream(&format!("{WHOLE_FOLDER}/{path}"), bytes, &mut hashing)?;
        Ok(FileRecord { path, bytes, sha256: hashing.digest(), ..FileRecord::default() })
    }

    /// Takes an archive apart.
    fn split(&mut self, path: String, content: impl Read, bytes: Option<u64>) -> Result<FileRecord, Error> {
        let folder = format!("{SPLIT_FOLDER}/{path}");
        let Joined { bytes, sha256 } =
            self.split_into(&folder, u64::MAX, Split::new(content, bytes), &mut |_, _| Ok(()))?;
        Ok(FileRecord { path, bytes, sha256, split: true, ..FileRecord::default() })
    }

    /// Takes an archive apart into a folder, with files in pieces of `piece_bytes`; `beside` comes after each piece and each
    /// other part.
    fn split_into<R: Read>(
        &mut self,
        folder: &str,
        piece_bytes: u64,
        mut split: Split<R>,
        beside: Beside<'_, Self, R>,
    ) -> Result<Joined, Error> {
        let (mut parts, mut contents) = (0, 0);
        let skeletons = format!("{folder}/{SKELETON_FOLDER}");
        let mut hasher = Sha256::new();
        let mut total = 0;
        let mut skeleton = skeleton::Builder::default();
        while let Some(part) = split.next_part()? {
            beside(self, split.stream())?;
            match part {
                Part::Raw(bytes) => {
                    hasher.update(&bytes);
                    total += bytes.len() as u64;
                    for piece in bytes.chunks(RAW_BYTES) {
                        let full = skeleton.raw(piece);
                        self.part(&skeletons, &mut parts, full)?;
                    }
                }
                Part::Piece(bytes) => {
                    hasher.update(&bytes);
                    total += bytes.len() as u64;
                    let full = skeleton.content(bytes.len() as u64);
                    self.part(&skeletons, &mut parts, full)?;
                    self.output.file(&content_name(folder, &mut contents)?, &bytes)?;
                }
                Part::File(bytes) => {
                    total += bytes;
                    let mut left = bytes;
                    while left > 0 {
                        let bytes = left.min(piece_bytes);
                        let full = skeleton.content(bytes);
                        self.part(&skeletons, &mut parts, full)?;
                        let mut hashing = Hashing::after((&mut split).take(bytes), hasher);
                        self.output.stream(&content_name(folder, &mut contents)?, bytes, &mut hashing)?;
                        hasher = hashing.into_hasher();
                        beside(self, split.stream())?;
                        left -= bytes;
                    }
                }
            }
        }
        self.part(&skeletons, &mut parts, Some(skeleton.finish()))?;
        Ok(Joined { bytes: total, sha256: hex(&hasher.finalize()) })
    }

    /// The next part of a skeleton or of a recipe, where there is one.
    fn part(&mut self, folder: &str, parts: &mut u32, part: Option<Vec<u8>>) -> Result<(), Error> {
        let Some(part) = part else { return Ok(()) };
        self.output.file(&format!("{folder}/{parts:06}"), &part)?;
        *parts += 1;
        Ok(())
    }

    fn finish(mut self, about: Description) -> Result<Description, Error> {
        let mut description = self.saved.verify(about)?;
        if self.images == Images::Portable {
            let Portable { files, made } = self.saved.portable(&description)?;
            description.files = files;
            for (path, bytes) in made {
                self.output.file(&format!("{WHOLE_FOLDER}/{path}"), &bytes)?;
            }
        }
        let text = serde_json::to_vec(&description).map_err(io::Error::from)?;
        self.output.file(DESCRIPTION_FILE, &text)?;
        self.output.finish()?;
        Ok(description)
    }
}

fn content_name(folder: &str, contents: &mut u64) -> Result<String, Error> {
    if *contents > CONTENTS_MAX {
        return Err(Error::Unsupported("one of its layers has too many files".into()));
    }
    let name = format!("{folder}/{DATA_FOLDER}/{contents:08}");
    *contents += 1;
    Ok(name)
}
