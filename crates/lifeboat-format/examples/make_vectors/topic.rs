//! One file of vectors: what every topic has in common.

use crate::describe::hex;
use lifeboat_format::keys::Keys;
use lifeboat_format::seal::{self, Binding, Codec, Key, Purpose, Suite};
use lifeboat_format::wire::Write as _;
use lifeboat_format::{EnvelopeId, HostId, RepositoryId, SessionId};
use serde_json::{Value, json};
use std::path::Path;

/// The master key of every vector: 00 01 02 … 1f.
pub(crate) const MASTER: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};
/// The repository of every vector.
pub(crate) const REPOSITORY: RepositoryId = RepositoryId([0x5a; 16]);
/// The session of every vector that has one.
pub(crate) const SESSION: SessionId = SessionId([0x5e; 16]);
/// The host of every vector that has one.
pub(crate) const HOST: HostId = HostId([0x40; 16]);

/// What can be wrong, as the vectors call it.
#[derive(Clone, Copy)]
pub(crate) enum Wrong {
    Damaged,
    Denied,
    Unsupported,
}

/// The vectors of one topic.
pub(crate) struct Topic {
    name: &'static str,
    about: &'static str,
    cases: Vec<Value>,
}

impl Topic {
    pub(crate) fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, cases: Vec::new() }
    }

    /// A case that decodes to `value`.
    pub(crate) fn good(&mut self, decoder: &str, about: &str, input: Value, value: Value) {
        self.push(decoder, json!({ "about": about, "value": value }), input);
    }

    /// A case that must be refused.
    pub(crate) fn bad(&mut self, decoder: &str, reason: &str, wrong: Wrong, input: Value) {
        let error = match wrong {
            Wrong::Damaged => "damaged",
            Wrong::Denied => "denied",
            Wrong::Unsupported => "unsupported",
        };
        self.push(decoder, json!({ "reason": reason, "error": error }), input);
    }

    fn push(&mut self, decoder: &str, outcome: Value, input: Value) {
        let mut case = json!({ "decoder": decoder });
        for part in [outcome, input] {
            let (Value::Object(case), Value::Object(part)) = (&mut case, part) else {
                unreachable!("cases are written as objects");
            };
            case.extend(part);
        }
        self.cases.push(case);
    }

    /// Writes `NAME.json`, one case a line so that changes can be read.
    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<()> {
        let mut text = String::from("{\n");
        for (name, value) in [
            ("vectors", json!(self.name)),
            ("about", json!(self.about)),
            ("master", json!(hex(&MASTER))),
            ("repository", json!(hex(&REPOSITORY.0))),
        ] {
            text.push_str(&format!("  \"{name}\": {value},\n"));
        }
        let cases: Vec<String> = self.cases.iter().map(|case| format!("    {case}")).collect();
        text.push_str(&format!("  \"cases\": [\n{}\n  ]\n}}\n", cases.join(",\n")));
        std::fs::write(folder.join(format!("{}.json", self.name)), text)
    }
}

/// The keys of every vector, sealing with `suite`.
pub(crate) fn keys(suite: Suite) -> Keys {
    Keys::derive(&Key::new(MASTER), REPOSITORY, suite)
}

/// The key for one purpose of every vector's master key.
pub(crate) fn derived(context: &str) -> Key {
    Key::new(MASTER).derive(context)
}

/// What a seal of this purpose is bound to.
pub(crate) fn binding(purpose: Purpose, envelope: [u8; 16], unique: [u8; 16]) -> Binding {
    Binding {
        repository: REPOSITORY,
        purpose,
        codec: Codec::Raw,
        envelope: EnvelopeId(envelope),
        unique,
        plain_bytes: 0,
    }
}

/// A sealed box whose head and inside need not fit each other.
pub(crate) fn crafted_box(suite: Suite, key: &Key, binding: Binding, inside: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; seal::NONCE_BYTES];
    buffer.extend_from_slice(inside);
    seal::seal_in_place(suite, key, &binding, &mut buffer);
    let mut sealed = vec![suite as u8, binding.codec as u8];
    sealed.put_u32(binding.plain_bytes);
    sealed.append(&mut buffer);
    sealed
}

/// `bytes` with one bit of byte `at` changed; negative positions count from the end.
pub(crate) fn flip(bytes: &[u8], at: isize) -> Vec<u8> {
    let mut bad = bytes.to_vec();
    let at = if at < 0 { bad.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    bad[at] ^= 1;
    bad
}
