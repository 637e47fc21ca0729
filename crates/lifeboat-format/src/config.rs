//! The repository's config: identity, features, parameters. `docs/format/config.md`

use crate::keys::Keys;
use crate::limits::{CHUNK_BYTES_MAX, NAMES_MAX, PACK_BYTES_MAX, PACK_BYTES_MIN, REGION_PLAIN_BYTES_MAX};
use crate::object::{ObjectKind, frame, unframe};
use crate::seal::Suite;
use crate::wire::{Reader, Write};
use crate::{Error, RepositoryId, Result, Timestamp};

/// Where content is cut. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutParameters {
    /// No chunk is shorter, except the last of a file.
    pub bytes_min: u32,
    /// One cut in so many positions past the least size: a power of two.
    pub bytes_mask: u32,
    /// No chunk is longer.
    pub bytes_max: u32,
}

/// Parameters that decide what deduplicates against what; fixed when the repository is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Where files are cut.
    pub cut: CutParameters,
    /// Plaintext at which a region is closed.
    pub region_bytes: u32,
    /// Exact length of a full pack.
    pub pack_bytes: u32,
    /// Cipher suite of new objects.
    pub suite: Suite,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            cut: CutParameters { bytes_min: 8 << 10, bytes_mask: 8 << 10, bytes_max: 64 << 10 },
            region_bytes: 2 << 20,
            pack_bytes: 32 << 20,
            suite: Suite::XChaCha20Poly1305,
        }
    }
}

impl Parameters {
    fn check(&self) -> Result<()> {
        let cut = self.cut;
        let valid = (64..=CHUNK_BYTES_MAX / 4).contains(&cut.bytes_min)
            && cut.bytes_min.is_multiple_of(2)
            && cut.bytes_mask.is_power_of_two()
            && (256..=CHUNK_BYTES_MAX / 4).contains(&cut.bytes_mask)
            && (cut.bytes_min.max(1024)..=CHUNK_BYTES_MAX).contains(&cut.bytes_max)
            && cut.bytes_max.is_multiple_of(2)
            && (4096..=REGION_PLAIN_BYTES_MAX - CHUNK_BYTES_MAX).contains(&self.region_bytes)
            && (PACK_BYTES_MIN..=PACK_BYTES_MAX).contains(&self.pack_bytes)
            && self.region_bytes + cut.bytes_max + (64 << 10) <= self.pack_bytes;
        if valid { Ok(()) } else { Err(Error::damaged("config", "its parameters are outside the limits")) }
    }
}

/// Features by name: a program that does not know one of them must not do the thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Needed to read.
    pub read: Vec<String>,
    /// Needed to write.
    pub write: Vec<String>,
    /// Worth knowing.
    pub optional: Vec<String>,
}

/// The config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The repository's identity.
    pub repository: RepositoryId,
    /// When it was made.
    pub created: Timestamp,
    /// What it takes to work with it.
    pub features: Features,
    /// How it is cut and packed.
    pub parameters: Parameters,
}

/// A config that was read but not authenticated yet: only good for finding the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedConfig {
    config: Config,
    body: Vec<u8>,
    tag: [u8; 32],
}

impl Config {
    /// The object's bytes, authenticated under the config key.
    pub fn encode(&self, keys: &Keys) -> Result<Vec<u8>> {
        self.parameters.check()?;
        let mut body = Vec::new();
        body.extend_from_slice(&self.repository.0);
        body.put_signed(self.created.seconds);
        body.put_varint(u64::from(self.created.nanos));
        for features in [&self.features.read, &self.features.write, &self.features.optional] {
            body.put_varint(features.len() as u64);
            features.iter().for_each(|feature| body.put_string(feature.as_bytes()));
        }
        let parameters = &self.parameters;
        body.put_u32(parameters.cut.bytes_min);
        body.put_u32(parameters.cut.bytes_mask);
        body.put_u32(parameters.cut.bytes_max);
        body.put_u32(parameters.region_bytes);
        body.put_u32(parameters.pack_bytes);
        body.push(parameters.suite as u8);
        let tag = keys.config_tag(&body);
        body.extend_from_slice(&tag);
        Ok(frame(ObjectKind::Config, &body))
    }

    /// Reads an object's bytes; [`UncheckedConfig::check`] authenticates it once the key is known.
    pub fn decode(bytes: &[u8]) -> Result<UncheckedConfig> {
        let framed = unframe(ObjectKind::Config, bytes)?;
        let Some(end) = framed.len().checked_sub(32) else {
            return Err(Error::damaged("config", "it is too short"));
        };
        let mut tag = [0; 32];
        tag.copy_from_slice(&framed[end..]);
        let body = framed[..end].to_vec();
        let mut reader = Reader::new(&body, "config");
        let repository = RepositoryId(reader.array()?);
        let created = Timestamp { seconds: reader.signed()?, nanos: reader.varint_max(999_999_999)? };
        let features = Features {
            read: decode_features(&mut reader)?,
            write: decode_features(&mut reader)?,
            optional: decode_features(&mut reader)?,
        };
        // Before anything that a newer version may have changed: say which feature is missing.
        if let Some(feature) = features.read.first() {
            return Err(Error::Unsupported {
                what: "reading this repository",
                feature: format!("`{feature}`"),
            });
        }
        let parameters = Parameters {
            cut: CutParameters {
                bytes_min: reader.u32()?,
                bytes_mask: reader.u32()?,
                bytes_max: reader.u32()?,
            },
            region_bytes: reader.u32()?,
            pack_bytes: reader.u32()?,
            suite: Suite::from_byte(reader.u8()?)?,
        };
        parameters.check()?;
        reader.finish()?;
        Ok(UncheckedConfig { config: Config { repository, created, features, parameters }, body, tag })
    }

    /// Fails unless this program knows everything that writing takes.
    pub fn check_writable(&self) -> Result<()> {
        match self.features.write.first() {
            None => Ok(()),
            Some(feature) => Err(Error::Unsupported {
                what: "writing to this repository",
                feature: format!("`{feature}`"),
            }),
        }
    }
}

impl UncheckedConfig {
    /// The identity it claims, by which key slots are opened.
    pub fn claimed_repository(&self) -> RepositoryId {
        self.config.repository
    }

    /// The suite it claims.
    pub fn claimed_suite(&self) -> Suite {
        self.config.parameters.suite
    }

    /// The config, if its key holder wrote it.
    pub fn check(self, keys: &Keys) -> Result<Config> {
        // Comparing through blake3::Hash takes constant time.
        if blake3::Hash::from_bytes(keys.config_tag(&self.body)) == blake3::Hash::from_bytes(self.tag) {
            Ok(self.config)
        } else {
            Err(Error::Unauthentic { what: "config" })
        }
    }
}

fn decode_features(reader: &mut Reader<'_>) -> Result<Vec<String>> {
    let count = reader.varint_max(NAMES_MAX)?;
    (0..count).map(|_| reader.text()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Key;

    fn keys() -> Keys {
        Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    fn config(features: Features) -> Config {
        let created = Timestamp { seconds: 1, nanos: 2 };
        Config { repository: RepositoryId([1; 16]), created, features, parameters: Parameters::default() }
    }

    #[test]
    fn a_config_reads_back_and_another_key_refuses_it() {
        let bytes = config(Features::default()).encode(&keys()).unwrap();
        let read = Config::decode(&bytes).unwrap();
        assert_eq!(read.clone().check(&keys()).unwrap(), config(Features::default()));
        let other = Keys::derive(&Key::new([4; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305);
        assert!(read.check(&other).is_err());
    }

    #[test]
    fn an_unknown_required_feature_is_refused_by_name() {
        let needs = |features| Config::decode(&config(features).encode(&keys()).unwrap());
        let reading = needs(Features { read: vec!["shards".into()], ..Features::default() }).unwrap_err();
        assert_eq!(
            reading.to_string(),
            "reading this repository needs `shards`, which this lifeboat does not know"
        );
        let writing = needs(Features { write: vec!["quota".into()], ..Features::default() }).unwrap();
        assert!(
            writing.check(&keys()).unwrap().check_writable().unwrap_err().to_string().contains("`quota`")
        );
        assert!(needs(Features { optional: vec!["hint".into()], ..Features::default() }).is_ok());
    }
}
