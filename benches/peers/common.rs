//! What the timing programs share: a JSON object a line, shortest times, memory.

use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

pub(crate) fn print(name: &str, value: f64) {
    match value.is_finite() {
        true => println!(r#"{{"name": "{name}", "value": {value}}}"#),
        false => println!(r#"{{"name": "{name}", "value": null}}"#),
    }
}

/// The shortest of some runs, in seconds.
pub(crate) fn least(times: usize, mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(once).fold(f64::INFINITY, f64::min)
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
