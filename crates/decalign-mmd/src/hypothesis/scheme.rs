//! Random vectors over two samples under which a statistic is distributed as if both were one.

use decalign_core::Real;
use decalign_core::random::Stream;

/// How vectors are drawn; number 0 is always the samples as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scheme {
    /// 1 on n of the points, -n/m on the others.
    Permutations,
    /// `(e, -e)` with random signs e.
    Signs,
    /// `(w, -w)`, w a stationary normal process with correlation `exp(-|t - s| / lag)`, less its mean.
    Process { lag: f64 },
}

impl Scheme {
    /// Vector `number`, of samples of n and m points.
    pub(crate) fn vector<T: Real>(
        self,
        (n, m): (usize, usize),
        seed: u64,
        number: usize,
    ) -> Vec<T> {
        let stream = Stream::new(seed, STREAM).child(number as u64);
        match (self, number) {
            (Self::Permutations, 0) => labels((n, m), 0..n),
            (Self::Permutations, _) => {
                // Choosing the fewer points is faster; the others are the other sample.
                let first = n <= m;
                let chosen = choose(n + m, n.min(m), stream);
                match first {
                    true => labels((n, m), chosen),
                    false => {
                        let mut left = labels::<T>((m, n), chosen);
                        let (one, other) = (T::one(), other((n, m)));
                        left.iter_mut()
                            .for_each(|v| *v = if *v == one { other } else { one });
                        left
                    }
                }
            }
            (_, 0) => mirrored((0..n).map(|_| T::one())),
            (Self::Signs, _) => {
                let mut signs = vec![T::one(); n];
                stream.bernoulli(n, 0.5, |i, minus| {
                    if minus {
                        signs[i] = -signs[i];
                    }
                });
                mirrored(signs.into_iter())
            }
            (Self::Process { lag }, _) => mirrored(process(n, lag, stream).map(T::of)),
        }
    }
}

/// Names the streams of this module.
const STREAM: u64 = 0x7465_7374;

/// What points of the second sample weigh when those of the first weigh 1.
pub(crate) fn other<T: Real>((n, m): (usize, usize)) -> T {
    T::of(-(n as f64) / m as f64)
}

/// 1 at the given points, of which there are n, and -n/m elsewhere.
pub(crate) fn labels<T: Real>(
    (n, m): (usize, usize),
    first: impl IntoIterator<Item = usize>,
) -> Vec<T> {
    let mut vector = vec![other((n, m)); n + m];
    first.into_iter().for_each(|i| vector[i] = T::one());
    vector
}

/// `(v, -v)`.
fn mirrored<T: Real>(first: impl Iterator<Item = T>) -> Vec<T> {
    let mut vector: Vec<T> = first.collect();
    for i in 0..vector.len() {
        vector.push(-vector[i]);
    }
    vector
}

/// `count` of the numbers below `total`, every choice as likely, in random order.
pub(crate) fn choose(total: usize, count: usize, stream: Stream) -> Vec<usize> {
    let mut all: Vec<usize> = (0..total).collect();
    for (i, u) in stream.uniform(count, 0.0, 1.0).into_iter().enumerate() {
        let left = total - i;
        let step = (u * left as f64) as usize;
        all.swap(i, i + step.min(left - 1));
    }
    all.truncate(count);
    all
}

fn process(n: usize, lag: f64, stream: Stream) -> impl Iterator<Item = f64> {
    let (keep, fresh) = ((-1.0 / lag).exp(), (-(-2.0 / lag).exp_m1()).max(0.0).sqrt());
    let mut normal = stream.normal(n);
    for t in 1..n {
        normal[t] = keep * normal[t - 1] + fresh * normal[t];
    }
    let mean = normal.iter().sum::<f64>() / n as f64;
    normal.into_iter().map(move |w| w - mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_as_likely() {
        // Of 10 choices of 2 of 5, 10,000 draws: five standard errors are 150.
        let mut counts = std::collections::BTreeMap::new();
        for b in 0..10_000 {
            let mut chosen = choose(5, 2, Stream::new(3, 1).child(b));
            chosen.sort_unstable();
            *counts.entry(chosen).or_insert(0i32) += 1;
        }
        assert_eq!(counts.len(), 10);
        assert!(
            counts.values().all(|c| (c - 1000).abs() < 150),
            "{counts:?}"
        );
    }

    #[test]
    fn vectors_hold_what_they_say() {
        for sizes in [(3, 7), (7, 3), (4, 4)] {
            for number in 0..20 {
                let v: Vec<f64> = Scheme::Permutations.vector(sizes, 1, number);
                let ones = v.iter().filter(|v| **v == 1.0).count();
                assert_eq!((v.len(), ones), (10.min(sizes.0 + sizes.1), sizes.0));
                assert!(v.iter().sum::<f64>().abs() < 1e-12);
            }
        }
        let lagged: Vec<f64> = Scheme::Process { lag: 20.0 }.vector((1000, 1000), 1, 1);
        let products = |by: usize| {
            let w = &lagged[..1000];
            w.iter().zip(&w[by..]).map(|(a, b)| a * b).sum::<f64>()
        };
        assert!((products(1) / products(0) - (-1.0f64 / 20.0).exp()).abs() < 0.03);
        assert!(lagged[..1000].iter().sum::<f64>().abs() < 1e-9);
    }
}
