//! What is kept of a command's output.
//!
//! Must stay true: it is bounded, whatever is said; no piece boundary matters.

use super::{OUTPUT_MAX, READY, Ran};
use crate::engine::Output;

/// A line as long as this is no line that is waited for, and no more of it is looked at.
pub(super) const LINE_MAX: usize = 256;

/// Keeps what is wanted of an output.
#[derive(Debug, Default, Clone)]
pub(super) struct Kept {
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
    pub(super) dropped: u64,
    /// Whether it has said [`READY`], which counts behind any flood too.
    pub(super) is_ready: bool,
    /// The begin of its unfinished line.
    line: Vec<u8>,
}

impl Kept {
    pub(super) fn add(&mut self, piece: Output) {
        match piece {
            Output::Standard(bytes) => {
                self.look_for_ready(&bytes);
                let room = OUTPUT_MAX.saturating_sub(self.output.len()).min(bytes.len());
                self.output.extend_from_slice(&bytes[..room]);
                self.dropped += (bytes.len() - room) as u64;
            }
            Output::Error(bytes) => {
                self.errors.extend_from_slice(&bytes);
                // The end of what is said on standard error tells what went wrong.
                let surplus = self.errors.len().saturating_sub(4 << 10);
                self.errors.drain(..surplus);
            }
        }
    }

    fn look_for_ready(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.go_on_with_line(&rest[..end]);
            let is_whole = self.line.len() < LINE_MAX;
            self.is_ready |= is_whole && self.line.trim_ascii() == READY.as_bytes();
            self.line.clear();
            rest = &rest[end + 1..];
        }
        self.go_on_with_line(rest);
    }

    fn go_on_with_line(&mut self, part: &[u8]) {
        let room = LINE_MAX.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(&part[..room]);
    }

    /// Whether it said this on a line of its own.
    pub(super) fn has_line(&self, wanted: &str) -> bool {
        let lines = self.output.split(|byte| *byte == b'\n').rev().skip(1);
        lines.into_iter().any(|line| line.trim_ascii() == wanted.as_bytes())
    }

    pub(super) fn ran(self, code: i64) -> Ran {
        Ran {
            output: self.output,
            errors: String::from_utf8_lossy(&self.errors).trim().to_owned(),
            dropped: self.dropped,
            code,
        }
    }
}

/// The last line of an output, as far as it is one for people.
pub(super) fn last_line(output: &[u8]) -> String {
    let line = output.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(LINE_MAX)]).trim().to_owned()
}
