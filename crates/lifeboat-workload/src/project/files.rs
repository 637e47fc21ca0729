//! What compose's files are made of: the files themselves, and those that they name.
//!
//! Must stay true: files are read to find others, and nothing of what stands in them is kept or shown; what cannot be
//! read, or whose name cannot be told, is a problem of its own, never left out without a word.
//!
//! A name may hold variables; those are looked up where compose looks: in `.env` beside the first file, or in the files that
//! were given to it instead. The environment of the shell that ran compose is not known any more.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};

/// A compose file longer than this is not read for others.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most files of one project.
const FILES_MAX: usize = 10_000;

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Where it is on the host.
    pub path: String,
    /// `compose`, `environment`, `secret` or `config`.
    pub what: String,
    /// Why it is not in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A file that was named, and by which rules.
struct Named {
    path: PathBuf,
    what: &'static str,
    is_required: bool,
}

/// All files of a project, sorted by path.
pub fn collect(compose: &[PathBuf], folder: &Path, environment: &[PathBuf]) -> Vec<FileRecord> {
    let mut collection =
        Collection { variables: BTreeMap::new(), found: BTreeMap::new(), waiting: VecDeque::new() };
    let beside = folder.join(".env");
    let given: Vec<PathBuf> = match environment.is_empty() {
        true => vec![beside],
        false => environment.to_vec(),
    };
    for path in given {
        if let Ok(text) = std::fs::read_to_string(&path) {
            collection.variables.extend(variables(&text));
        }
        let is_required = !environment.is_empty();
        collection.add(Named { path, what: "environment", is_required });
    }
    for path in compose {
        collection.waiting.push_back((path.clone(), folder.to_owned()));
    }
    collection.run();
    collection.found.into_values().collect()
}

struct Collection {
    variables: BTreeMap<String, String>,
    found: BTreeMap<PathBuf, FileRecord>,
    /// Compose files to be read, and the folder in which their relative names begin.
    waiting: VecDeque<(PathBuf, PathBuf)>,
}

impl Collection {
    fn run(&mut self) {
        let mut seen = BTreeSet::new();
        while let Some((path, base)) = self.waiting.pop_front() {
            if self.found.len() >= FILES_MAX || !seen.insert(path.clone()) {
                continue;
            }
            let is_there = self.add(Named { path: path.clone(), what: "compose", is_required: true });
            if !is_there {
                continue;
            }
            match read(&path) {
                Ok(value) => self.look(&value, &path, &base),
                Err(problem) => {
                    // It is stored; what it names is not known.
                    let record = FileRecord {
                        path: format!("{}: what it names", path.display()),
                        what: "compose".into(),
                        problem: Some(problem),
                    };
                    self.found.insert(PathBuf::from(&record.path), record);
                }
            }
        }
    }

    /// Takes a file in; whether it can be read.
    fn add(&mut self, named: Named) -> bool {
        let path = plain(&named.path);
        let problem = match std::fs::File::open(&path) {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => None,
            Ok(_) => Some("is no file".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named.is_required => return false,
            Err(error) => Some(error.to_string()),
        };
        let is_there = problem.is_none();
        // As a snapshot calls it.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let shown = path.to_string_lossy().into_owned();
        self.found.entry(path).or_insert(FileRecord { path: shown, what: named.what.into(), problem });
        is_there
    }

    fn look(&mut self, value: &Value, file: &Path, base: &Path) {
        let own_folder = file.parent().unwrap_or(base).to_owned();
        for included in each(value.get("include")) {
            let paths: Vec<&str> = match included {
                Value::String(path) => vec![path],
                other => each(other.get("path")).into_iter().filter_map(Value::as_str).collect(),
            };
            let inner = included.get("project_directory").and_then(Value::as_str);
            let mut inner = inner.and_then(|text| self.resolve(text, base, "compose"));
            for text in paths {
                if let Some(path) = self.resolve(text, base, "compose") {
                    let folder = inner.get_or_insert_with(|| path.parent().unwrap_or(base).to_owned());
                    self.waiting.push_back((path, folder.clone()));
                }
            }
            for text in each(included.get("env_file")).into_iter().filter_map(Value::as_str) {
                self.take(text, base, "environment", true);
            }
        }
        for service in members(value.get("services")) {
            for file in each(service.get("env_file")) {
                let (text, is_required) = match file {
                    Value::String(text) => (Some(text.as_str()), true),
                    other => (
                        other.get("path").and_then(Value::as_str),
                        other.get("required").and_then(Value::as_bool).unwrap_or(true),
                    ),
                };
                if let Some(text) = text {
                    self.take(text, base, "environment", is_required);
                }
            }
            if let Some(text) = service.pointer("/extends/file").and_then(Value::as_str)
                && let Some(path) = self.resolve(text, base, "compose")
            {
                let folder = path.parent().unwrap_or(&own_folder).to_owned();
                self.waiting.push_back((path, folder));
            }
        }
        for (top, what) in [("secrets", "secret"), ("configs", "config")] {
            for one in members(value.get(top)) {
                if let Some(text) = one.get("file").and_then(Value::as_str) {
                    self.take(text, base, what, true);
                }
            }
        }
    }

    fn take(&mut self, text: &str, base: &Path, what: &'static str, is_required: bool) {
        if let Some(path) = self.resolve(text, base, what) {
            self.add(Named { path, what, is_required });
        }
    }

    /// The path that a name means.
    fn resolve(&mut self, text: &str, base: &Path, what: &'static str) -> Option<PathBuf> {
        match substitute(text, &self.variables) {
            Ok(text) => Some(plain(&base.join(text))),
            Err(variable) => {
                let record = FileRecord {
                    path: text.to_owned(),
                    what: what.into(),
                    problem: Some(format!("the value of {variable} is not known any more")),
                };
                self.found.insert(PathBuf::from(text), record);
                None
            }
        }
    }
}

/// One thing or a list of them.
fn each(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    }
}

fn members(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_object).into_iter().flatten().map(|(_, member)| member)
}

fn read(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("is not looked for: it has more than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    // What is wrong with it may quote it, and it may hold secrets.
    serde_saphyr::from_str(&text).map_err(|_| "is not known: it is no YAML that can be read here".to_owned())
}

/// Without `.` and `..`; links stay as they are.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

/// Lines `NAME=value`, with or without quotes.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
    })
}

/// Puts values in for `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`; else the name of the variable.
fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, default, after) = match rest.strip_prefix('{') {
            Some(inner) => {
                let (inside, after) = inner.split_once('}').ok_or_else(|| rest.to_owned())?;
                let end = inside.find(|one: char| !is_name(one)).unwrap_or(inside.len());
                let (name, operator) = inside.split_at(end);
                let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'));
                (name, default, after)
            }
            None => {
                let end = rest.find(|one: char| !is_name(one)).unwrap_or(rest.len());
                (&rest[..end], None, &rest[end..])
            }
        };
        match variables.get(name).map(String::as_str).or(default) {
            Some(value) => out.push_str(value),
            None => return Err(name.to_owned()),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(one: char) -> bool {
    one.is_ascii_alphanumeric() || one == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPOSE: &str = "
x-common: &common
  env_file: common.env
services:
  web:
    <<: *common
    image: web
    ports: !reset []
  api:
    env_file:
      - path: ./api.env
        required: false
      - ${WHERE:-here}/second.env
    extends: {file: base/base.yml, service: api}
  odd: {env_file: $LOST/x.env}
include:
  - inner/compose.yml
  - path: [other.yml, more.yml]
secrets: {token: {file: ./secrets/token}, other: {environment: TOKEN}}
configs: {site: {file: site.conf}, inline: {content: x}}
";

    #[test]
    fn everything_that_a_project_is_made_of_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("compose.yml", COMPOSE);
        write("base/base.yml", "services: {api: {env_file: beside.env}}");
        write("inner/compose.yml", "secrets: {deep: {file: ../secrets/deep}}");
        write("other.yml", "services: {}");
        write(".env", "# nothing\nWHERE='there'\nPASSWORD=secret");
        for name in ["common.env", "there/second.env", "base/beside.env", "secrets/token", "secrets/deep"] {
            write(name, "A=1");
        }
        let found = collect(&[folder.path().join("compose.yml")], folder.path(), &[]);
        let shown: Vec<(String, &str, bool)> = found
            .iter()
            .map(|file| {
                let path = Path::new(&file.path).strip_prefix(folder.path()).unwrap_or(Path::new(&file.path));
                (path.display().to_string(), file.what.as_str(), file.problem.is_none())
            })
            .collect();
        let expected = [
            (".env", "environment", true),
            ("base/base.yml", "compose", true),
            ("base/beside.env", "environment", true),
            ("common.env", "environment", true),
            ("compose.yml", "compose", true),
            ("inner/compose.yml", "compose", true),
            ("more.yml", "compose", false),
            ("other.yml", "compose", true),
            ("secrets/deep", "secret", true),
            ("secrets/token", "secret", true),
            ("site.conf", "config", false),
            ("there/second.env", "environment", true),
            ("$LOST/x.env", "environment", false),
        ];
        assert_eq!(shown, expected.map(|(path, what, is_there)| (path.to_owned(), what, is_there)));
        assert!(!format!("{found:?}").contains("=secret"));
    }

    #[test]
    fn what_is_no_yaml_is_told_without_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compose.yml");
        std::fs::write(&path, "services: {web: [secret-word").unwrap();
        let found = collect(&[path], folder.path(), &[]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|file| file.problem.is_some()));
        assert!(!format!("{found:?}").contains("secret-word"));
    }

    #[test]
    fn variables_are_put_in_or_named() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(substitute("x$A/${A}-${B:-2}$$", &known), Ok("x1/1-2$".into()));
        assert_eq!(substitute("${B}", &known), Err("B".into()));
        assert_eq!(substitute("${B:?no}", &known), Err("B".into()));
    }
}
