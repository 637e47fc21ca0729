//! What is printed: text for people, JSON lines for programs, progress on terminals.

use crate::args::Global;
use lifeboat::Repository;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether something that was asked for could not be written.
static OUTPUT_FAILED: AtomicBool = AtomicBool::new(false);

fn put_line(text: &str) {
    note_failure(writeln!(std::io::stdout(), "{text}"));
}

fn note_failure(result: std::io::Result<()>) {
    match result {
        // Whoever reads us may close the pipe; that is theirs to decide.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            OUTPUT_FAILED.store(true, Ordering::Relaxed)
        }
        _ => {}
    }
}

/// Flushes standard output; whether everything reached it.
pub(crate) fn output_is_whole() -> bool {
    note_failure(std::io::stdout().flush());
    !OUTPUT_FAILED.load(Ordering::Relaxed)
}

/// How this run talks.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    /// JSON lines on standard output.
    pub(crate) json: bool,
    /// Nothing but errors.
    pub(crate) quiet: bool,
    /// How much more.
    pub(crate) verbose: u8,
    line: Arc<Mutex<bool>>,
}

impl Ui {
    /// As the command line asks.
    pub(crate) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose, line: Arc::default() }
    }

    /// For a run whose standard output is not for messages: progress on a terminal only.
    pub(crate) fn beside_output(&self) -> Self {
        Self { json: false, quiet: self.quiet || self.json, ..self.clone() }
    }

    /// A line for people.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            self.clear_line();
            put_line(text.as_ref());
        }
    }

    /// A result that is printed even when quiet: it was asked for.
    pub(crate) fn result(&self, text: impl AsRef<str>) {
        put_line(text.as_ref());
    }

    /// A JSON line.
    pub(crate) fn emit(&self, message_type: &str, mut value: Value) {
        value["message_type"] = json!(message_type);
        put_line(&value.to_string());
    }

    /// Something to know that is no failure.
    pub(crate) fn notice(&self, text: &str) {
        if !self.quiet && !self.json {
            self.clear_line();
            eprintln!("note: {}", escape(text.as_bytes()));
        }
    }

    /// Says what the last listing lacked that this machine saw before, however quiet it was asked to be.
    pub(crate) fn tell_set_back(&self, repository: &Repository) {
        for set_back in repository.take_set_back() {
            self.clear_line();
            if self.json {
                let (number, id) = set_back.seen;
                let seen = json!({"sequence": number, "id": id.to_string()});
                let mut value =
                    json!({"message_type": "set_back", "message": set_back.to_string(), "seen": seen});
                value["host_id"] = json!(set_back.host.to_string());
                value["sequence"] = json!(set_back.found);
                eprintln!("{value}");
            } else {
                eprintln!("Warning: {set_back}\n  if that is as it should be: lifeboat repo accept");
            }
        }
    }

    /// Trouble with one file.
    pub(crate) fn trouble(&self, item: &OsStr, during: &str, detail: &str) {
        self.clear_line();
        if self.json {
            let mut value = json!({"message_type": "error", "error": {"message": detail}, "during": during});
            put_path(&mut value, "item", item.as_bytes());
            eprintln!("{value}");
        } else {
            eprintln!("{}: {}", escape(item.as_bytes()), escape(detail.as_bytes()));
        }
    }

    fn clear_line(&self) {
        let mut drawn = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if *drawn {
            eprint!("\r\x1b[K");
            *drawn = false;
        }
    }

    fn draw(&self, text: &str) {
        let mut drawn = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        eprint!("\r\x1b[K{text}");
        let _ = std::io::stderr().flush();
        *drawn = true;
    }

    /// Shows progress while `work` runs: a line on a terminal, `status` messages in JSON, nothing in pipes.
    pub(crate) fn with_progress<T>(
        &self,
        status: &(dyn Fn() -> Status + Sync),
        work: impl FnOnce() -> T,
    ) -> T {
        let on_terminal = std::io::stderr().is_terminal() && !self.quiet && !self.json;
        if !on_terminal && !self.json {
            return work();
        }
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let display = scope.spawn(|| {
                let interval = if on_terminal { Duration::from_millis(200) } else { Duration::from_secs(1) };
                loop {
                    std::thread::park_timeout(interval);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let status = status();
                    match on_terminal {
                        true => self.draw(&status.line(began.elapsed())),
                        false => self.emit("status", status.json(began.elapsed())),
                    }
                }
            });
            let result = work();
            stop.store(true, Ordering::Relaxed);
            display.thread().unpark();
            let _ = display.join();
            self.clear_line();
            result
        })
    }
}

/// How far a long run is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Status {
    /// Bytes done.
    pub(crate) bytes_done: u64,
    /// Bytes in all, where known.
    pub(crate) bytes_total: Option<u64>,
    /// Files done.
    pub(crate) files_done: u64,
    /// Files in all, where known.
    pub(crate) files_total: Option<u64>,
    /// Files that failed.
    pub(crate) errors: u64,
}

impl Status {
    fn fraction(&self) -> Option<f64> {
        let part = |done: u64, total: Option<u64>| {
            total.filter(|total| *total > 0).map(|total| done as f64 / total as f64)
        };
        part(self.bytes_done, self.bytes_total)
            .or_else(|| part(self.files_done, self.files_total))
            .map(|part| part.min(1.0))
    }

    fn remaining(&self, elapsed: Duration) -> Option<Duration> {
        let fraction = self.fraction().filter(|fraction| *fraction > 0.01)?;
        Some(Duration::from_secs_f64(elapsed.as_secs_f64() * (1.0 - fraction) / fraction))
    }

    fn line(&self, elapsed: Duration) -> String {
        let rate = self.bytes_done as f64 / elapsed.as_secs_f64().max(0.001);
        let mut line = format!("[{}] ", clock(elapsed));
        if let Some(fraction) = self.fraction() {
            line += &format!("{:.1} %  ", fraction * 100.0);
        }
        line += &format!("{} files, {}, {}/s", self.files_done, bytes(self.bytes_done), bytes(rate as u64));
        if let Some(remaining) = self.remaining(elapsed) {
            line += &format!(", {} left", clock(remaining));
        }
        if self.errors > 0 {
            line += &format!(", {} errors", self.errors);
        }
        line
    }

    fn json(&self, elapsed: Duration) -> Value {
        let mut value = json!({
            "seconds_elapsed": elapsed.as_secs(),
            "percent_done": self.fraction().unwrap_or(0.0),
            "files_done": self.files_done,
            "bytes_done": self.bytes_done,
            "error_count": self.errors,
        });
        if let Some(total) = self.bytes_total {
            value["total_bytes"] = json!(total);
        }
        if let Some(total) = self.files_total {
            value["total_files"] = json!(total);
        }
        if let Some(remaining) = self.remaining(elapsed) {
            value["seconds_remaining"] = json!(remaining.as_secs());
        }
        value
    }
}

fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A name as it can be shown: control characters, escape sequences and direction changes are spelled out.
pub(crate) fn escape(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for symbol in part.valid().chars() {
            let hidden = symbol.is_control()
                || matches!(symbol, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if hidden { shown.extend(symbol.escape_default()) } else { shown.push(symbol) }
        }
        part.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
    }
    shown
}

/// Puts a path into JSON: as text, and exactly in base64 where it is no UTF-8.
pub(crate) fn put_path(value: &mut Value, field: &str, path: &[u8]) {
    value[field] = json!(String::from_utf8_lossy(path));
    if std::str::from_utf8(path).is_err() {
        use base64ct::Encoding;
        value[format!("{field}_b64")] = json!(base64ct::Base64::encode_string(path));
    }
}

/// A time with its zone, for people.
pub(crate) fn time(time: lifeboat::format::Timestamp) -> String {
    zoned(time)
        .map_or_else(|| time.seconds.to_string(), |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A time in RFC 3339, for programs.
pub(crate) fn rfc3339(time: lifeboat::format::Timestamp) -> String {
    zoned(time).map_or_else(
        || time.seconds.to_string(),
        |zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string(),
    )
}

fn zoned(time: lifeboat::format::Timestamp) -> Option<jiff::Zoned> {
    let stamp = jiff::Timestamp::new(time.seconds, time.nanos as i32).ok()?;
    Some(stamp.to_zoned(jiff::tz::TimeZone::system()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_take_over_a_terminal() {
        assert_eq!(escape(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\n\\xff");
        assert_eq!(escape("\u{202e}gpj.exe".as_bytes()), "\\u{202e}gpj.exe");
        assert_eq!(escape("größe".as_bytes()), "größe");
    }

    #[test]
    fn a_path_that_is_no_text_is_exact_in_base64() {
        let mut value = json!({});
        put_path(&mut value, "path", b"\xff");
        assert_eq!(value["path_b64"], json!("/w=="));
        put_path(&mut value, "item", b"a");
        assert_eq!(value.get("item_b64"), None);
    }
}
