//! House rules that a machine can check and the compiler does not.
//!
//! Must stay true: every complaint names a file, a line and what to do; a rule that nothing breaks stays cheap enough to
//! run before every commit. Documents are not searched for marks: they may talk about them.

use crate::failure::{Failure, Result, While};
use crate::place::Place;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a file is to be split, and where one may begin to think of it.
const LINES_MAX: usize = 600;
const LINES_WARN: usize = 400;

/// What is ours to keep tidy, and what others leave in it.
const FOLDERS: &[&str] = &["crates", "tests", "benches", "fuzz", ".ci"];
const NOT_OURS: &[&str] = &["target", "corpus", "artifacts", ".venv", "__pycache__", "node_modules"];

/// Names that say nothing. A folder or module is called after its idea.
const NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

/// Macros that only unfinished code uses. Spelled in two halves, or this file would complain of itself.
const MACROS: &[&str] = &[concat!("to", "do!"), concat!("un", "implemented!"), concat!("d", "bg!")];
const FIX: &str = concat!("FIX", "ME");
const LATER: &str = concat!("TO", "DO");

/// `cargo xtask tidy`.
pub(crate) fn run(place: &Place) -> Result<()> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&place.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut complaints = Vec::new();
    for path in &files {
        let bytes = std::fs::read(path).while_doing(format_args!("read {}", path.display()))?;
        let shown = path.strip_prefix(&place.root).unwrap_or(path);
        complaints.extend(examine(shown, &String::from_utf8_lossy(&bytes)));
    }
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    match complaints.iter().filter(|complaint| complaint.fatal).count() {
        0 => {
            println!("{} files are tidy", files.len());
            Ok(())
        }
        count => {
            Err(Failure::new(format!("{count} places are untidy\nHint: repeat it with `cargo xtask tidy`")))
        }
    }
}

/// Collects the files that rules are about; a missing folder has none.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let reading = || format!("read {}", folder.display());
    for entry in std::fs::read_dir(folder).while_doing(reading())? {
        let entry = entry.while_doing(reading())?;
        let kind = entry.file_type().while_doing(reading())?;
        let name = entry.file_name();
        if kind.is_dir() && !NOT_OURS.iter().any(|other| name == *other) {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && is_source(&entry.path()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn is_source(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => ["rs", "py", "sh", "toml"].iter().any(|known| extension == *known),
        None => path.parent().is_some_and(|folder| folder.file_name().is_some_and(|name| name == ".ci")),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    path: PathBuf,
    line: usize,
    text: String,
    fatal: bool,
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, text, fatal } = self;
        let weight = if *fatal { "error" } else { "warning" };
        write!(formatter, "{}:{line}: {weight}: {text}", path.display())
    }
}

fn examine(path: &Path, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, fatal: bool, text: String| {
        complaints.push(Complaint { path: path.to_owned(), line, text, fatal });
    };
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complain(
            lines,
            true,
            format!("{lines} lines are more than {LINES_MAX}; split the file by its ideas"),
        );
    } else if lines > LINES_WARN {
        complain(lines, false, format!("{lines} lines; at {LINES_WARN} a file asks to be two"));
    }
    if let Some(name) = vague_name(path) {
        complain(1, true, format!("`{name}` says nothing; name the idea"));
    }
    if path.extension().is_some_and(|extension| extension == "rs") && !has_module_doc(text) {
        complain(1, true, "the file does not begin with `//!` and what must stay true".to_owned());
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(mark) = mark(line) {
            complain(index + 1, true, mark);
        }
    }
    complaints
}

fn vague_name(path: &Path) -> Option<String> {
    let stem = path.with_extension("");
    stem.components()
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .find(|component| NAMES.contains(&component.as_str()))
}

/// The first line that is neither empty nor an inner attribute is a module doc with words in it.
fn has_module_doc(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .and_then(|line| line.strip_prefix("//!"))
        .is_some_and(|words| !words.trim().is_empty())
}

fn mark(line: &str) -> Option<String> {
    if let Some(found) = MACROS.iter().find(|name| find_word(line, name).is_some()) {
        return Some(format!("`{found}` is for unfinished code"));
    }
    if find_word(line, FIX).is_some() {
        return Some(format!("fix it now or write an issue and `{LATER}(#number)`"));
    }
    let after = find_word(line, LATER)?;
    let number = after.strip_prefix("(#").and_then(|rest| rest.split_once(')')).map(|(number, _)| number);
    match number {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => None,
        _ => Some(format!("name the issue: `{LATER}(#number)`")),
    }
}

/// What follows the first occurrence of `word` that does not continue another word.
fn find_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.match_indices(word)
        .find(|(start, _)| !line[..*start].ends_with(|last: char| last.is_alphanumeric() || last == '_'))
        .map(|(start, _)| &line[start + word.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fatal(path: &str, text: &str) -> usize {
        examine(Path::new(path), text).iter().filter(|complaint| complaint.fatal).count()
    }

    #[test]
    fn unfinished_code_is_found_and_an_issues_number_excuses_only_a_note() {
        for bad in [
            concat!("to", "do!()"),
            concat!("    un", "implemented!(\"x\")"),
            concat!("let x = d", "bg!(y);"),
            concat!("// FIX", "ME: later"),
            concat!("// TO", "DO: later"),
            concat!("// TO", "DO(me): later"),
            concat!("// TO", "DO(#): later"),
        ] {
            assert_eq!(fatal("crates/a/src/b.rs", &format!("//! Doc.\n{bad}\n")), 1, "{bad}");
        }
        for good in [concat!("// TO", "DO(#12): later"), concat!("let my_to", "do!"), "mastodons"] {
            assert_eq!(fatal("crates/a/src/b.rs", &format!("//! Doc.\n{good}\n")), 0, "{good}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_fails_and_a_long_one_is_only_mentioned() {
        let text = |lines: usize| format!("//! Doc.\n{}", "x\n".repeat(lines - 1));
        assert_eq!(examine(Path::new("a.rs"), &text(LINES_WARN)), []);
        assert_eq!(examine(Path::new("a.rs"), &text(LINES_MAX)).len(), 1);
        assert_eq!(fatal("a.rs", &text(LINES_MAX)), 0);
        assert_eq!(fatal("a.rs", &text(LINES_MAX + 1)), 1);
    }

    #[test]
    fn names_that_say_nothing_are_refused_as_files_and_as_folders() {
        for bad in ["crates/a/src/util.rs", "crates/a/src/common/mod.rs", "tests/helpers.py"] {
            assert_eq!(fatal(bad, "//! Doc.\n"), 1, "{bad}");
        }
        assert_eq!(fatal("crates/a/src/commonplace.rs", "//! Doc.\n"), 0);
    }

    #[test]
    fn a_module_without_words_about_itself_is_refused() {
        for bad in ["", "fn main() {}\n", "//!\nfn main() {}\n", "// Not a doc.\n"] {
            assert_eq!(fatal("a.rs", bad), 1, "{bad:?}");
        }
        assert_eq!(fatal("a.rs", "#![no_main]\n\n//! Doc.\n"), 0);
        assert_eq!(fatal("a.toml", "[package]\n"), 0);
    }
}
