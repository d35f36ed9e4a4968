//! Random relabellings of two samples, under which a statistic is distributed as under the null hypothesis.

use decalign_core::Real;
use decalign_core::random::Stream;

/// How label vectors are drawn; number 0 always keeps the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Relabelling {
    /// 1 on n of the points, -n/m on the others, at random.
    Permutations,
    /// `(e, -e)` with random signs e.
    Signs,
    /// `(w, -w)`, w a stationary normal process with correlation `exp(-|t - s| / lag)`, minus its mean.
    Process { lag: f64 },
}

impl Relabelling {
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
                // Choose the smaller sample, which is faster.
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

/// The random stream of relabellings.
const STREAM: u64 = 0x7465_7374;

/// The label of points of the second sample, where those of the first have 1.
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

/// `count` of the numbers below `total`, all choices equally likely, in random order.
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
