//! The protocol of `docs/format/session.md` as a model: writers, collectors and a forget that share one store, each a
//! list of steps that store operations separate.
//!
//! Must stay true: a step does one store operation, or computes. A crash needs no step of its own: it is a process that
//! is never scheduled again, and every order in which that can happen is explored. The names of the steps are those of
//! `docs/format/session.md`.

#[path = "collector.rs"]
mod collector;

use stateright::{Model, Property};
use std::collections::BTreeSet;

/// A set of packs, one bit each.
pub(crate) type Packs = u16;
/// A set of chunks, one bit each.
pub(crate) type Chunks = u8;

/// The chunk that snapshot P needs, which may be forgotten, and the snapshot of each writer.
const SHARED: Chunks = 1;
/// The chunk that snapshot Q needs, which stays.
const LASTING: Chunks = 2;

/// The pack with the shared chunk from which snapshot P was made.
pub(crate) const KEPT: Packs = 1;
/// The pack with the lasting chunk. The same index object names both.
pub(crate) const OTHER: Packs = 2;
/// A pack with a chunk that no snapshot needs, named by the same index object too.
pub(crate) const UNUSED: Packs = 4;
/// The pack with the shared chunk that each writer makes when it can rely on no other.
const NEW: [Packs; WRITERS] = [8, 16];
/// Another pack with the shared chunk, as two writers leave it that store it at the same time.
pub(crate) const TWIN: Packs = 32;
/// The pack into which each collector copies the shared chunk.
const COPY: [Packs; COLLECTORS] = [64, 128, 256];
/// Everything that holds the shared chunk.
const SHARING: Packs = KEPT | NEW[0] | NEW[1] | TWIN | COPY[0] | COPY[1] | COPY[2];

/// The packs that hold one of `chunks`.
fn holding(chunks: Chunks) -> Packs {
    let packs = |chunk: Chunks, packs: Packs| if chunks & chunk == 0 { 0 } else { packs };
    packs(SHARED, SHARING) | packs(LASTING, OTHER)
}

/// Writers have the numbers 0 and 1, collectors those from 2 on.
type Who = u8;
const WRITERS: usize = 2;
const COLLECTORS: usize = 3;
const SESSIONS: usize = WRITERS + COLLECTORS;

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
    WriterListsPacksBeforeLists,
    CollectorDoesNotWait,
    CollectorMarksOnce,
    CollectorIgnoresDrafts,
    CollectorListsSnapshotsFirst,
    CollectorIgnoresItsFence,
    CollectorRemovesListsOfTheDead,
    IndexGoesBeforeItsReplacement,
    CollectorReliesOnCondemnedCopies,
    CopiesAreIndexedLast,
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
    /// Whether collectors condemn packs with the shared chunk as well, and copy it where they must.
    pub(crate) copies: bool,
    /// Whether there is a second pack with the shared chunk from the start.
    pub(crate) twin: bool,
    /// What a collector that died with its lists in place had condemned, and whether it had put its verdict.
    pub(crate) dead_collector: Option<(Packs, bool)>,
    pub(crate) mutation: Option<Mutation>,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) parent: bool,
    pub(crate) snapshots: [bool; WRITERS],
    pub(crate) drafts: [bool; WRITERS],
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

    fn used_by_snapshots(&self) -> Chunks {
        LASTING | if self.parent || self.snapshots.contains(&true) { SHARED } else { 0 }
    }

    fn used_by_drafts(&self) -> Chunks {
        if self.drafts.contains(&true) { SHARED } else { 0 }
    }

    fn condemned(&self) -> Packs {
        self.condemned.iter().flatten().fold(0, |packs, list| packs | list)
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
    ReadIndexAtLast,
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
    // Only for packs that are condemned although something in them is reached: what writers do too.
    ReadLists2,
    ReadIndex2,
    ListPacks2,
    ReadIndexAtLast2,
    PutCopy,
    PutIndexOfCopy,
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
    /// Writer: what its index names. Collector: what it may rely on beside what it condemned; later what stays in the
    /// index.
    known: Packs,
    /// Collector: what its marking reached.
    reached: Chunks,
    /// Collector: what it condemned although it is reached.
    moved: Packs,
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
    Child,
}

impl Parent {
    fn is_listed(self, store: &Store) -> bool {
        match self {
            Self::First => store.parent,
            Self::Child => store.snapshots[1],
        }
    }
}

impl Process {
    fn new(next: Step) -> Self {
        let objects = BTreeSet::new();
        Self {
            next,
            parent: None,
            condemned: 0,
            known: 0,
            reached: 0,
            moved: 0,
            sessions: 0,
            ended: 0,
            objects,
        }
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
    /// [`PLAIN`], or another way to take it: the child as parent, the child forgotten, the packs listed before the index is
    /// read, a collector that condemns only some of what it could, or also what is reached.
    pub(crate) way: Way,
}

type Way = u8;
const PLAIN: Way = 0;
const OTHERWISE: Way = 1;
/// Condemns also all packs with the shared chunk; greater ones condemn one of them.
const MOVES_ALL: Way = 2;

impl Collection {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn who(&self, process: usize) -> Who {
        let writers = self.writers.len();
        if process < writers { process as Who } else { (WRITERS + process - writers) as Who }
    }

    fn writer(&self, store: &mut Store, me: usize, process: &mut Process, way: Way) {
        let who = me as Who;
        process.next = match process.next {
            Step::ChooseParent => {
                process.parent = match way {
                    PLAIN => store.parent.then_some(Parent::First),
                    _ => store.snapshots[1].then_some(Parent::Child),
                };
                Step::PutIntent
            }
            Step::PutIntent => {
                store.intents |= 1 << who;
                // Its local index is from before.
                process.known = KEPT | OTHER | TWIN;
                if self.is(Mutation::WriterListsPacksBeforeLists) {
                    process.known = store.packs;
                }
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
                    self.after_lists(process)
                }
            }
            Step::ReadLists => {
                if !self.is(Mutation::WriterIgnoresLists) {
                    process.condemned = store.condemned();
                    let is_any = store.condemned.iter().any(Option::is_some);
                    let keeps = !is_any || self.is(Mutation::WriterKeepsItsPinBesideLists);
                    process.parent = process.parent.filter(|_| keeps);
                }
                let confirms = !self.is(Mutation::WriterConfirmsItsParentBeforeLists);
                if confirms && process.parent.is_some() {
                    Step::ConfirmParent
                } else {
                    self.after_lists(process)
                }
            }
            // It reads the index and lists the packs at the same time, so either may come first.
            Step::ReadIndex if way == OTHERWISE => {
                process.known = store.packs;
                Step::ReadIndexAtLast
            }
            Step::ReadIndexAtLast => {
                process.known &= store.indexed();
                if self.is(Mutation::WriterReadsListsLast) { Step::ReadLists } else { self.rely(process) }
            }
            Step::ReadIndex => {
                process.known = store.indexed();
                if self.is(Mutation::WriterDoesNotListPacks) { self.rely(process) } else { Step::ListPacks }
            }
            Step::ListPacks => {
                process.known &= store.packs;
                if self.is(Mutation::WriterReadsListsLast) { Step::ReadLists } else { self.rely(process) }
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
                process.known = 0;
                store.drafts[me] = true;
                if self.is(Mutation::WriterIgnoresFence) { Step::PutSnapshot } else { Step::ReadFence }
            }
            Step::ReadFence if store.has(store.fences, who) => Step::RemoveDraft,
            Step::ReadFence => Step::PutSnapshot,
            Step::PutSnapshot => {
                store.snapshots[me] = true;
                Step::RemoveDraft
            }
            Step::RemoveDraft => {
                store.drafts[me] = false;
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

    fn after_lists(&self, process: &Process) -> Step {
        match self.mutation {
            Some(Mutation::WriterReadsListsLast | Mutation::WriterTrustsAnOldIndex) => self.rely(process),
            Some(Mutation::WriterListsPacksBeforeLists) => Step::ReadIndexAtLast,
            _ => Step::ReadIndex,
        }
    }

    /// Decides whether it has to store its chunk.
    fn rely(&self, process: &Process) -> Step {
        let is_stored = process.known & !process.condemned & SHARING != 0;
        if process.parent.is_some() || is_stored { Step::PutDraft } else { Step::PutPack }
    }
}

impl Model for Collection {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store {
            parent: true,
            snapshots: [false; WRITERS],
            drafts: [false; WRITERS],
            intents: 0,
            fences: 0,
            condemned: [None; SESSIONS],
            verdicts: [None; SESSIONS],
            packs: KEPT | OTHER | UNUSED,
            index: BTreeSet::from([(Who::MAX, KEPT | OTHER | UNUSED)]),
        };
        if self.twin {
            store.packs |= TWIN;
            store.index.insert((Who::MAX - 1, TWIN));
        }
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
            let child = state.store.snapshots[1];
            let (plainly, otherwise) = match step {
                Step::Over => (false, false),
                Step::ChooseParent => (true, child),
                Step::Forget => (state.store.parent, child && self.forgets_child),
                Step::Mark | Step::ReadIndex | Step::ReadIndex2 => (true, true),
                _ => (true, false),
            };
            actions.extend(plainly.then_some(Action { process, step, way: PLAIN }));
            actions.extend(otherwise.then_some(Action { process, step, way: OTHERWISE }));
            if step == Step::Mark && self.copies {
                let sharing = state.store.packs & SHARING;
                actions.push(Action { process, step, way: MOVES_ALL });
                let one = (0..16).filter(|bit| sharing & 1 << bit != 0 && sharing.count_ones() > 1);
                actions.extend(one.map(|bit| Action { process, step, way: MOVES_ALL + 1 + bit }));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let State { store, processes } = &mut next;
        let pinned = processes.iter().enumerate().take(self.writers.len());
        let mut pinned = pinned.filter(|(who, _)| store.has(store.intents, *who as Who));
        let pins = if pinned.any(|(_, writer)| writer.parent.is_some()) { SHARED } else { 0 };
        let process = &mut processes[action.process];
        match action.step {
            Step::Forget if action.way == OTHERWISE => store.snapshots[1] = false,
            Step::Forget => store.parent = false,
            _ if action.process < self.writers.len() => {
                self.writer(store, action.process, process, action.way);
            }
            _ => self.collector(store, self.who(action.process), process, action.way, pins),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "every snapshot that is listed has its chunks, in packs that the index names",
                |_: &Self, state: &State| {
                    let readable = state.store.packs & state.store.indexed();
                    let used = state.store.used_by_snapshots();
                    [SHARED, LASTING].iter().all(|chunk| used & chunk == 0 || readable & holding(*chunk) != 0)
                },
            ),
            Property::sometimes("space returns", |_: &Self, state: &State| state.store.packs & KEPT == 0),
            Property::sometimes(
                "a writer, if there is one, completes although a collection runs",
                |model: &Self, state: &State| {
                    let writers = model.writers.len();
                    if writers == 0 {
                        return true;
                    }
                    let collecting = state.processes[writers..].iter().any(|process| process.condemned != 0);
                    collecting && state.store.snapshots.contains(&true)
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
