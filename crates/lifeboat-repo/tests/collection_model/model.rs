//! The protocol of `docs/format/session.md` as a model: writers, collectors and a forget that share one store, each a
//! list of steps that store operations separate.
//!
//! Must stay true: a step does one store operation, or computes. A crash needs no step of its own: it is a process that
//! is never scheduled again, and every order in which that can happen is explored. The names of the steps are those of
//! `docs/format/session.md`.

use stateright::{Model, Property};
use std::collections::BTreeSet;

/// A set of packs, one bit each.
pub(crate) type Packs = u8;

/// The pack that snapshot P needs, which is about to be forgotten.
pub(crate) const KEPT: Packs = 1;
/// A pack that snapshot Q needs, which stays. The same index object names both.
pub(crate) const OTHER: Packs = 2;
/// A pack that no snapshot needs, named by the same index object too.
pub(crate) const UNUSED: Packs = 4;
/// The pack that each writer makes when it can rely on no other.
const NEW: [Packs; 2] = [8, 16];

/// Writers have the numbers 0 and 1, collectors 2 and 3.
type Who = u8;
const WRITERS: usize = 2;
const SESSIONS: usize = 4;

/// A way to get the protocol wrong. The checker must refute each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    WriterIgnoresFence,
    WriterIgnoresLists,
    WriterKeepsItsPinBesideLists,
    WriterDoesNotConfirmItsParent,
    WriterConfirmsItsParentBeforeLists,
    WriterReadsListsLast,
    WriterTrustsAnOldIndex,
    WriterDoesNotListPacks,
    CollectorDoesNotWait,
    CollectorMarksOnce,
    CollectorIgnoresDrafts,
    CollectorListsSnapshotsFirst,
    CollectorIgnoresItsFence,
    CollectorRemovesListsOfTheDead,
    IndexGoesBeforeItsReplacement,
}

/// Who takes part, and what is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    /// Each writer, and whether it looks for a parent: snapshot P, or that of the second writer. One without looks its
    /// chunk up in the index.
    pub(crate) writers: Vec<bool>,
    pub(crate) collectors: usize,
    /// Whether the snapshot of the second writer may be forgotten as well.
    pub(crate) forgets_child: bool,
    /// What a collector that died with its lists in place had condemned, and whether it had put its verdict.
    pub(crate) dead_collector: Option<(Packs, bool)>,
    pub(crate) mutation: Option<Mutation>,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) parent: bool,
    pub(crate) snapshots: [Option<Packs>; WRITERS],
    pub(crate) drafts: [Option<Packs>; WRITERS],
    pub(crate) intents: u8,
    pub(crate) fences: u8,
    pub(crate) condemned: [Option<Packs>; SESSIONS],
    pub(crate) verdicts: [Option<Packs>; SESSIONS],
    pub(crate) packs: Packs,
    /// Index objects: who wrote each, and the packs that it names.
    pub(crate) index: BTreeSet<(Who, Packs)>,
}

impl Store {
    fn indexed(&self) -> Packs {
        self.index.iter().fold(0, |packs, (_, named)| packs | named)
    }

    fn used_by_snapshots(&self) -> Packs {
        let listed = self.snapshots.iter().flatten().fold(0, |packs, used| packs | used);
        OTHER | listed | if self.parent { KEPT } else { 0 }
    }

    fn used_by_drafts(&self) -> Packs {
        self.drafts.iter().flatten().fold(0, |packs, used| packs | used)
    }

    fn has(&self, flags: u8, who: Who) -> bool {
        flags & (1 << who) != 0
    }
}

/// The steps; `docs/format/session.md` has them in two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    // A writer's.
    ChooseParent,
    PutIntent,
    ReadLists,
    ConfirmParent,
    ReadIndex,
    ListPacks,
    PutPack,
    PutIndex,
    PutDraft,
    ReadFence,
    PutSnapshot,
    RemoveDraft,
    RemoveIntent,
    // A collector's; it has `PutIntent`, `ReadFence` and `RemoveIntent` too.
    ListCollectors,
    EndCollector,
    Mark,
    PutCondemned,
    ListIntents,
    WaitOrFence,
    MarkDrafts,
    MarkSnapshots,
    /// Only where writers keep their pins beside condemned lists.
    MarkIntents,
    PutVerdict,
    ReadIndexObjects,
    PutReplacement,
    RemoveIndexObjects,
    RemovePacks,
    RemoveVerdict,
    RemoveCondemned,
    ReadVerdictOfTheEnded,
    RemoveListsOfTheEnded,
    // The only one of a forget.
    Forget,
    Over,
}

/// Where a process is, and what it remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) next: Step,
    /// Writer: what it carries over from a parent, and which that is.
    parent: Option<Parent>,
    /// Writer: the condemned packs it knows. Collector: what it condemned; later its verdict.
    condemned: Packs,
    /// Writer: what its index names; later what its snapshot needs. Collector: what its marking reached.
    known: Packs,
    /// Collector: sessions that it waits for, or collectors that it ended.
    sessions: u8,
    ended: u8,
    /// Collector: index objects that name packs of its verdict.
    objects: BTreeSet<(Who, Packs)>,
}

/// Snapshot P, or that of the second writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parent {
    First,
    Child(Packs),
}

impl Parent {
    fn packs(self) -> Packs {
        match self {
            Self::First => KEPT,
            Self::Child(packs) => packs,
        }
    }

    fn is_listed(self, store: &Store) -> bool {
        match self {
            Self::First => store.parent,
            Self::Child(_) => store.snapshots[1].is_some(),
        }
    }
}

impl Process {
    fn new(next: Step) -> Self {
        let objects = BTreeSet::new();
        Self { next, parent: None, condemned: 0, known: 0, sessions: 0, ended: 0, objects }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// Writers, collectors, and the forget at the end.
    pub(crate) processes: Vec<Process>,
}

/// A process takes its next step. Where a collector waits for a session that is still there, it fences it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Action {
    pub(crate) process: usize,
    pub(crate) step: Step,
    /// The other way: the child as parent, the child forgotten, or a collector that condemns only some of what it could.
    pub(crate) otherwise: bool,
}

impl Collection {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn who(&self, process: usize) -> Who {
        let writers = self.writers.len();
        if process < writers { process as Who } else { (WRITERS + process - writers) as Who }
    }

    fn writer(&self, store: &mut Store, me: usize, process: &mut Process, otherwise: bool) {
        let who = me as Who;
        process.next = match process.next {
            Step::ChooseParent => {
                let child = store.snapshots[1].map(Parent::Child);
                process.parent = if otherwise { child } else { store.parent.then_some(Parent::First) };
                Step::PutIntent
            }
            Step::PutIntent => {
                store.intents |= 1 << who;
                // Its local index is from before.
                process.known = KEPT | OTHER;
                let confirms = self.is(Mutation::WriterConfirmsItsParentBeforeLists);
                if confirms && process.parent.is_some() { Step::ConfirmParent } else { self.first_reading() }
            }
            Step::ConfirmParent => {
                if !self.is(Mutation::WriterDoesNotConfirmItsParent) {
                    process.parent = process.parent.filter(|parent| parent.is_listed(store));
                }
                if self.is(Mutation::WriterConfirmsItsParentBeforeLists) {
                    Step::ReadLists
                } else {
                    self.after_lists(me, process)
                }
            }
            Step::ReadLists => {
                let lists = || store.condemned.iter().flatten();
                if !self.is(Mutation::WriterIgnoresLists) {
                    process.condemned = lists().fold(0, |packs, list| packs | list);
                    let keeps = lists().next().is_none() || self.is(Mutation::WriterKeepsItsPinBesideLists);
                    process.parent = process.parent.filter(|_| keeps);
                }
                let confirms = !self.is(Mutation::WriterConfirmsItsParentBeforeLists);
                if confirms && process.parent.is_some() {
                    Step::ConfirmParent
                } else {
                    self.after_lists(me, process)
                }
            }
            Step::ReadIndex => {
                process.known = store.indexed();
                if self.is(Mutation::WriterDoesNotListPacks) {
                    self.rely(me, process)
                } else {
                    Step::ListPacks
                }
            }
            Step::ListPacks => {
                process.known &= store.packs;
                if self.is(Mutation::WriterReadsListsLast) { Step::ReadLists } else { self.rely(me, process) }
            }
            Step::PutPack => {
                store.packs |= NEW[me];
                Step::PutIndex
            }
            Step::PutIndex => {
                store.index.insert((who, NEW[me]));
                Step::PutDraft
            }
            Step::PutDraft => {
                store.drafts[me] = Some(process.known);
                if self.is(Mutation::WriterIgnoresFence) { Step::PutSnapshot } else { Step::ReadFence }
            }
            Step::ReadFence if store.has(store.fences, who) => Step::RemoveDraft,
            Step::ReadFence => Step::PutSnapshot,
            Step::PutSnapshot => {
                store.snapshots[me] = Some(process.known);
                Step::RemoveDraft
            }
            Step::RemoveDraft => {
                store.drafts[me] = None;
                Step::RemoveIntent
            }
            Step::RemoveIntent => {
                store.intents &= !(1 << who);
                *process = Process::new(Step::Over);
                Step::Over
            }
            other => unreachable!("a writer has no step {other:?}"),
        };
    }

    fn first_reading(&self) -> Step {
        if self.is(Mutation::WriterReadsListsLast) { Step::ReadIndex } else { Step::ReadLists }
    }

    fn after_lists(&self, me: usize, process: &mut Process) -> Step {
        match self.mutation {
            Some(Mutation::WriterReadsListsLast | Mutation::WriterTrustsAnOldIndex) => self.rely(me, process),
            _ => Step::ReadIndex,
        }
    }

    /// Decides what its snapshot will need.
    fn rely(&self, me: usize, process: &mut Process) -> Step {
        let usable = process.known & !process.condemned;
        let (needs, next) = match process.parent {
            Some(parent) => (parent.packs(), Step::PutDraft),
            None if usable & KEPT != 0 => (KEPT, Step::PutDraft),
            None => (NEW[me], Step::PutPack),
        };
        process.known = needs;
        next
    }

    fn collector(&self, store: &mut Store, who: Who, process: &mut Process, otherwise: bool, pins: Packs) {
        let others = (WRITERS as Who..SESSIONS as Who).filter(|other| *other != who);
        process.next = match process.next {
            Step::PutIntent => {
                store.intents |= 1 << who;
                Step::ListCollectors
            }
            Step::ListCollectors => {
                let with_lists = |other: &Who| {
                    let other = usize::from(*other);
                    store.condemned[other].is_some() || store.verdicts[other].is_some()
                };
                process.ended = others.filter(with_lists).fold(0, |ended, other| ended | 1 << other);
                process.sessions = process.ended & !store.fences;
                if process.sessions == 0 { Step::Mark } else { Step::EndCollector }
            }
            Step::EndCollector => {
                let first = process.sessions & process.sessions.wrapping_neg();
                store.fences |= first;
                process.sessions &= !first;
                if process.sessions == 0 { Step::Mark } else { Step::EndCollector }
            }
            Step::Mark => {
                process.condemned = store.packs & !(store.used_by_snapshots() | store.used_by_drafts());
                if otherwise {
                    process.condemned &= UNUSED;
                }
                Step::PutCondemned
            }
            Step::PutCondemned => {
                store.condemned[usize::from(who)] = Some(process.condemned);
                let marks = !self.is(Mutation::CollectorMarksOnce);
                if marks { Step::ListIntents } else { Step::PutVerdict }
            }
            Step::ListIntents => {
                process.sessions = store.intents & !store.fences & !(1 << who);
                let waits = process.sessions != 0 && !self.is(Mutation::CollectorDoesNotWait);
                if waits { Step::WaitOrFence } else { self.first_marking() }
            }
            Step::WaitOrFence => {
                let first = process.sessions & process.sessions.wrapping_neg();
                store.fences |= first & store.intents;
                process.sessions &= !first;
                if process.sessions == 0 { self.first_marking() } else { Step::WaitOrFence }
            }
            Step::MarkDrafts => {
                if !self.is(Mutation::CollectorIgnoresDrafts) {
                    process.known |= store.used_by_drafts();
                }
                if self.is(Mutation::CollectorListsSnapshotsFirst) {
                    Step::PutVerdict
                } else {
                    Step::MarkSnapshots
                }
            }
            Step::MarkSnapshots => {
                process.known |= store.used_by_snapshots();
                match self.mutation {
                    Some(Mutation::CollectorListsSnapshotsFirst) => Step::MarkDrafts,
                    Some(Mutation::WriterKeepsItsPinBesideLists) => Step::MarkIntents,
                    _ => Step::PutVerdict,
                }
            }
            Step::MarkIntents => {
                process.known |= pins;
                Step::PutVerdict
            }
            Step::PutVerdict => {
                process.condemned &= !process.known;
                store.verdicts[usize::from(who)] = Some(process.condemned);
                if self.is(Mutation::CollectorIgnoresItsFence) {
                    Step::ReadIndexObjects
                } else {
                    Step::ReadFence
                }
            }
            // Another collector ended this one. It will never delete anything, so its lists can go.
            Step::ReadFence if store.has(store.fences, who) => {
                process.ended = 0;
                Step::RemoveVerdict
            }
            Step::ReadFence => Step::ReadIndexObjects,
            Step::ReadIndexObjects => {
                let named = |object: &&(Who, Packs)| object.1 & process.condemned != 0;
                process.objects = store.index.iter().filter(named).copied().collect();
                process.known = process.objects.iter().fold(0, |packs, object| packs | object.1);
                process.known &= !process.condemned;
                let early = self.is(Mutation::IndexGoesBeforeItsReplacement);
                if process.objects.is_empty() {
                    Step::RemovePacks
                } else if process.known == 0 || early {
                    Step::RemoveIndexObjects
                } else {
                    Step::PutReplacement
                }
            }
            Step::PutReplacement => {
                store.index.insert((who, process.known));
                let early = self.is(Mutation::IndexGoesBeforeItsReplacement);
                if early { Step::RemovePacks } else { Step::RemoveIndexObjects }
            }
            Step::RemoveIndexObjects => {
                if let Some(object) = process.objects.pop_first() {
                    store.index.remove(&object);
                }
                let early = self.is(Mutation::IndexGoesBeforeItsReplacement) && process.known != 0;
                match (process.objects.is_empty(), early) {
                    (false, _) => Step::RemoveIndexObjects,
                    (true, true) => Step::PutReplacement,
                    (true, false) => Step::RemovePacks,
                }
            }
            Step::RemovePacks => {
                store.packs &= !process.condemned;
                process.known = 0;
                Step::RemoveVerdict
            }
            Step::RemoveVerdict => {
                store.verdicts[usize::from(who)] = None;
                process.condemned = 0;
                Step::RemoveCondemned
            }
            Step::RemoveCondemned => {
                store.condemned[usize::from(who)] = None;
                if process.ended == 0 { Step::RemoveIntent } else { Step::ReadVerdictOfTheEnded }
            }
            Step::ReadVerdictOfTheEnded => {
                let first = process.ended.trailing_zeros() as usize;
                // Without a verdict it can delete nothing any more, as it would see the fence after its verdict. With
                // one it may wake and delete those packs at any time: they must be gone before they are not condemned.
                // A verdict without a condemned list came too late to count.
                let verdict = store.verdicts[first].filter(|_| store.condemned[first].is_some());
                let harmless = verdict.is_none_or(|verdict| verdict & store.packs == 0);
                if harmless || self.is(Mutation::CollectorRemovesListsOfTheDead) {
                    Step::RemoveListsOfTheEnded
                } else {
                    process.ended &= !(1 << first);
                    if process.ended == 0 { Step::RemoveIntent } else { Step::ReadVerdictOfTheEnded }
                }
            }
            Step::RemoveListsOfTheEnded => {
                let first = process.ended.trailing_zeros() as usize;
                // The verdict first, so that no verdict counts that is there without its list.
                if store.verdicts[first].take().is_none() {
                    store.condemned[first] = None;
                    process.ended &= !(1 << first);
                }
                match process.ended {
                    0 => Step::RemoveIntent,
                    ended if ended.trailing_zeros() as usize == first => Step::RemoveListsOfTheEnded,
                    _ => Step::ReadVerdictOfTheEnded,
                }
            }
            Step::RemoveIntent => {
                store.intents &= !(1 << who);
                *process = Process::new(Step::Over);
                Step::Over
            }
            other => unreachable!("a collector has no step {other:?}"),
        };
    }

    fn first_marking(&self) -> Step {
        if self.is(Mutation::CollectorListsSnapshotsFirst) { Step::MarkSnapshots } else { Step::MarkDrafts }
    }
}

impl Model for Collection {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store {
            parent: true,
            snapshots: [None; WRITERS],
            drafts: [None; WRITERS],
            intents: 0,
            fences: 0,
            condemned: [None; SESSIONS],
            verdicts: [None; SESSIONS],
            packs: KEPT | OTHER | UNUSED,
            index: BTreeSet::from([(Who::MAX, KEPT | OTHER | UNUSED)]),
        };
        if let Some((packs, has_verdict)) = self.dead_collector {
            store.condemned[SESSIONS - 1] = Some(packs);
            store.verdicts[SESSIONS - 1] = has_verdict.then_some(packs);
            store.intents = 1 << (SESSIONS - 1);
        }
        let first = |looks: &bool| if *looks { Step::ChooseParent } else { Step::PutIntent };
        let mut processes: Vec<Process> = self.writers.iter().map(first).map(Process::new).collect();
        processes.extend((0..self.collectors).map(|_| Process::new(Step::PutIntent)));
        processes.push(Process::new(Step::Forget));
        vec![State { store, processes }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (process, running) in state.processes.iter().enumerate() {
            let step = running.next;
            let child = state.store.snapshots[1].is_some();
            let (plainly, otherwise) = match step {
                Step::Over => (false, false),
                Step::ChooseParent => (true, child),
                Step::Forget => (state.store.parent, child && self.forgets_child),
                Step::Mark => (true, true),
                _ => (true, false),
            };
            actions.extend(plainly.then_some(Action { process, step, otherwise: false }));
            actions.extend(otherwise.then_some(Action { process, step, otherwise: true }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let State { store, processes } = &mut next;
        let pinned = processes.iter().enumerate().take(self.writers.len());
        let pinned = pinned.filter(|(who, _)| store.has(store.intents, *who as Who));
        let pins =
            pinned.filter_map(|(_, writer)| writer.parent).fold(0, |pins, parent| pins | parent.packs());
        let process = &mut processes[action.process];
        match action.step {
            Step::Forget if action.otherwise => store.snapshots[1] = None,
            Step::Forget => store.parent = false,
            _ if action.process < self.writers.len() => {
                self.writer(store, action.process, process, action.otherwise);
            }
            _ => self.collector(store, self.who(action.process), process, action.otherwise, pins),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "every snapshot that is listed has its packs, and the index names them",
                |_: &Self, state: &State| {
                    let used = state.store.used_by_snapshots();
                    used & !state.store.packs == 0 && used & !state.store.indexed() == 0
                },
            ),
            Property::sometimes("space returns", |_: &Self, state: &State| state.store.packs & KEPT == 0),
            Property::sometimes(
                "a writer completes although a collection runs",
                |model: &Self, state: &State| {
                    let writers = model.writers.len();
                    let collecting = state.processes[writers..].iter().any(|process| process.condemned != 0);
                    collecting && state.store.snapshots.iter().any(Option::is_some)
                },
            ),
            Property::sometimes(
                "nothing but snapshots, packs, index and fences is left",
                |_: &Self, state: &State| {
                    let over = |process: &Process| matches!(process.next, Step::Over | Step::Forget);
                    let over = state.processes.iter().all(over);
                    let lists = state.store.condemned.iter().chain(&state.store.verdicts).flatten().count();
                    over && lists == 0 && state.store.packs & KEPT == 0
                },
            ),
        ]
    }
}
