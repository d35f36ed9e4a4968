//! Joint tensors: their cells from pairs and vectors, and their sums over all marginals but a pair.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::layout::JointLayout;

/// The terms of a joint cost.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Structure {
    /// A cost (K_m, K_n) for each of these pairs.
    Edges(Vec<(usize, usize)>),
    /// The joint cost itself.
    Joint,
}

/// The joint cost with zeros in its padding.
pub(crate) fn joint_cost<D: Real, T: Real>(
    cells: &JointLayout,
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
                let cost = oriented(&cells.sizes, *edge, cost);
                add_pair(cells, ordered(*edge), &cost, &mut joint);
            }
        }
    }
    joint
}

/// The gradients of the costs from that of the joint cost: the adjoint of [`joint_cost`].
pub(crate) fn cost_gradients<T: Real>(
    cells: &JointLayout,
    structure: &Structure,
    joint: &[T],
) -> Vec<Vec<T>> {
    match structure {
        Structure::Joint => vec![unpadded(cells, joint)],
        Structure::Edges(edges) => edges.iter().map(|e| pair_sums(cells, *e, joint)).collect(),
    }
}

/// The cells without their padding.
pub(crate) fn unpadded<T: Real>(cells: &JointLayout, joint: &[T]) -> Vec<T> {
    let n = cells.sizes[cells.last()];
    let rows = joint.chunks_exact(cells.stride);
    rows.flat_map(|row| &row[..n]).copied().collect()
}

/// Sums over all marginals but the pair `edge`, in its order.
pub(crate) fn pair_sums<T: Real>(cells: &JointLayout, edge: (usize, usize), joint: &[T]) -> Vec<T> {
    let (a, b) = ordered(edge);
    let (n, stride) = (cells.sizes[cells.last()], cells.stride);
    let mut sums = vec![T::zero(); cells.sizes[a] * cells.sizes[b]];
    let rows = joint.chunks_exact(stride);
    match b == cells.last() {
        true => {
            for (i, row) in row_coordinates(cells, a).zip(rows) {
                let to = &mut sums[i * n..][..n];
                to.iter_mut().zip(row).for_each(|(s, v)| *s += *v);
            }
        }
        false => {
            for ((i, j), row) in row_coordinates(cells, a)
                .zip(row_coordinates(cells, b))
                .zip(rows)
            {
                sums[i * cells.sizes[b] + j] += row[..n].iter().copied().sum();
            }
        }
    }
    match edge == (a, b) {
        true => sums,
        false => transposed(&sums, cells.sizes[b]),
    }
}

fn add_pair<T: Real>(cells: &JointLayout, (a, b): (usize, usize), cost: &[T], joint: &mut [T]) {
    let (n, stride) = (cells.sizes[cells.last()], cells.stride);
    let rows = joint.chunks_exact_mut(stride);
    match b == cells.last() {
        true => {
            for (i, row) in row_coordinates(cells, a).zip(rows) {
                let cost = &cost[i * n..][..n];
                row.iter_mut().zip(cost).for_each(|(v, c)| *v += *c);
            }
        }
        false => {
            for ((i, j), row) in row_coordinates(cells, a)
                .zip(row_coordinates(cells, b))
                .zip(rows)
            {
                let cost = cost[i * cells.sizes[b] + j];
                row[..n].iter_mut().for_each(|v| *v += cost);
            }
        }
    }
}

/// The point of marginal `m` in every row in turn, for any marginal but the last, along which rows run.
pub(crate) fn row_coordinates(
    cells: &JointLayout,
    m: usize,
) -> impl Iterator<Item = usize> + use<> {
    let repeats: usize = cells.sizes[m + 1..cells.last()].iter().product();
    let size = cells.sizes[m];
    let (mut coordinate, mut seen) = (0, 0);
    std::iter::repeat_with(move || {
        let current = coordinate;
        seen += 1;
        if seen == repeats {
            seen = 0;
            coordinate = if coordinate + 1 == size {
                0
            } else {
                coordinate + 1
            };
        }
        current
    })
}

/// One number for each row: the sums or products, as `with` says, of the numbers of all marginals but the last.
pub(crate) fn row_terms<T: Real>(
    cells: &JointLayout,
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

/// Scales rows and columns: `table_rj x_r y_j`.
pub(crate) fn scale_cells<T: Real>(table: &[T], (x, y): (&[T], &[T]), out: &mut [T]) {
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

/// The matrix of a pair with the points of the smaller marginal as rows.
fn oriented<T: Real>(sizes: &[usize], (a, b): (usize, usize), cost: Vec<T>) -> Vec<T> {
    match a < b {
        true => cost,
        false => transposed(&cost, sizes[b]),
    }
}

/// The transpose of a matrix with so many columns.
pub(crate) fn transposed<T: Real>(x: &[T], columns: usize) -> Vec<T> {
    let rows = x.len() / columns;
    let column = |j: usize| (0..rows).map(move |i| x[i * columns + j]);
    (0..columns).flat_map(column).collect()
}

/// Rows of one parallel piece of a matrix: 32768 cells, which take longer than a task switch.
pub(crate) fn piece_rows(stride: usize) -> usize {
    const CELLS: usize = 1 << 15;
    (CELLS / stride).max(1)
}
