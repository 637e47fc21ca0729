//! The lines of a journal, and what they add up to.
//!
//! Must stay true: adding up needs no engine and no clock, and every prefix of a journal adds up to something that can
//! be undone. A line that cannot be read adds nothing: it was never on disk whole, so nothing was done because of it.
//! The format is `docs/format/journal.md`.

use crate::quiesce::plan::Step;
use crate::quiesce::remedy::Progress;
use serde::{Deserialize, Serialize};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// The first line: whose journal this is.
    Run {
        /// Of the format.
        version: u32,
        /// The run's own word, 32 hexadecimal digits; the mark on the engine has it too.
        run: String,
        /// How the engine is reached, as `DOCKER_HOST` says it.
        engine: String,
        /// When it began, in words for people.
        begun: String,
        /// The process, for people: whether it lives is told by the lock.
        process: u32,
    },
    /// A container that will be made quiet.
    Step(Step),
    /// A command that is owed to a container once it runs again.
    Owed(Owed),
    /// A command is started next that may outlive its run.
    Running(Running),
    /// It is over, or it cannot be told.
    Ran {
        /// Its word.
        word: String,
        /// How it went, for people.
        how: String,
    },
    /// The engine is asked next.
    Doing {
        /// The container's id.
        container: String,
    },
    /// The engine did not answer, or nobody was there to see whether it did: what it was asked for last may have ended with
    /// it.
    Away,
    /// The engine has answered.
    Did {
        /// The container's id.
        container: String,
        /// Which start of it was made quiet.
        started_at: String,
    },
    /// The container is started again next.
    Starting {
        /// The container's id.
        container: String,
    },
    /// The container is as it was, or left to somebody else.
    Undone {
        /// The container's id.
        container: String,
        /// What was done, for people.
        how: String,
    },
    /// The time was over before the capture was.
    Expired,
    /// After that, everything that was ever begun is to be looked at once more: its run may have gone on asking.
    Reopened {
        /// Whether every request was answered; else one may still be on its way.
        answered: bool,
    },
    /// An owed command has run, or it cannot.
    Paid {
        /// Its number.
        number: u32,
        /// How it went, for people.
        how: String,
    },
    /// Nothing is left to undo.
    End,
    /// A newer program's.
    #[serde(other)]
    Unknown,
}

/// A command that must run in a container whatever happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Its number in this run.
    pub number: u32,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whom it runs as.
    pub user: Option<String>,
    /// How long it may run.
    pub timeout_millis: u64,
}

/// A command in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What its processes carry in their environment, and nobody else's.
    pub word: String,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// The program and its arguments, for people.
    pub command: String,
    /// How long it has to end by itself once its run is dead, and its standard input with it.
    #[serde(default)]
    pub grace_millis: u64,
}

/// What a journal adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The run's own word.
    pub run: String,
    /// How the engine is reached.
    pub engine: String,
    /// When it began.
    pub begun: String,
    /// The format's version, 0 where the first line is missing.
    pub version: u32,
    /// The containers in the order in which they become quiet, and how far that has come.
    pub steps: Vec<(Step, Progress)>,
    /// What is owed.
    pub owed: Vec<Owed>,
    /// Commands that may run although their run is dead.
    pub running: Vec<Running>,
    /// Whether the time was over, and nobody has looked again since.
    pub expired: bool,
    /// Whether everything is done.
    pub ended: bool,
    /// Lines that could not be read.
    pub torn: u64,
}

impl Ledger {
    /// Adds up the bytes of a journal.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut ledger = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => ledger.add(entry),
                Err(_) => ledger.torn += 1,
            }
        }
        ledger
    }

    /// Adds one line.
    pub fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Run { version, run, engine, begun, process: _ } => {
                (self.version, self.run, self.engine, self.begun) = (version, run, engine, begun);
            }
            Entry::Step(step) => self.steps.push((step, Progress::Planned)),
            Entry::Owed(owed) => self.owed.push(owed),
            Entry::Running(running) => {
                self.running.retain(|known| known.word != running.word);
                self.running.push(running);
            }
            Entry::Ran { word, .. } => self.running.retain(|running| running.word != word),
            Entry::Doing { container } => self.advance(&container, Progress::Doing),
            Entry::Away => self.lose_sight(),
            Entry::Did { container, started_at } => {
                self.advance(&container, Progress::Did);
                for (step, _) in self.steps.iter_mut().filter(|(step, _)| step.container == container) {
                    step.started_at.clone_from(&started_at);
                }
            }
            Entry::Starting { container } => self.advance(&container, Progress::Starting),
            Entry::Undone { container, .. } => self.advance(&container, Progress::Undone),
            Entry::Expired => self.expired = true,
            Entry::Reopened { answered } => self.reopen(answered),
            Entry::Paid { number, .. } => self.owed.retain(|owed| owed.number != number),
            Entry::End => self.ended = true,
            Entry::Unknown => {}
        }
    }

    /// Progress never goes back: who undid a container late, after a request was answered, has the last word.
    fn advance(&mut self, container: &str, progress: Progress) {
        for (step, known) in &mut self.steps {
            if step.container == container {
                *known = progress.max(*known);
            }
        }
    }

    /// Whether the engine stayed up while it was asked is not known any more.
    pub fn lose_sight(&mut self) {
        let asked = self.steps.iter_mut().filter(|(_, progress)| *progress == Progress::Doing);
        asked.for_each(|(_, progress)| *progress = Progress::Unseen);
    }

    /// Which start of a container was made quiet last is not known any more.
    fn reopen(&mut self, answered: bool) {
        self.expired = false;
        for (step, progress) in self.steps.iter_mut().filter(|(_, progress)| *progress != Progress::Planned) {
            *progress = if answered { Progress::Did } else { Progress::Unseen };
            step.started_at.clear();
        }
    }

    /// Whether anything is left to do.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let open =
            |(_, progress): &(Step, Progress)| !matches!(progress, Progress::Planned | Progress::Undone);
        let is_quiet = self.owed.is_empty() && self.running.is_empty() && !self.expired;
        self.ended || (is_quiet && !self.steps.iter().any(open))
    }

    /// Whether this run stops or pauses one of these containers.
    #[must_use]
    pub fn touches(&self, containers: &[String]) -> bool {
        let open = self.steps.iter().filter(|(_, progress)| *progress != Progress::Undone);
        !self.ended && open.into_iter().any(|(step, _)| containers.contains(&step.container))
    }
}

/// A line as it is written: it begins a new line even behind one that was torn.
///
/// # Errors
///
/// Of the JSON writer, which has none for these.
pub fn line(entry: &Entry) -> serde_json::Result<Vec<u8>> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, entry)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::quiesce::plan::Action;
    use proptest::prelude::*;

    pub(crate) fn step(container: &str) -> Step {
        Step {
            container: container.into(),
            name: format!("name of {container}"),
            action: Action::Pause,
            started_at: "then".into(),
            stop_seconds: 10,
            limit_millis: Some(30_000),
            comes_back_by_itself: false,
            is_service: true,
        }
    }

    fn entries() -> Vec<Entry> {
        let container = |name: &str| name.to_owned();
        vec![
            Entry::Run {
                version: VERSION,
                run: "ab".into(),
                engine: "unix:///x".into(),
                begun: "now".into(),
                process: 7,
            },
            Entry::Step(step("one")),
            Entry::Step(step("two")),
            Entry::Owed(Owed {
                number: 3,
                container: "one".into(),
                name: "one".into(),
                argv: vec!["true".into()],
                user: None,
                timeout_millis: 1,
            }),
            Entry::Running(Running {
                word: "cd".into(),
                container: "one".into(),
                name: "one".into(),
                command: "dump".into(),
                grace_millis: 2,
            }),
            Entry::Ran { word: "cd".into(), how: "0".into() },
            Entry::Doing { container: container("one") },
            Entry::Did { container: container("one"), started_at: "then".into() },
            Entry::Doing { container: container("two") },
            Entry::Undone { container: container("two"), how: "unpaused".into() },
            Entry::Undone { container: container("one"), how: "unpaused".into() },
            Entry::Paid { number: 3, how: "0".into() },
            Entry::End,
        ]
    }

    fn bytes(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|entry| line(entry).unwrap()).collect()
    }

    #[test]
    fn the_lines_are_what_the_format_says() {
        let text = String::from_utf8(bytes(&entries())).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines[0],
            r#"{"entry":"run","version":1,"run":"ab","engine":"unix:///x","begun":"now","process":7}"#
        );
        assert!(
            lines[1]
                .starts_with(r#"{"entry":"step","container":"one","name":"name of one","action":"pause""#)
        );
        assert_eq!(
            lines[4],
            r#"{"entry":"running","word":"cd","container":"one","name":"one","command":"dump","grace_millis":2}"#
        );
        assert_eq!(lines[6], r#"{"entry":"doing","container":"one"}"#);
        assert_eq!(lines[12], r#"{"entry":"end"}"#);
    }

    #[test]
    fn every_prefix_adds_up_to_what_had_been_done_by_then() {
        let entries = entries();
        let progress = |count: usize| {
            let ledger = Ledger::read(&bytes(&entries[..count]));
            ledger.steps.iter().map(|(_, progress)| *progress).collect::<Vec<_>>()
        };
        use Progress::{Did, Doing, Planned, Undone};
        assert_eq!(progress(6), [Planned, Planned]);
        assert_eq!(progress(7), [Doing, Planned]);
        assert_eq!(progress(8), [Did, Planned]);
        assert_eq!(progress(9), [Did, Doing]);
        assert_eq!(progress(11), [Undone, Undone]);
        let running = |count: usize| Ledger::read(&bytes(&entries[..count])).running.len();
        assert_eq!((running(4), running(5), running(6)), (0, 1, 0));
        let settled: Vec<bool> =
            (1..=entries.len()).map(|count| Ledger::read(&bytes(&entries[..count])).is_settled()).collect();
        // Settled before anything was promised, and after everything was done.
        assert_eq!(
            settled,
            [true, true, true, false, false, false, false, false, false, false, false, true, true]
        );
    }

    #[test]
    fn a_late_answer_does_not_undo_an_undo() {
        let mut ledger = Ledger::default();
        ledger.add(Entry::Step(step("one")));
        ledger.add(Entry::Undone { container: "one".into(), how: String::new() });
        ledger.add(Entry::Did { container: "one".into(), started_at: "then".into() });
        assert_eq!(ledger.steps[0].1, Progress::Undone);
    }

    #[test]
    fn what_was_undone_because_of_its_time_is_open_until_somebody_looked_again() {
        let mut ledger = Ledger::default();
        for container in ["one", "two"] {
            ledger.add(Entry::Step(step(container)));
        }
        ledger.add(Entry::Doing { container: "one".into() });
        ledger.add(Entry::Expired);
        ledger.add(Entry::Undone { container: "one".into(), how: String::new() });
        assert!(!ledger.is_settled());
        for (answered, progress) in [(true, Progress::Did), (false, Progress::Unseen)] {
            let mut again = ledger.clone();
            again.add(Entry::Reopened { answered });
            let seen: Vec<_> = again.steps.iter().map(|(_, progress)| *progress).collect();
            assert_eq!(seen, [progress, Progress::Planned]);
            again.add(Entry::Undone { container: "one".into(), how: String::new() });
            assert!(again.is_settled());
        }
    }

    #[test]
    fn only_what_was_asked_for_and_not_answered_is_unseen_when_the_engine_was_away() {
        let mut ledger = Ledger::default();
        for container in ["one", "two", "three"] {
            ledger.add(Entry::Step(step(container)));
        }
        ledger.add(Entry::Did { container: "one".into(), started_at: "then".into() });
        ledger.add(Entry::Doing { container: "two".into() });
        ledger.add(Entry::Away);
        let seen: Vec<_> = ledger.steps.iter().map(|(_, progress)| *progress).collect();
        assert_eq!(seen, [Progress::Did, Progress::Unseen, Progress::Planned]);
    }

    #[test]
    fn a_line_behind_a_torn_one_is_read() {
        let mut torn = bytes(&entries()[..7]);
        torn.truncate(torn.len() - 9);
        torn.extend(line(&Entry::Did { container: "one".into(), started_at: "then".into() }).unwrap());
        let ledger = Ledger::read(&torn);
        assert_eq!((ledger.torn, ledger.steps[0].1), (1, Progress::Did));
    }

    #[test]
    fn a_command_of_an_older_program_has_no_grace_and_one_that_is_started_again_counts_once() {
        let older = br#"{"entry":"running","word":"cd","container":"one","name":"one","command":"dump"}"#;
        let mut ledger = Ledger::read(older);
        assert_eq!((ledger.running.len(), ledger.running[0].grace_millis), (1, 0));
        ledger.add(Entry::Running(ledger.running[0].clone()));
        assert_eq!(ledger.running.len(), 1);
    }

    #[test]
    fn a_newer_programs_line_is_passed_over() {
        let ledger = Ledger::read(b"\n{\"entry\":\"sung\",\"song\":[1]}\n\n{\"entry\":\"end\"}\n");
        assert!(ledger.ended && ledger.torn == 0);
    }

    proptest! {
        #[test]
        fn any_cut_adds_up_to_the_whole_lines_before_it(cut in 0usize..2_000) {
            let whole = bytes(&entries());
            let cut = cut.min(whole.len());
            let ledger = Ledger::read(&whole[..cut]);
            let complete = entries().iter().scan(0, |end, entry| {
                // The closing line feed adds nothing.
                *end += line(entry).unwrap().len();
                Some(*end - 1 <= cut)
            }).filter(|complete| *complete).count();
            let mut expected = Ledger::read(&bytes(&entries()[..complete]));
            expected.torn = ledger.torn;
            prop_assert!(ledger.torn <= 1);
            prop_assert_eq!(ledger, expected);
        }

        #[test]
        fn any_bytes_add_up_to_something(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Ledger::read(&bytes);
        }
    }
}
