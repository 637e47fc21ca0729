//! A stream whose digest is known when it has been read.

use lifeboat_format::hex;
use sha2::{Digest, Sha256};
use std::io::{Read, Result};

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self::after(inner, Sha256::new())
    }

    /// Goes on with what was hashed before.
    pub(super) fn after(inner: R, hasher: Sha256) -> Self {
        Self { inner, hasher }
    }

    /// What was hashed so far, to go on with.
    pub(super) fn into_hasher(self) -> Sha256 {
        self.hasher
    }

    /// The digest of what was read so far, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}
