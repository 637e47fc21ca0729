//! The steps of a collector.
//!
//! Must stay true: they are those of `docs/format/session.md#collection`, in that order and under those names.

use super::*;

impl Collection {
    pub(super) fn collector(
        &self,
        store: &mut Store,
        who: Who,
        process: &mut Process,
        way: Way,
        pins: Chunks,
    ) {
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
                let live = store.packs & holding(store.used_by_snapshots() | store.used_by_drafts());
                process.condemned = store.packs & !live;
                process.moved = live
                    & match way {
                        PLAIN | OTHERWISE => 0,
                        MOVES_ALL => SHARING,
                        one => 1 << (one - MOVES_ALL - 1),
                    };
                if way == OTHERWISE {
                    process.condemned &= UNUSED;
                }
                process.condemned |= process.moved;
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
                    process.reached |= store.used_by_drafts();
                }
                if self.is(Mutation::CollectorListsSnapshotsFirst) {
                    self.after_marking(process)
                } else {
                    Step::MarkSnapshots
                }
            }
            Step::MarkSnapshots => {
                process.reached |= store.used_by_snapshots();
                match self.mutation {
                    Some(Mutation::CollectorListsSnapshotsFirst) => Step::MarkDrafts,
                    Some(Mutation::WriterKeepsItsPinBesideLists) => Step::MarkIntents,
                    _ => self.after_marking(process),
                }
            }
            Step::MarkIntents => {
                process.reached |= pins;
                self.after_marking(process)
            }
            Step::ReadLists2 => {
                process.known = match self.mutation {
                    Some(Mutation::CollectorReliesOnCondemnedCopies) => {
                        store.condemned[usize::from(who)].unwrap_or(0)
                    }
                    _ => store.condemned(),
                };
                Step::ReadIndex2
            }
            // As a writer, it may list the packs first.
            Step::ReadIndex2 if way == OTHERWISE => {
                process.known = store.packs & SHARING & !process.known;
                Step::ReadIndexAtLast2
            }
            Step::ReadIndexAtLast2 => {
                process.known &= store.indexed();
                self.copy(process)
            }
            Step::ReadIndex2 => {
                process.known = store.indexed() & SHARING & !process.known;
                Step::ListPacks2
            }
            Step::ListPacks2 => {
                process.known &= store.packs;
                self.copy(process)
            }
            Step::PutCopy => {
                store.packs |= COPY[usize::from(who) - WRITERS];
                if self.is(Mutation::CopiesAreIndexedLast) { Step::PutVerdict } else { Step::PutIndexOfCopy }
            }
            Step::PutIndexOfCopy => {
                store.index.insert((who, COPY[usize::from(who) - WRITERS]));
                if self.is(Mutation::CopiesAreIndexedLast) { Step::RemoveVerdict } else { Step::PutVerdict }
            }
            Step::PutVerdict => {
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
                let copied = store.packs & COPY[usize::from(who) - WRITERS] != 0;
                if copied && self.is(Mutation::CopiesAreIndexedLast) {
                    Step::PutIndexOfCopy
                } else {
                    Step::RemoveVerdict
                }
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

    /// From what it condemned to what it may delete: what nothing reaches, and what it copies first.
    fn after_marking(&self, process: &mut Process) -> Step {
        process.condemned = process.condemned & !holding(process.reached) | process.moved;
        let copies = process.moved != 0 && process.reached & SHARED != 0;
        (process.reached, process.moved) = (0, 0);
        if copies { Step::ReadLists2 } else { Step::PutVerdict }
    }

    /// Whether it has to copy the shared chunk.
    fn copy(&self, process: &mut Process) -> Step {
        let is_elsewhere = process.known != 0;
        process.known = 0;
        if is_elsewhere { Step::PutVerdict } else { Step::PutCopy }
    }

    fn first_marking(&self) -> Step {
        if self.is(Mutation::CollectorListsSnapshotsFirst) { Step::MarkSnapshots } else { Step::MarkDrafts }
    }
}
