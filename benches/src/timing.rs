//! Shortest times.

use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The shortest of `times` runs, in seconds.
pub fn least(times: usize, run: impl FnMut()) -> f64 {
    shortest(|done, _| done < times, run)
}

/// The shortest of the runs that fit into `seconds`, at least two, in seconds.
pub fn least_within(seconds: f64, run: impl FnMut()) -> f64 {
    let more = |done, begin: Instant| done < 2 || begin.elapsed().as_secs_f64() < seconds;
    shortest(more, run)
}

fn shortest(more: impl Fn(usize, Instant) -> bool, mut run: impl FnMut()) -> f64 {
    let (begin, mut shortest, mut done) = (Instant::now(), f64::INFINITY, 0);
    while more(done, begin) {
        let start = Instant::now();
        run();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        done += 1;
    }
    shortest
}

/// A pool of `threads` threads.
///
/// # Panics
/// When the system cannot start them.
pub fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap()
}

/// `1 thread`, `2 threads`, ...
#[must_use]
pub fn thread_count(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}
