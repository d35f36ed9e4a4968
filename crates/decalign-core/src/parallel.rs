//! Parallel loops whose results do not depend on the number of threads.
//!
//! Work is cut into pieces by its size alone, never by the number of threads; each piece is done
//! by one thread, and results are combined in the order of the pieces. Below [`THRESHOLD`] units
//! of work a loop stays on the caller's thread, where waking another would cost more.

use rayon::prelude::*;

/// Work (about one floating-point operation a unit) below which a loop is not worth sharing.
pub const THRESHOLD: usize = 200_000;

/// Calls `f(index, piece)` for every piece of `size` elements (the last may be shorter).
///
/// `work` is the cost of the whole loop, in floating-point operations.
pub fn for_each_chunk<T: Send>(
    data: &mut [T],
    size: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let size = size.max(1);
    if work < THRESHOLD || data.len() <= size {
        data.chunks_mut(size).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        data.par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, c)| f(i, c));
    }
}

/// As [`for_each_chunk`] over two slices in step: pieces `i` of both go to one call.
pub fn for_each_pair<T: Send>(
    (a, size_a): (&mut [T], usize),
    (b, size_b): (&mut [T], usize),
    work: usize,
    f: impl Fn(usize, &mut [T], &mut [T]) + Sync + Send,
) {
    let (size_a, size_b) = (size_a.max(1), size_b.max(1));
    if work < THRESHOLD {
        let pairs = a.chunks_mut(size_a).zip(b.chunks_mut(size_b));
        pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    } else {
        let pairs = a.par_chunks_mut(size_a).zip(b.par_chunks_mut(size_b));
        pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
    }
}

/// The results of `f(0), ..., f(n - 1)`, in order.
///
/// `work` is the cost of the whole loop, in floating-point operations.
///
/// ```
/// let squares = decalign_core::parallel::map(4, 4, |i| i * i);
/// assert_eq!(squares, [0, 1, 4, 9]);
/// ```
pub fn map<R: Send>(n: usize, work: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if work < THRESHOLD || n < 2 {
        (0..n).map(f).collect()
    } else {
        (0..n).into_par_iter().map(f).collect()
    }
}

/// The results of `f(0), ..., f(n - 1)` merged, `merge(a, b)` adding to `a` the result `b` of later indices;
/// none of no indices.
///
/// They are merged in a tree whose shape depends on `n` alone. At any time a thread holds no more than
/// `log2 n` results that wait for others.
///
/// ```
/// let sum = decalign_core::parallel::reduce(5, 5, |i| i * i, |a, b| *a += b);
/// assert_eq!(sum, Some(30));
/// ```
pub fn reduce<R: Send>(
    n: usize,
    work: usize,
    f: impl Fn(usize) -> R + Sync + Send,
    merge: impl Fn(&mut R, R) + Sync + Send,
) -> Option<R> {
    (n > 0).then(|| tree((0, n), work >= THRESHOLD, &f, &merge))
}

/// Of the indices from `start` to `end`, at least one.
fn tree<R: Send>(
    (start, end): (usize, usize),
    shared: bool,
    f: &(impl Fn(usize) -> R + Sync + Send),
    merge: &(impl Fn(&mut R, R) + Sync + Send),
) -> R {
    if end - start < 2 {
        return f(start);
    }
    let middle = start + (end - start).next_power_of_two() / 2;
    let first = || tree((start, middle), shared, f, merge);
    let second = || tree((middle, end), shared, f, merge);
    let (mut first, second) = match shared {
        true => rayon::join(first, second),
        false => (first(), second()),
    };
    merge(&mut first, second);
    first
}
