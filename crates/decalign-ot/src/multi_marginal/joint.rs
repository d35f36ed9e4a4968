//! Joint tensors: their cells from pairs and vectors, and sums over all but a pair.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::cells::Cells;

/// What a joint cost is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Structure {
    /// One cost for every pair here, (K_m, K_n).
    Edges(Vec<(usize, usize)>),
    /// The joint cost itself.
    Joint,
}

/// The joint cost, zeros in its padding.
pub(crate) fn joint_cost<D: Real, T: Real>(
    cells: &Cells,
    structure: &Structure,
    costs: &[&[D]],
) -> Vec<T> {
    let (n, stride) = (cells.sizes[cells.last()], cells.stride);
    let mut joint = vec![T::zero(); cells.len()];
    match structure {
        Structure::Joint => {
            for (to, from) in joint.chunks_exact_mut(stride).zip(costs[0].chunks_exact(n)) {
                to.iter_mut()
                    .zip(from)
                    .for_each(|(t, f)| *t = T::of(f.as_f64()));
            }
        }
        Structure::Edges(edges) => {
            for (edge, cost) in edges.iter().zip(costs) {
                let cost: Vec<T> = cost.iter().map(|v| T::of(v.as_f64())).collect();
                let cost = upright(&cells.sizes, *edge, cost);
                add_pair(cells, ordered(*edge), &cost, &mut joint);
            }
        }
    }
    joint
}

/// The gradients of the costs given that of the joint cost: the transpose of [`joint_cost`].
pub(crate) fn cost_gradients<T: Real>(
    cells: &Cells,
    structure: &Structure,
    joint: &[T],
) -> Vec<Vec<T>> {
    match structure {
        Structure::Joint => vec![unpadded(cells, joint)],
        Structure::Edges(edges) => edges.iter().map(|e| pair_sums(cells, *e, joint)).collect(),
    }
}

/// The cells without their padding.
pub(crate) fn unpadded<T: Real>(cells: &Cells, joint: &[T]) -> Vec<T> {
    let n = cells.sizes[cells.last()];
    let rows = joint.chunks_exact(cells.stride);
    rows.flat_map(|row| &row[..n]).copied().collect()
}

/// Sums over all marginals but the two of a pair, in its order.
pub(crate) fn pair_sums<T: Real>(cells: &Cells, edge: (usize, usize), joint: &[T]) -> Vec<T> {
    let (a, b) = ordered(edge);
    let (n, stride) = (cells.sizes[cells.last()], cells.stride);
    let mut sums = vec![T::zero(); cells.sizes[a] * cells.sizes[b]];
    let rows = joint.chunks_exact(stride);
    match b == cells.last() {
        true => {
            for (i, row) in digits(cells, a).zip(rows) {
                let to = &mut sums[i * n..][..n];
                to.iter_mut().zip(row).for_each(|(s, v)| *s += *v);
            }
        }
        false => {
            for ((i, j), row) in digits(cells, a).zip(digits(cells, b)).zip(rows) {
                sums[i * cells.sizes[b] + j] += row[..n].iter().copied().sum();
            }
        }
    }
    match edge == (a, b) {
        true => sums,
        false => transposed(&sums, cells.sizes[b]),
    }
}

fn add_pair<T: Real>(cells: &Cells, (a, b): (usize, usize), cost: &[T], joint: &mut [T]) {
    let (n, stride) = (cells.sizes[cells.last()], cells.stride);
    let rows = joint.chunks_exact_mut(stride);
    match b == cells.last() {
        true => {
            for (i, row) in digits(cells, a).zip(rows) {
                let cost = &cost[i * n..][..n];
                row.iter_mut().zip(cost).for_each(|(v, c)| *v += *c);
            }
        }
        false => {
            for ((i, j), row) in digits(cells, a).zip(digits(cells, b)).zip(rows) {
                let cost = cost[i * cells.sizes[b] + j];
                row[..n].iter_mut().for_each(|v| *v += cost);
            }
        }
    }
}

/// The point of marginal `m` of every row in turn; not of the last marginal, which rows run over.
pub(crate) fn digits(cells: &Cells, m: usize) -> impl Iterator<Item = usize> + use<> {
    let repeats: usize = cells.sizes[m + 1..cells.last()].iter().product();
    let size = cells.sizes[m];
    let (mut digit, mut seen) = (0, 0);
    std::iter::repeat_with(move || {
        let now = digit;
        seen += 1;
        if seen == repeats {
            seen = 0;
            digit = if digit + 1 == size { 0 } else { digit + 1 };
        }
        now
    })
}

/// A number a row, from those of the marginals but the last: their sums or products.
pub(crate) fn of_rows<T: Real>(
    cells: &Cells,
    vectors: &[T],
    one: T,
    with: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut all = vec![one];
    for x in cells.each(vectors).take(cells.last()) {
        all = all
            .iter()
            .flat_map(|a| x.iter().map(|x| with(*a, *x)))
            .collect();
    }
    all
}

/// `table_rj x_r y_j`, the cells of a plan; `rows` of them.
pub(crate) fn scaled<T: Real>(table: &[T], (x, y): (&[T], &[T]), out: &mut [T]) {
    struct Scaled<'a, T> {
        table: &'a [T],
        x: &'a [T],
        y: &'a [T],
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Scaled<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, _: I) {
            let n = self.y.len();
            let rows = self.table.chunks_exact(n).zip(self.x);
            for ((row, x), out) in rows.zip(self.out.chunks_exact_mut(n)) {
                for_blocks!(at in n, {
                    let (mut v, y) = (at.load(row), at.load(self.y));
                    for i in 0..LANES {
                        v[i] *= *x * y[i];
                    }
                    at.store(v, out);
                });
            }
        }
    }
    let (n, work) = (y.len(), 2 * table.len());
    let rows = piece_rows(n);
    parallel::for_each_chunk(out, rows * n, work, |i, out| {
        let (table, x) = (&table[i * rows * n..], &x[i * rows..]);
        simd::dispatch(Scaled { table, x, y, out });
    });
}

/// The smaller marginal first.
pub(crate) fn ordered((a, b): (usize, usize)) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// The matrix of a pair with the smaller marginal's points as rows.
fn upright<T: Real>(sizes: &[usize], (a, b): (usize, usize), cost: Vec<T>) -> Vec<T> {
    match a < b {
        true => cost,
        false => transposed(&cost, sizes[b]),
    }
}

/// Of a matrix with so many columns.
pub(crate) fn transposed<T: Real>(x: &[T], columns: usize) -> Vec<T> {
    let rows = x.len() / columns;
    let column = |j: usize| (0..rows).map(move |i| x[i * columns + j]);
    (0..columns).flat_map(column).collect()
}

/// Rows of one piece of work on a joint tensor.
pub(crate) fn piece_rows(stride: usize) -> usize {
    const CELLS: usize = 1 << 15;
    (CELLS / stride).max(1)
}
