//! Matrix products on slices.

// The product itself is a call into a library that takes raw pointers.
#![allow(unsafe_code)]

use crate::{Real, parallel, profile};

/// A matrix inside a slice: `element(i, j) = data[i * row_stride + j * column_stride]`.
///
/// Rows may overlap (a row stride below the number of columns), which makes the windows of a
/// convolution a matrix without copying them.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// A matrix whose rows lie one after the other.
    ///
    /// # Panics
    /// When `data` is shorter than `rows * columns`.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// When `data` ends before the last row does.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        let needed = if rows == 0 || columns == 0 {
            0
        } else {
            (rows - 1) * row_stride + columns
        };
        assert!(
            data.len() >= needed,
            "a {rows}x{columns} matrix with row stride {row_stride} needs {needed} elements, got {}",
            data.len()
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transpose, without copying.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn skip_rows(self, rows: usize) -> Self {
        let rows = rows.min(self.rows);
        let start = (rows * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[start..],
            rows: self.rows - rows,
            ..self
        }
    }

    fn take_rows(self, rows: usize) -> Self {
        Self {
            rows: rows.min(self.rows),
            ..self
        }
    }
}

/// What becomes of the destination of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `C = A B`
    Write,
    /// `C = C + A B`
    Add,
}

/// Rows of the product computed by one thread: the library packs `b` for each such piece.
const ROWS: usize = 192;

/// `C = A B` or `C = C + A B`, where the rows of `C` start `stride` elements apart in `c`.
///
/// Large products are cut into blocks of rows, whatever the number of threads, so the result does
/// not depend on it.
///
/// # Panics
/// When the inner sizes of `a` and `b` differ or `c` is too short.
pub fn matmul<T: Real>(c: &mut [T], stride: usize, a: Matrix<T>, b: Matrix<T>, store: Store) {
    assert_eq!(a.columns, b.rows, "inner sizes of a matrix product differ");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        stride >= n && c.len() >= (m - 1) * stride + n,
        "product does not fit"
    );
    let flops = 2 * m * n * k;
    profile::count(flops);
    parallel::for_each_chunk(
        &mut c[..(m - 1) * stride + n],
        ROWS * stride,
        flops / 4,
        |i, c| {
            block(c, stride, a.skip_rows(i * ROWS).take_rows(ROWS), b, store);
        },
    );
}

/// Multiplications below which calling the library costs more than the product.
const TINY: usize = 512;

/// One block of rows, on the caller's thread.
fn block<T: Real>(c: &mut [T], stride: usize, a: Matrix<T>, b: Matrix<T>, store: Store) {
    if a.rows * a.columns * b.columns > TINY {
        return library(c, stride, a, b, store);
    }
    for (i, row) in c.chunks_mut(stride).take(a.rows).enumerate() {
        if store == Store::Write {
            row[..b.columns].fill(T::zero());
        }
        for l in 0..a.columns {
            let x = a.data[i * a.row_stride + l * a.column_stride];
            for (j, y) in row[..b.columns].iter_mut().enumerate() {
                *y += x * b.data[l * b.row_stride + j * b.column_stride];
            }
        }
    }
}

fn library<T: Real>(c: &mut [T], stride: usize, a: Matrix<T>, b: Matrix<T>, store: Store) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    // SAFETY: the views were checked when built (`strided`, `skip_rows` and `take_rows` keep every
    // index inside the slice; a transpose swaps sizes with strides), `matmul` checked that `c` holds
    // m rows of n at `stride`, `c` is borrowed exclusively, and `T` is f32 or f64, which the callee
    // supports.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
