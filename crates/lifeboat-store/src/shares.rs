//! Work on many things, in shares, on several threads.

/// What `work` makes of `items`, in their order: in shares of at least `least` items, each on a thread of its own, on at
/// most `threads()` of them. Fewer items than that are worked on here, and `threads` is not asked.
///
/// # Panics
/// Where `work` does, with the same payload.
pub fn in_shares<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    threads: impl FnOnce() -> usize,
    work: impl Fn(&[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    if items.len() <= least {
        return work(items);
    }
    let share = items.len().div_ceil(threads().max(1)).max(least).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.chunks(share).map(|items| scope.spawn(move || work(items))).collect();
        let results = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        results.flat_map(|made| made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::in_shares;
    use std::collections::HashSet;

    #[test]
    fn what_several_threads_make_comes_in_order() {
        let numbers: Vec<u32> = (0..10_000).collect();
        for (least, threads) in [(0, 0), (1, 3), (100, 8), (9_999, 8), (usize::MAX, 8)] {
            let doubled =
                in_shares(&numbers, least, || threads, |some| some.iter().map(|number| 2 * number).collect());
            assert_eq!(doubled, numbers.iter().map(|number| 2 * number).collect::<Vec<_>>());
        }
        assert_eq!(in_shares(&[0; 0], 0, || 8, <[u32]>::to_vec), []);
    }

    #[test]
    fn so_many_threads_are_started_as_are_worth_it() {
        let on = |least, threads| {
            let by = in_shares(&[0; 1_000], least, || threads, |_| vec![std::thread::current().id()]);
            by.into_iter().collect::<HashSet<_>>().len()
        };
        assert_eq!([on(1, 4), on(500, 4), on(999, 4), on(1, 1)], [4, 2, 2, 1]);
        let asked = |least| in_shares(&[0; 10], least, || panic!("asked"), <[u32]>::to_vec);
        assert_eq!(asked(10).len(), 10);
    }

    #[test]
    #[should_panic(expected = "number 77")]
    fn a_panic_is_the_callers() {
        let numbers: Vec<u32> = (0..100).collect();
        in_shares(
            &numbers,
            10,
            || 4,
            |some| -> Vec<u32> {
                some.iter().for_each(|number| assert!(*number != 77, "number {number}"));
                Vec::new()
            },
        );
    }
}
