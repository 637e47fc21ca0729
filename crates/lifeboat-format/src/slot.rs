//! Key slots: a role bundle, wrapped under a passphrase or a key file. `docs/format/keys.md#slots`

use crate::limits::{
    ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_MEMORY_KIB_MIN, ARGON2_PASSES_MAX, SMALL_OBJECT_BYTES_MAX,
};
use crate::object::{ObjectKind, frame, unframe};
use crate::seal::{self, Binding, Codec, Key, Purpose, Suite};
use crate::wire::{Reader, Write};
use crate::{EnvelopeId, Error, RepositoryId, Result, SlotId, Timestamp};
use zeroize::Zeroizing;

/// How expensive a passphrase is to guess. Defaults: 64 MiB, 3 passes, 1 lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Independent lanes.
    pub lanes: u32,
}

impl Default for Argon2Cost {
    fn default() -> Self {
        Self { memory_kib: ARGON2_MEMORY_KIB_MIN, passes: 3, lanes: 1 }
    }
}

/// What opens a slot.
pub enum Secret<'a> {
    /// A passphrase as typed, without its line end.
    Passphrase(&'a [u8]),
    /// The 32 random bytes of a key file: no derivation cost.
    KeyFile(&'a Key),
}

/// How a slot's key is made from a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derivation {
    /// Argon2id (RFC 9106), version 0x13.
    Argon2id(Argon2Cost),
    /// BLAKE3 key derivation; the secret is random already.
    KeyFile,
}

/// What a slot hands out.
#[derive(Debug, Clone)]
pub struct RoleBundle {
    /// What its holder may do; version 1 knows the full role.
    pub role: Role,
    /// The master key.
    pub master: Key,
    /// What the user calls the slot.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
}

/// What a key lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Everything.
    Full = 1,
}

/// A slot as stored: what can be seen without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// How its key is derived.
    pub derivation: Derivation,
    salt: [u8; 32],
    sealed: Vec<u8>,
}

const TAG_MASTER: u64 = 1;
const TAG_LABEL: u64 = 2;
const TAG_CREATED: u64 = 3;

impl Slot {
    /// Wraps `bundle` under `secret`.
    pub fn seal(
        repository: RepositoryId,
        id: SlotId,
        suite: Suite,
        secret: &Secret<'_>,
        cost: Argon2Cost,
        bundle: &RoleBundle,
    ) -> Result<Self> {
        let derivation = match secret {
            Secret::Passphrase(_) if cost.memory_kib < ARGON2_MEMORY_KIB_MIN => {
                return Err(Error::limit("Argon2id memory", format!("{} KiB", cost.memory_kib)));
            }
            Secret::Passphrase(_) => Derivation::Argon2id(cost),
            Secret::KeyFile(_) => Derivation::KeyFile,
        };
        let salt = seal::random_bytes();
        let key = derive(derivation, &salt, secret)?.ok_or(Error::WrongKey)?;
        let mut plain = Zeroizing::new(vec![bundle.role as u8]);
        put_field(&mut plain, TAG_MASTER, bundle.master.expose());
        put_field(&mut plain, TAG_LABEL, bundle.label.as_bytes());
        let mut created = Vec::new();
        created.put_signed(bundle.created.seconds);
        created.put_varint(u64::from(bundle.created.nanos));
        put_field(&mut plain, TAG_CREATED, &created);
        // Raw: compressing would copy the master key into buffers that nobody wipes.
        let mut buffer = vec![0; seal::NONCE_BYTES];
        buffer.extend_from_slice(&plain);
        let binding = binding(repository, id, plain.len() as u32);
        seal::seal_in_place(suite, &key, &binding, &mut buffer);
        let mut sealed = vec![suite as u8];
        sealed.append(&mut buffer);
        Ok(Self { derivation, salt, sealed })
    }

    /// Unwraps the bundle; [`Error::WrongKey`] when the secret is not this slot's.
    pub fn open(&self, repository: RepositoryId, id: SlotId, secret: &Secret<'_>) -> Result<RoleBundle> {
        let key = derive(self.derivation, &self.salt, secret)?.ok_or(Error::WrongKey)?;
        let mut reader = Reader::new(&self.sealed, "key slot");
        let suite = Suite::from_byte(reader.u8()?)?;
        let mut buffer = Zeroizing::new(reader.bytes(reader.remaining())?.to_vec());
        let plain_bytes = buffer.len().saturating_sub(seal::OVERHEAD_BYTES) as u32;
        seal::open_in_place(suite, &key, &binding(repository, id, plain_bytes), &mut buffer)
            .map_err(|_| Error::WrongKey)?;
        decode_bundle(&buffer[seal::NONCE_BYTES..])
    }

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self.derivation {
            Derivation::Argon2id(cost) => {
                body.push(1);
                body.put_u32(cost.memory_kib);
                body.put_u32(cost.passes);
                body.put_u32(cost.lanes);
            }
            Derivation::KeyFile => body.push(2),
        }
        body.extend_from_slice(&self.salt);
        body.put_string(&self.sealed);
        frame(ObjectKind::Slot, &body)
    }

    /// Reads an object's bytes. Costs outside the limits are refused here, before they cost anything.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(unframe(ObjectKind::Slot, bytes)?, "key slot");
        let derivation = match reader.u8()? {
            1 => {
                let cost =
                    Argon2Cost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
                let bounded = (1..=ARGON2_LANES_MAX).contains(&cost.lanes)
                    && (1..=ARGON2_PASSES_MAX).contains(&cost.passes)
                    && (8 * cost.lanes..=ARGON2_MEMORY_KIB_MAX).contains(&cost.memory_kib);
                if !bounded {
                    return Err(reader.damaged("its derivation costs are outside the limits"));
                }
                Derivation::Argon2id(cost)
            }
            2 => Derivation::KeyFile,
            other => {
                let feature = format!("key derivation {other}");
                return Err(Error::Unsupported { what: "key slot", feature });
            }
        };
        let salt = reader.array()?;
        let sealed = reader.string(SMALL_OBJECT_BYTES_MAX)?.to_vec();
        reader.finish()?;
        Ok(Self { derivation, salt, sealed })
    }
}

fn put_field(output: &mut Vec<u8>, tag: u64, value: &[u8]) {
    output.put_varint(tag);
    output.put_string(value);
}

fn decode_bundle(plain: &[u8]) -> Result<RoleBundle> {
    let mut reader = Reader::new(plain, "role bundle");
    let role = match reader.u8()? {
        1 => Role::Full,
        other => return Err(Error::Unsupported { what: "role bundle", feature: format!("role {other}") }),
    };
    let mut master = None;
    let mut label = String::new();
    let mut created = Timestamp::default();
    while reader.remaining() > 0 {
        let tag = reader.varint()?;
        let value = reader.string(SMALL_OBJECT_BYTES_MAX)?;
        let mut field = Reader::new(value, "role bundle");
        match tag {
            TAG_MASTER => master = Some(Key::new(field.array()?)),
            TAG_LABEL => label = String::from_utf8_lossy(value).into_owned(),
            TAG_CREATED => {
                created = Timestamp { seconds: field.signed()?, nanos: field.varint_max(999_999_999)? };
            }
            _ => {}
        }
    }
    let master = master.ok_or_else(|| Error::damaged("role bundle", "it has no master key"))?;
    Ok(RoleBundle { role, master, label, created })
}

fn binding(repository: RepositoryId, id: SlotId, plain_bytes: u32) -> Binding {
    Binding {
        repository,
        purpose: Purpose::Slot,
        codec: Codec::Raw,
        envelope: EnvelopeId([0; 16]),
        unique: id.0,
        plain_bytes,
    }
}

/// The slot's key; `None` when the secret is of the other sort.
fn derive(derivation: Derivation, salt: &[u8; 32], secret: &Secret<'_>) -> Result<Option<Key>> {
    match (derivation, secret) {
        (Derivation::Argon2id(cost), Secret::Passphrase(passphrase)) => {
            let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
                .map_err(|error| Error::damaged("key slot", error.to_string()))?;
            let mut output = Zeroizing::new([0; 32]);
            argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_into(passphrase, salt, output.as_mut())
                .map_err(|error| Error::damaged("key slot", error.to_string()))?;
            Ok(Some(Key::new(*output)))
        }
        (Derivation::KeyFile, Secret::KeyFile(key)) => {
            let mut hasher = blake3::Hasher::new_derive_key("lifeboat v1 key file");
            hasher.update(key.expose());
            hasher.update(salt);
            Ok(Some(Key::new(*hasher.finalize().as_bytes())))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
    const ID: SlotId = SlotId([2; 16]);

    fn bundle() -> RoleBundle {
        RoleBundle {
            role: Role::Full,
            master: Key::new([9; 32]),
            label: "first".into(),
            created: Timestamp { seconds: 5, nanos: 6 },
        }
    }

    #[test]
    fn a_slot_opens_with_its_own_secret_only() {
        let file = Key::random();
        let secrets = [Secret::Passphrase(b"correct horse"), Secret::KeyFile(&file)];
        let wrong = Key::random();
        for secret in secrets {
            let slot = Slot::seal(
                REPOSITORY,
                ID,
                Suite::XChaCha20Poly1305,
                &secret,
                Argon2Cost::default(),
                &bundle(),
            );
            let slot = Slot::decode(&slot.unwrap().encode()).unwrap();
            let opened = slot.open(REPOSITORY, ID, &secret).unwrap();
            assert_eq!((opened.master, opened.label.as_str()), (Key::new([9; 32]), "first"));
            for bad in [Secret::Passphrase(b"battery"), Secret::KeyFile(&wrong)] {
                assert_eq!(slot.open(REPOSITORY, ID, &bad).unwrap_err(), Error::WrongKey);
            }
            assert!(slot.open(RepositoryId([3; 16]), ID, &secret).is_err());
            assert!(slot.open(REPOSITORY, SlotId([3; 16]), &secret).is_err());
        }
    }

    #[test]
    fn a_slot_that_would_cost_a_terabyte_is_refused_unopened() {
        let slot = |memory_kib, passes, lanes| Slot {
            derivation: Derivation::Argon2id(Argon2Cost { memory_kib, passes, lanes }),
            salt: [0; 32],
            sealed: vec![],
        };
        for (memory, passes, lanes) in [(1 << 30, 3, 1), (65536, 1 << 30, 1), (65536, 3, u32::MAX), (0, 0, 0)]
        {
            assert!(Slot::decode(&slot(memory, passes, lanes).encode()).is_err());
        }
        assert!(Slot::decode(&slot(65536, 3, 1).encode()).is_ok());
        let weak = Argon2Cost { memory_kib: 1024, ..Argon2Cost::default() };
        let secret = Secret::Passphrase(b"x");
        assert!(Slot::seal(REPOSITORY, ID, Suite::XChaCha20Poly1305, &secret, weak, &bundle()).is_err());
    }
}
