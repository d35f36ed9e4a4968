//! Costs between two sets of points, stored or computed as they are needed.

use candle_core::{DType, Tensor};
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Elements, Error, Real, Result, for_blocks};

/// The costs `C[i, j]` between n points and m points.
#[derive(Clone, Debug)]
pub struct Geometry {
    kind: Kind,
    size: (usize, usize),
}

#[derive(Clone, Debug)]
enum Kind {
    Dense(Tensor),
    Points(Tensor, Tensor),
}

impl Geometry {
    /// Costs as a matrix.
    ///
    /// # Shapes
    /// `cost` (n, m) in f32 or f64, finite; it may be negative.
    ///
    /// # Errors
    /// When the shape or dtype is another or an entry is NaN or infinite; the message has its
    /// place.
    pub fn dense(cost: &Tensor) -> Result<Self> {
        let size = check("cost", cost)?;
        Ok(Self {
            kind: Kind::Dense(cost.clone()),
            size,
        })
    }

    /// Squared Euclidean distances `|x_i - y_j|^2`, computed in tiles and never stored: memory is
    /// O((n + m) d).
    ///
    /// # Shapes
    /// `x` (n, d) and `y` (m, d), both f32 or both f64, finite.
    ///
    /// # Errors
    /// When a shape or dtype does not fit or an entry is NaN or infinite.
    pub fn squared_euclidean(x: &Tensor, y: &Tensor) -> Result<Self> {
        let ((n, d), (m, width)) = (check("x", x)?, check("y", y)?);
        if d != width || x.dtype() != y.dtype() {
            let expected = format!("shape (m, {d}) of {:?}", x.dtype());
            return Err(Error::tensor("y", expected, (y.shape(), y.dtype())));
        }
        Ok(Self {
            kind: Kind::Points(x.clone(), y.clone()),
            size: (n, m),
        })
    }

    /// n and m.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Rows and columns exchanged.
    pub(crate) fn transpose(&self) -> Result<Self> {
        let kind = match &self.kind {
            Kind::Dense(cost) => Kind::Dense(cost.detach().t()?.contiguous()?),
            Kind::Points(x, y) => Kind::Points(y.clone(), x.clone()),
        };
        Ok(Self {
            kind,
            size: (self.size.1, self.size.0),
        })
    }

    pub(crate) fn dtype(&self) -> DType {
        self.inputs()[0].dtype()
    }

    /// The tensors that costs are computed from.
    pub(crate) fn inputs(&self) -> Vec<&Tensor> {
        match &self.kind {
            Kind::Dense(cost) => vec![cost],
            Kind::Points(x, y) => vec![x, y],
        }
    }

    /// The numbers, in type `T` whatever the tensors hold, in rows of [`padded`] length.
    pub(crate) fn read<T: Real>(&self) -> Result<Costs<T>> {
        let m = self.size.1;
        Ok(match &self.kind {
            Kind::Dense(cost) => {
                let (cost, columns) = (read(cost)?, padded(m));
                let mut rows = vec![T::zero(); self.size.0 * columns];
                for (to, from) in rows.chunks_exact_mut(columns).zip(cost.chunks_exact(m)) {
                    to[..m].copy_from_slice(from);
                }
                Costs::Dense {
                    cost: rows,
                    columns,
                }
            }
            Kind::Points(x, y) => Costs::Points(Points::new(read(x)?, read(y)?, x.dims()[1])),
        })
    }

    /// A bound on `max C - min C`.
    pub(crate) fn range(&self) -> Result<f64> {
        Ok(match &self.kind {
            Kind::Dense(cost) => {
                let cost = read::<f64>(cost)?;
                let least = cost.iter().fold(f64::INFINITY, |a, v| a.min(*v));
                simd::max(&cost) - least
            }
            Kind::Points(x, y) => {
                let p = Points::new(read::<f64>(x)?, read::<f64>(y)?, x.dims()[1]);
                (simd::max(&p.x_norms).sqrt() + simd::max(&p.y_norms).sqrt()).powi(2)
            }
        })
    }
}

/// The length of rows of `m` costs: whole blocks, so that no loop has a rest. What is behind the end
/// costs 0 and has no mass.
pub(crate) fn padded(m: usize) -> usize {
    m.next_multiple_of(LANES)
}

fn check(name: &str, x: &Tensor) -> Result<(usize, usize)> {
    match x.dims() {
        [n, m] if n * m > 0 && matches!(x.dtype(), DType::F32 | DType::F64) => {
            let numbers = read::<f64>(x)?;
            match numbers.iter().position(|v| !v.is_finite()) {
                None => Ok((*n, *m)),
                Some(at) => {
                    let name = format!("{name} at ({}, {})", at / m, at % m);
                    Err(Error::value(name, numbers[at], "must be finite"))
                }
            }
        }
        _ => Err(Error::tensor(
            name,
            "two dimensions, not empty, f32 or f64",
            (x.shape(), x.dtype()),
        )),
    }
}

/// The numbers of a tensor of either type, on the CPU.
pub(crate) fn read<T: Real>(x: &Tensor) -> Result<Vec<T>> {
    let x = x.to_device(&candle_core::Device::Cpu)?;
    match x.dtype() {
        DType::F32 => Ok(Elements::<f32>::new(&x)?
            .iter()
            .map(|v| T::of(v.as_f64()))
            .collect()),
        _ => Ok(Elements::<f64>::new(&x)?
            .iter()
            .map(|v| T::of(*v))
            .collect()),
    }
}

/// Costs as numbers.
pub(crate) enum Costs<T> {
    Dense { cost: Vec<T>, columns: usize },
    Points(Points<T>),
}

/// Points about their common mean, and their squared norms: distances keep their digits.
pub(crate) struct Points<T> {
    pub(crate) x: Vec<T>,
    pub(crate) y: Vec<T>,
    pub(crate) width: usize,
    x_norms: Vec<T>,
    y_norms: Vec<T>,
}

impl<T: Real> Points<T> {
    fn new(mut x: Vec<T>, mut y: Vec<T>, width: usize) -> Self {
        let rows = ((x.len() + y.len()) / width) as f64;
        let mut mean = vec![0.0; width];
        for row in x.chunks_exact(width).chain(y.chunks_exact(width)) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, v)| *m += v.as_f64() / rows);
        }
        for row in x.chunks_exact_mut(width).chain(y.chunks_exact_mut(width)) {
            row.iter_mut()
                .zip(&mean)
                .for_each(|(v, m)| *v = T::of(v.as_f64() - m));
        }
        y.resize(padded(y.len() / width) * width, T::zero());
        let norms = |x: &[T]| x.chunks_exact(width).map(simd::sum_squares).collect();
        let (x_norms, y_norms) = (norms(&x), norms(&y));
        Self {
            x,
            y,
            width,
            x_norms,
            y_norms,
        }
    }
}

impl<T: Real> Costs<T> {
    /// The costs of `count` rows from `start`, one row after the other; `buffer` is used where they
    /// are not stored.
    #[inline(always)]
    pub(crate) fn rows<'a, I: Isa>(
        &'a self,
        isa: I,
        start: usize,
        count: usize,
        buffer: &'a mut Vec<T>,
    ) -> &'a [T] {
        match self {
            Self::Dense { cost, columns } => &cost[start * columns..][..count * columns],
            Self::Points(points) => {
                let (d, m) = (points.width, points.y_norms.len());
                buffer.resize(count * m, T::zero());
                let x = Matrix::new(&points.x[start * d..][..count * d], count, d);
                matmul(buffer, m, x, Matrix::new(&points.y, m, d).t(), Store::Write);
                for (row, norm) in buffer.chunks_exact_mut(m).zip(&points.x_norms[start..]) {
                    for_blocks!(at in m, {
                        let (mut c, y) = (at.load(row), at.load(&points.y_norms));
                        for i in 0..LANES {
                            let distance = isa.mul_add(T::of(-2.0), c[i], *norm + y[i]);
                            c[i] = if distance > T::zero() {
                                distance
                            } else {
                                T::zero()
                            };
                        }
                        at.store(c, row);
                    });
                }
                buffer
            }
        }
    }
}
