//! What is done to bytes: cut, hash, compress, seal, and back.

use super::sample::Sample;
use super::stage;
use crate::results::Unit;
use crate::rounds::Participant;
use anyhow::{Result, ensure};
use lifeboat_chunker::Cutter;
use lifeboat_format::RepositoryId;
use lifeboat_format::config::Parameters;
use lifeboat_format::keys::Keys;
use lifeboat_format::region::{ChunkKind, RegionHead, RegionOpener, RegionSealer};
use lifeboat_format::seal::{Key, Suite};
use std::hint::black_box;

/// The level that snapshots take by default.
const LEVEL: i32 = 3;

/// Keys of a repository that exists nowhere.
pub(crate) fn keys(suite: Suite) -> Keys {
    Keys::derive(&Key::random(), RepositoryId::random(), suite)
}

/// Stages over the sample's bytes.
pub(crate) fn stages(sample: &Sample) -> Result<Vec<Participant<'_>>> {
    let mut all = vec![cut(sample)];
    for kibibytes in [4, 16, 64] {
        all.push(hash(sample, kibibytes << 10));
    }
    for level in [1, 2, 3] {
        all.push(compress(sample, level)?);
    }
    all.push(decompress(sample)?);
    for suite in [Suite::XChaCha20Poly1305, Suite::Aes256Gcm] {
        all.push(seal(suite)?);
        all.push(open(suite)?);
    }
    all.push(decode(sample)?);
    Ok(all)
}

fn cut(sample: &Sample) -> Participant<'_> {
    let cutter = Cutter::new(&keys(Suite::XChaCha20Poly1305), Parameters::default().cut);
    // As one long file: small files are not cut at all.
    stage("cut", Unit::BytesPerSecond, move || {
        let mut rest = &sample.bytes[..];
        while !rest.is_empty() {
            let length = cutter.cut(rest);
            rest = &rest[black_box(length)..];
        }
        Ok(sample.bytes.len() as u64)
    })
}

fn hash(sample: &Sample, chunk_bytes: usize) -> Participant<'_> {
    let keys = keys(Suite::XChaCha20Poly1305);
    stage(format!("hash, {} KiB", chunk_bytes >> 10), Unit::BytesPerSecond, move || {
        for chunk in sample.bytes.chunks(chunk_bytes) {
            black_box(keys.chunk_id(ChunkKind::Data, chunk));
        }
        Ok(sample.bytes.len() as u64)
    })
}

/// All regions in every pass: parts of the tree compress better than others. Through the sealer, which knows how regions
/// are compressed; so what it stores is sealed, too, and [`super::limit`] does not count that again.
fn compress(sample: &Sample, level: i32) -> Result<Participant<'_>> {
    let keys = keys(Suite::XChaCha20Poly1305);
    let session = keys.new_session();
    let mut sealer = RegionSealer::new(&keys, &session, level)?;
    Ok(Participant::new(format!("compress and seal, zstd {level}"), move |_| {
        let (mut plain_bytes, mut stored_bytes) = (0u64, 0u64);
        let rate = super::rate(|| {
            let before = plain_bytes;
            for region in sample.regions() {
                let (head, _) = sealer.seal(ChunkKind::Data, 0, region);
                plain_bytes += u64::from(head.plain_bytes);
                stored_bytes += u64::from(head.stored_bytes);
            }
            Ok(plain_bytes - before)
        })?;
        let ratio = plain_bytes as f64 / stored_bytes.max(1) as f64;
        Ok(crate::rounds::Sample::new("in this process, one thread")
            .with("rate", Unit::BytesPerSecond, rate)
            .with("ratio", Unit::Count, ratio))
    }))
}

fn decompress(sample: &Sample) -> Result<Participant<'_>> {
    let frames: Vec<Vec<u8>> =
        sample.regions().map(|region| zstd::bulk::compress(region, LEVEL)).collect::<Result<_, _>>()?;
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    let mut plain = vec![0; super::sample::region_bytes()];
    Ok(stage("decompress", Unit::BytesPerSecond, move || {
        let mut done = 0;
        for frame in &frames {
            done += decompressor.decompress_to_buffer(frame, &mut plain)? as u64;
        }
        Ok(done)
    }))
}

fn noise(bytes: usize) -> Result<Vec<u8>> {
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(noise)
}

/// Bytes that were compressed before, so that sealing is all that is done.
fn seal<'s>(suite: Suite) -> Result<Participant<'s>> {
    let keys = keys(suite);
    let session = keys.new_session();
    let mut sealer = RegionSealer::new(&keys, &session, 0)?;
    let plain = noise(super::sample::region_bytes())?;
    Ok(stage(format!("seal, {}", cipher(suite)), Unit::BytesPerSecond, move || {
        black_box(sealer.seal(ChunkKind::Data, 0, &plain).1.len());
        Ok(plain.len() as u64)
    }))
}

fn open<'s>(suite: Suite) -> Result<Participant<'s>> {
    let keys = keys(suite);
    let session = keys.new_session();
    let plain = noise(super::sample::region_bytes())?;
    let (head, sealed) = sealed(&keys, &session, 0, &plain)?;
    let mut opener = RegionOpener::new(keys.repository());
    let (mut stored, mut opened) = (Vec::new(), Vec::new());
    Ok(stage(format!("open, {}", cipher(suite)), Unit::BytesPerSecond, move || {
        stored.clear();
        stored.extend_from_slice(&sealed);
        opener.open(&head, &session, &mut stored, &mut opened)?;
        Ok(opened.len() as u64)
    }))
}

fn sealed(
    keys: &Keys,
    session: &lifeboat_format::keys::SessionKey,
    level: i32,
    plain: &[u8],
) -> Result<(RegionHead, Vec<u8>)> {
    let mut sealer = RegionSealer::new(keys, session, level)?;
    let (head, sealed) = sealer.seal(ChunkKind::Data, 0, plain);
    Ok((head, sealed.clone()))
}

fn cipher(suite: Suite) -> &'static str {
    match suite {
        Suite::XChaCha20Poly1305 => "XChaCha20-Poly1305",
        Suite::Aes256Gcm => "AES-256-GCM",
    }
}

/// Everything between a stored region and verified bytes: open, decompress, hash.
fn decode(sample: &Sample) -> Result<Participant<'_>> {
    let keys = keys(Suite::XChaCha20Poly1305);
    let session = keys.new_session();
    let regions: Vec<_> =
        sample.regions().map(|plain| sealed(&keys, &session, LEVEL, plain)).collect::<Result<_>>()?;
    ensure!(!regions.is_empty(), "the sample holds no region");
    let mut opener = RegionOpener::new(keys.repository());
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    Ok(stage("decode", Unit::BytesPerSecond, move || {
        let mut done = 0;
        for (head, sealed) in &regions {
            stored.clear();
            stored.extend_from_slice(sealed);
            opener.open(head, &session, &mut stored, &mut plain)?;
            for chunk in plain.chunks(16 << 10) {
                black_box(keys.chunk_id(ChunkKind::Data, chunk));
            }
            done += plain.len() as u64;
        }
        Ok(done)
    }))
}
