//! Costs that are functions of two points: one file a metric.
//!
//! A new metric is a file here, with its [`PointMetric`] and its constructor of [`Geometry`](super::Geometry), and a line in the
//! list at the end. Metrics that are squared Euclidean distances of transformed points (`cosine.rs`, `diagonal_gaussians.rs`) are
//! a constructor alone.

mod city_block;
mod cosine;
mod diagonal_gaussians;
mod euclidean;
mod minkowski;
mod points;
mod squared_euclidean;

use candle_core::Tensor;
use decalign_core::simd::Isa;
use decalign_core::{Real, Result};

use super::cells::{Cells, Sink};

pub(crate) use points::Points;

/// A cost of two points, forward and backward, as tiles and as plain tensor operations.
pub(crate) trait PointMetric: Copy {
    /// The largest cost of points whose `width` coordinates differ by at most `side`.
    fn extent(self, side: f64, width: f64) -> f64;

    /// The largest cost of points at this Euclidean distance.
    fn bound(self, distance: f64, width: f64) -> f64;

    /// The costs of differences along the last dimension, in plain tensor operations, with gradient 0 where a difference is 0.
    fn costs(self, difference: &Tensor) -> Result<Tensor>;

    /// Turns `f_r + g_j - inverse C[first + r, j]` of every row of `f` into cells, see [`super::costs::Costs::fill`].
    fn fill<I: Isa, T: Real, S: Sink<T>>(
        self,
        isa: I,
        points: &Points<T>,
        rows: (usize, &[T]),
        columns: (&[T], T),
        cells: &mut Cells<T>,
    );

    /// Whether [`PointMetric::backward`] reads the costs.
    fn needs_costs(self) -> bool {
        true
    }

    /// `sum_j w_rj dC_rj / dx_r` of the rows from `first` that `out` holds, given their weights, which may be overwritten, and costs.
    fn backward<T: Real>(
        self,
        points: &Points<T>,
        first: usize,
        weights_and_costs: (&mut [T], &[T]),
        out: &mut [T],
    );
}

/// Lists the metrics: an enum of them whose methods are those of [`PointMetric`].
macro_rules! metrics {
    ($($file:ident::$name:ident),+ $(,)?) => {
        /// How the cost of two points is measured.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Metric {
            $($name($file::$name)),+
        }

        impl Metric {
            pub(crate) fn extent(self, side: f64, width: usize) -> f64 {
                match self {
                    $(Self::$name(metric) => metric.extent(side, width as f64)),+
                }
            }

            pub(crate) fn bound(self, distance: f64, width: usize) -> f64 {
                match self {
                    $(Self::$name(metric) => metric.bound(distance, width as f64)),+
                }
            }

            pub(crate) fn costs(self, difference: &Tensor) -> Result<Tensor> {
                match self {
                    $(Self::$name(metric) => metric.costs(difference)),+
                }
            }

            #[inline(always)]
            pub(crate) fn fill<I: Isa, T: Real, S: Sink<T>>(
                self,
                isa: I,
                points: &Points<T>,
                rows: (usize, &[T]),
                columns: (&[T], T),
                cells: &mut Cells<T>,
            ) {
                match self {
                    $(Self::$name(metric) => {
                        metric.fill::<I, T, S>(isa, points, rows, columns, cells)
                    }),+
                }
            }

            pub(crate) fn needs_costs(self) -> bool {
                match self {
                    $(Self::$name(metric) => metric.needs_costs()),+
                }
            }

            pub(crate) fn backward<T: Real>(
                self,
                points: &Points<T>,
                first: usize,
                weights_and_costs: (&mut [T], &[T]),
                out: &mut [T],
            ) {
                match self {
                    $(Self::$name(metric) => {
                        metric.backward(points, first, weights_and_costs, out)
                    }),+
                }
            }
        }
    };
}

metrics![
    squared_euclidean::SquaredEuclidean,
    euclidean::Euclidean,
    city_block::CityBlock,
    minkowski::Minkowski,
];
