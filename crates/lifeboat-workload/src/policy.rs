//! The policy file: labels for containers that were given none.
//!
//! Must stay true: a word means the same here and on a container, and is read by the same code (`labels.rs`); a file with one
//! word that cannot be understood is refused, because a person who wrote it is there to mend it. The table for users is in
//! `docs/docker.md`.

use crate::labels::{Labels, OURS, PREFIX};
use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not written as one.
    #[error("{0}")]
    Form(String),
    /// A rule cannot be followed.
    #[error("rule for `{name}`: {what}")]
    Rule {
        /// Whom it is for.
        name: String,
        /// Why not.
        what: String,
    },
}

/// Rules for the containers of an engine. Without a file there are none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    name: String,
    matcher: GlobMatcher,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    containers: Vec<WrittenRule>,
}

#[derive(Deserialize)]
struct WrittenRule {
    name: String,
    #[serde(flatten)]
    words: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "what is behind a word is no text, number, true, false, or list of these")]
enum Value {
    One(Scalar),
    List(Vec<Scalar>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Number(u64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

impl Policy {
    /// Reads the text of a policy file.
    ///
    /// # Errors
    ///
    /// What is no YAML of this form, or says something that a label could not say.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // An error says where, and does not quote the file: commands in it may have secrets.
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let written: Written = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| Error::Form(error.to_string()))?;
        let rules = written.containers.into_iter().map(Rule::read).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// The labels of a container, with what the rules for it say. All rules that match it count, later ones before earlier
    /// ones, and each of them before the container's own labels.
    #[must_use]
    pub fn labels(&self, name: &str, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = own.clone();
        for rule in self.rules.iter().filter(|rule| rule.matcher.is_match(name)) {
            let said: BTreeSet<&str> = rule.labels.keys().map(|label| subject(label)).collect();
            labels.retain(|label, _| !said.contains(subject(label)));
            labels.extend(rule.labels.clone());
        }
        labels
    }

    /// The rules that match none of these names: perhaps they were meant for one of them.
    #[must_use]
    pub fn unused<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Vec<String> {
        let is_unused = |rule: &&Rule| !names.clone().any(|name| rule.matcher.is_match(name));
        self.rules.iter().filter(is_unused).map(|rule| rule.name.clone()).collect()
    }
}

impl Rule {
    fn read(written: WrittenRule) -> Result<Self, Error> {
        let name = written.name;
        let wrong = |what: String| Error::Rule { name: name.clone(), what };
        let matcher = Glob::new(&name).map_err(|error| wrong(error.to_string()))?.compile_matcher();
        let mut labels = BTreeMap::new();
        for (word, value) in written.words {
            let label = format!("{PREFIX}{word}");
            if OURS.iter().any(|ours| label.starts_with(ours)) {
                return Err(wrong(format!("`{word}` is not known")));
            }
            let text = value.text(&word).map_err(|what| wrong(format!("`{word}`: {what}")))?;
            labels.insert(label, text);
        }
        match Labels::read(&labels).1.first() {
            None => Ok(Self { name, matcher, labels }),
            Some(remark) => {
                let word = remark.label.strip_prefix(PREFIX).unwrap_or(&remark.label);
                Err(wrong(format!("`{word}`: {}", remark.what)))
            }
        }
    }
}

impl Value {
    /// As a label says it: the words of a command are a JSON array there, and mounts have commas between them.
    fn text(self, word: &str) -> Result<String, &'static str> {
        let words: Vec<String> = match self {
            Self::One(scalar) => return Ok(scalar.to_string()),
            Self::List(words) => words.iter().map(ToString::to_string).collect(),
        };
        let (subject, rest) = word.split_once('.').unwrap_or((word, ""));
        let is_command =
            matches!(subject, "pre" | "post") && (rest.is_empty() || rest.parse::<u32>().is_ok());
        match () {
            () if words.is_empty() => Err("is an empty list; use false for none"),
            () if is_command => Ok(serde_json::Value::from(words).to_string()),
            () if !matches!(word, "exclude" | "include") => Err("is not known, or takes no list"),
            () if words.iter().any(|name| name.is_empty() || name.contains(',')) => {
                Err("a mount's name or path is empty, or has a comma")
            }
            () => Ok(words.join(",")),
        }
    }
}

/// What a label is about, for whoever says something else about the same: `pre` of `lifeboat.pre.2.user`.
fn subject(label: &str) -> &str {
    label.strip_prefix(PREFIX).map_or(label, subject_of)
}

fn subject_of(word: &str) -> &str {
    match word.split('.').next().unwrap_or(word) {
        // Each says how a container is made quiet.
        "pause" | "stop" => "quiet",
        first => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Mounts, Quiet};

    const TEXT: &str = r#"
containers:
  - name: "shop-*"
    exclude: [/cache, scratch]
    stop: true
    max-pause: 10
  - name: shop-db-1
    pause: true
    pre: [sh, -c, "date > /data/, before"]
    pre.user: postgres
    recipe: none
"#;

    fn read(policy: &Policy, name: &str, own: &[(&str, &str)]) -> Labels {
        let own = own.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
        let (labels, remarks) = Labels::read(&policy.labels(name, &own));
        assert_eq!(remarks, []);
        labels
    }

    #[test]
    fn rules_say_what_labels_say_and_the_last_one_counts() {
        let policy = Policy::parse(TEXT).unwrap();
        let web = read(&policy, "shop-web-1", &[("lifeboat.exclude", "/other"), ("lifeboat.group", "g")]);
        assert_eq!(web.exclude, Mounts::These(["/cache", "scratch"].map(Into::into).into()));
        assert_eq!((web.quiet, web.group.as_deref()), (Some(Quiet::Stop), Some("g")));
        assert_eq!(web.max_pause, Some(std::time::Duration::from_secs(10)));
        let own = [("lifeboat.pre.2", "true"), ("lifeboat.stop", "true"), ("lifeboat.post", "true")];
        let database = read(&policy, "shop-db-1", &own);
        assert_eq!(database.quiet, Some(Quiet::Pause));
        let pre: Vec<_> = database.pre.iter().map(|command| (&command.argv[2], &command.user)).collect();
        assert_eq!(pre, [(&"date > /data/, before".to_owned(), &Some("postgres".to_owned()))]);
        assert_eq!((database.post.len(), database.exclude.name(None, "/cache")), (1, true));
        assert_eq!(read(&policy, "other", &own[1..2]).quiet, Some(Quiet::Stop));
    }

    #[test]
    fn rules_for_nobody_are_named() {
        let policy = Policy::parse(TEXT).unwrap();
        assert_eq!(policy.unused(["shop-web-1", "other"].into_iter()), ["shop-db-1"]);
        assert_eq!(policy.unused(["shop-db-1"].into_iter()), [""; 0]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (text, what) in [
            ("containers: [{name: a, exlude: /x}]", "rule for `a`: `exlude`: is not known"),
            ("containers: [{name: a, exlude: [/x]}]", "`exlude`: is not known"),
            ("containers: [{name: a, hold: me}]", "rule for `a`: `hold` is not known"),
            ("containers: [{name: a, pause: perhaps}]", "neither true nor false"),
            ("containers: [{name: a, max-pause: 2d}]", "`max-pause`"),
            ("containers: [{name: 'a[', pause: true}]", "rule for `a[`"),
            ("containers: [{exclude: true}]", "name"),
            ("containers: [{name: a, exclude: {b: c}}]", "is no text, number, true, false, or list of these"),
            ("containers: [{name: a, exclude: []}]", "`exclude`: is an empty list"),
            ("containers: [{name: a, exclude: ['']}]", "`exclude`: a mount's name"),
            ("containers: [{name: a, include: ['/a,b']}]", "`include`: a mount's name"),
            ("containers: [{name: a, stop: []}]", "empty list"),
            ("containers: [{name: a, group: [a, b]}]", "`group`: is not known, or takes no list"),
            (
                "containers: [{name: a, pre: 'true', pre.user: [a]}]",
                "`pre.user`: is not known, or takes no list",
            ),
            ("container: []", "container"),
            ("- name: a", ""),
            ("", ""),
            ("containers: [", ""),
        ] {
            let error = Policy::parse(text).expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn no_error_quotes_the_file() {
        let text = "containers:\n  - name: a\n    pre: [mysql, -pSECRET]\n    exclude: {a: SECRET}\n";
        let error = Policy::parse(text).unwrap_err().to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }

    #[test]
    fn words_are_taken_as_they_are_written() {
        let text = "containers: [{name: a, group: on, exclude: [2024, yes], pre: [sleep, 5], pre.2: 'true'}]";
        let labels = Policy::parse(text).unwrap().labels("a", &BTreeMap::new());
        let said: Vec<&str> = labels.values().map(String::as_str).collect();
        assert_eq!(said, ["2024,yes", "on", r#"["sleep","5"]"#, "true"]);
    }
}
