//! What the timing programs share: a JSON object a line, shortest times, memory.

use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub(crate) fn print(name: &str, value: f64) {
    match value.is_finite() {
        true => println!(r#"{{"name": "{name}", "value": {value}}}"#),
        false => println!(r#"{{"name": "{name}", "value": null}}"#),
    }
}

/// How often something is run.
#[derive(Clone, Copy)]
pub(crate) enum Runs {
    Times(usize),
    /// As often as fits, twice at least.
    // Not every program has such runs.
    #[allow(dead_code)]
    Seconds(f64),
}

impl From<usize> for Runs {
    fn from(times: usize) -> Self {
        Self::Times(times)
    }
}

/// The shortest of some runs, in seconds.
pub(crate) fn least(runs: impl Into<Runs>, mut run: impl FnMut()) -> f64 {
    let (begin, runs, mut shortest) = (Instant::now(), runs.into(), f64::INFINITY);
    let wanted = |done| match runs {
        Runs::Times(times) => done < times,
        Runs::Seconds(seconds) => done < 2 || begin.elapsed().as_secs_f64() < seconds,
    };
    let mut done = 0;
    while wanted(done) {
        let start = Instant::now();
        run();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        done += 1;
    }
    shortest
}

pub(crate) fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

pub(crate) fn named(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// A line of /proc/self/status, in bytes; none where there is no such file.
pub(crate) fn status(key: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}
