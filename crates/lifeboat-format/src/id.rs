//! Names of things. Each is a type of its own, so that they cannot be swapped.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let mut bytes = [0; $bytes];
                if text.len() != 2 * $bytes {
                    return Err(Error::damaged(stringify!($name), "a name has another length"));
                }
                if !read_hex(text, &mut bytes) {
                    return Err(Error::damaged("name", "not a lower-case hexadecimal digit"));
                }
                Ok(Self(bytes))
            }
        }
    };
}

macro_rules! random_name {
    ($($name:ident),*) => {$(
        impl $name {
            /// A new random name from the operating system's generator.
            pub fn random() -> Self {
                Self(crate::seal::random_bytes())
            }
        }
    )*};
}

/// Bytes as lower-case hexadecimal digits, as names are spelled. Listings spell thousands of names: no formatter here.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut text);
    text
}

/// The same behind what is in `text`.
pub(crate) fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    text.extend(bytes.iter().flat_map(digits));
}

/// Fills `bytes` from as many pairs of digits; `false` where there are not exactly so many, or something else among them.
/// Only lower case: a name has one spelling, so that two file names never mean one object.
pub(crate) fn read_hex(text: &str, bytes: &mut [u8]) -> bool {
    const NO_DIGIT: u8 = 16;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => NO_DIGIT,
    };
    let pairs = text.as_bytes().as_chunks::<2>().0;
    // Listings read thousands: what is no digit is asked for once, so that there is no branch in the loop.
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (digit(*high), digit(*low));
        seen |= high | low;
        *byte = high << 4 | low;
    }
    text.len() == 2 * bytes.len() && seen < NO_DIGIT
}

name_type!(
    /// Name of a chunk of plaintext: the first 192 bits of keyed BLAKE3, with a key of its own per
    /// [`crate::region::ChunkKind`]. Ids do not compress: shorter ones are the cheapest bytes to save.
    ChunkId, 24
);
name_type!(
    /// Name of a pack: BLAKE3 of its stored bytes.
    PackName, 32
);
name_type!(
    /// Name of an index object: BLAKE3 of its stored bytes.
    IndexName, 32
);
name_type!(
    /// A repository's random identity, made by `init`.
    RepositoryId, 16
);
name_type!(
    /// One run of a writer.
    SessionId, 16
);
name_type!(
    /// A snapshot's portable identity, kept by copies, exports and imports.
    SnapshotId, 16
);
name_type!(
    /// One key slot.
    SlotId, 16
);
name_type!(
    /// One wrapping of a session key.
    EnvelopeId, 16
);
name_type!(
    /// One sealed region; part of its associated data.
    RegionId, 16
);
name_type!(
    /// A host's random identity, kept in its local state.
    HostId, 16
);
name_type!(
    /// Who wrote an index object or a snapshot. Version 1 always writes zeros.
    AuthorId, 16
);
name_type!(
    /// A bundle's random identity; its seals are bound to it as a repository's are to theirs.
    BundleId, 16
);
random_name!(BundleId, RepositoryId, SessionId, SnapshotId, SlotId, EnvelopeId, RegionId, HostId);

impl AuthorId {
    /// The only author of version 1.
    pub const NONE: Self = Self([0; 16]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_those_of_the_formatter() {
        let all: Vec<u8> = (0..=255).collect();
        let formatted: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), formatted);
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn a_name_reads_back_from_its_hexadecimal_form_and_from_no_other() {
        let name = SessionId([0xab; 16]);
        assert_eq!(name.to_string().parse::<SessionId>().unwrap(), name);
        assert!("AB".repeat(16).parse::<SessionId>().is_err());
        assert!("ab".repeat(15).parse::<SessionId>().is_err());
        assert!("ag".repeat(16).parse::<SessionId>().is_err());
    }
}
