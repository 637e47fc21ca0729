//! The fixed keys under which fuzzed bytes are sealed, and seals made with them.
//!
//! Must stay true: this knows the key derivation by heart, as an attacker with the master key would. When the format
//! crate changes it, the seeds stop decoding and `tests/decoders.rs` says so.

use lifeboat_format::keys::{Envelope, Keys, SessionKey};
use lifeboat_format::seal::{Binding, Codec, Key, Purpose, Suite, seal_box};
use lifeboat_format::{EnvelopeId, RepositoryId, SessionId};
use std::sync::LazyLock;

pub const SUITE: Suite = Suite::XChaCha20Poly1305;
pub const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
pub const SESSION: SessionId = SessionId([2; 16]);
const ENVELOPE: EnvelopeId = EnvelopeId([3; 16]);

static MASTER: LazyLock<Key> = LazyLock::new(|| Key::new([7; 32]));
static SESSION_KEY_BYTES: LazyLock<Key> = LazyLock::new(|| Key::new([9; 32]));
static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive(&MASTER, REPOSITORY, SUITE));
static SESSION_KEY: LazyLock<SessionKey> = LazyLock::new(|| {
    let binding = bind(Purpose::Envelope, EnvelopeId([0; 16]), ENVELOPE.0);
    let wrapped = seal_box(SUITE, &MASTER.derive("lifeboat v1 read"), binding, SESSION_KEY_BYTES.expose());
    let envelope = Envelope { id: ENVELOPE, recipient: Envelope::READ_KEY, wrapped };
    KEYS.open_envelope(&envelope).expect("the envelope was sealed under the read key just now")
});

/// The repository's keys.
pub fn keys() -> &'static Keys {
    &KEYS
}

/// A session key whose bytes are known here, with its envelope.
pub fn session_key() -> &'static SessionKey {
    &SESSION_KEY
}

/// A binding to the repository.
pub fn bind(purpose: Purpose, envelope: EnvelopeId, unique: [u8; 16]) -> Binding {
    Binding { repository: REPOSITORY, purpose, codec: Codec::Raw, envelope, unique, plain_bytes: 0 }
}

/// Seals as the index key's holder: directories, index objects, intents.
pub fn seal_as_indexer(purpose: Purpose, unique: [u8; 16], plain: &[u8]) -> Vec<u8> {
    let binding = bind(purpose, EnvelopeId([0; 16]), unique);
    seal_box(SUITE, &MASTER.derive("lifeboat v1 index"), binding, plain)
}

/// Seals as the session: snapshots.
pub fn seal_as_session(purpose: Purpose, plain: &[u8]) -> Vec<u8> {
    seal_box(SUITE, &SESSION_KEY_BYTES, bind(purpose, ENVELOPE, SESSION.0), plain)
}

/// The session's secret and its envelope's id, for seals that are no boxes: regions.
pub fn session_secret() -> (&'static Key, EnvelopeId) {
    (&SESSION_KEY_BYTES, ENVELOPE)
}
