//! Arrays in files: any element type, either byte order, C or Fortran order, not copied.

mod element;
mod numbers;

use std::ops::Range;

use decalign_core::parallel;

use crate::bytes::Bytes;
use crate::error::Parsed;
use crate::{Error, Result};
pub use element::{Element, ElementKind};
use numbers::{Layout, Number, read};

/// An array whose elements stay in a file or buffer until they are read.
///
/// Clones share the elements.
#[derive(Clone, Debug)]
pub struct Array {
    bytes: Bytes,
    element: Element,
    shape: Vec<usize>,
    /// The distance in elements between neighbours of each dimension; `None` in C order.
    strides: Option<Vec<usize>>,
}

impl Array {
    /// An array of exactly these bytes; `strides` are those of a permutation of C order.
    pub(crate) fn new(
        bytes: Bytes,
        element: Element,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
    ) -> Parsed<Self> {
        let expected = size_of(&shape, element);
        if expected != Some(bytes.len()) {
            return Err(format!(
                "an array {shape:?} of {element} on {} bytes",
                bytes.len()
            ));
        }
        // The stride of a dimension of length 1 has no meaning: compare the others with C order.
        let same = |strides: &Vec<usize>| {
            let c = c_strides(&shape);
            let mut dims = shape.iter().zip(strides).zip(&c);
            shape.contains(&0) || dims.all(|((d, a), b)| *d == 1 || a == b)
        };
        let strides = strides.filter(|strides| !same(strides));
        Ok(Self {
            bytes,
            element,
            shape,
            strides,
        })
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of its elements.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The length of the first dimension; 1 for zero dimensions.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The number of elements in a row.
    pub(crate) fn row_size(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The array (T, D) or (D) as one sample (1, T, D).
    pub(crate) fn with_sample(&self) -> Option<Self> {
        let shape = match *self.shape {
            [t, d] => vec![1, t, d],
            [d] => vec![1, 1, d],
            _ => return None,
        };
        let strides = self.strides.as_ref().map(|strides| {
            let mut all = vec![0; shape.len() - strides.len()];
            all.extend(strides);
            all
        });
        Some(Self {
            shape,
            strides,
            ..self.clone()
        })
    }

    /// The bytes of some rows, where they are contiguous f32 in native byte order.
    pub(crate) fn plain_f32(&self, rows: Range<usize>) -> Option<&[u8]> {
        let little = !self.element.big_endian && cfg!(target_endian = "little");
        let plain = little && self.is_dense() && self.element.kind == ElementKind::Float;
        let row = 4 * self.row_size();
        (plain && self.element.size == 4).then(|| &self.bytes[rows.start * row..rows.end * row])
    }

    /// True in C order, where rows are contiguous.
    pub(crate) fn is_dense(&self) -> bool {
        self.strides.is_none()
    }

    /// Reads rows into `out`, in C order.
    pub(crate) fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> bool {
        self.read_into(rows, &self.offsets(), out)
    }

    fn read_into<T: Number>(&self, rows: Range<usize>, offsets: &[usize], out: &mut [T]) -> bool {
        if self.is_dense() {
            let row = self.row_size() * self.element.size;
            let raw = &self.bytes[rows.start * row..rows.end * row];
            return read(self.element, raw, &Layout::Dense, out);
        }
        let layout = Layout::Strided {
            first: rows.start,
            samples: rows.len(),
            stride: self.strides.as_ref().map_or(0, |strides| strides[0]),
            offsets,
        };
        read(self.element, &self.bytes, &layout, out)
    }

    /// The offsets of the elements of a row from its first, in C order; empty for dense arrays.
    fn offsets(&self) -> Vec<usize> {
        let Some(strides) = &self.strides else {
            return Vec::new();
        };
        let (dims, strides) = (&self.shape[1..], &strides[1..]);
        let mut index = vec![0usize; dims.len()];
        let mut offsets = Vec::with_capacity(self.row_size());
        for _ in 0..self.row_size() {
            offsets.push(
                index
                    .iter()
                    .zip(strides)
                    .map(|(i, stride)| i * stride)
                    .sum(),
            );
            for axis in (0..dims.len()).rev() {
                index[axis] += 1;
                if index[axis] < dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        offsets
    }

    /// All elements in C order; several threads share large arrays.
    fn numbers<T: Number>(&self) -> Option<Vec<T>> {
        let (n, row) = (self.count(), self.row_size());
        let mut out = vec![T::default(); n];
        if n == 0 {
            return Some(out);
        }
        let offsets = self.offsets();
        let chunk = (65_536 / row).clamp(1, self.rows()).next_multiple_of(16);
        let bad = std::sync::atomic::AtomicBool::new(false);
        parallel::for_each_chunk(&mut out, chunk * row, n, |i, out| {
            let start = i * chunk;
            if !self.read_into(start..start + out.len() / row, &offsets, out) {
                bad.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        (!bad.into_inner()).then_some(out)
    }

    /// All elements as f64, in C order.
    ///
    /// # Errors
    /// When they are not real numbers.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        self.numbers().ok_or_else(|| self.no_numbers())
    }

    /// All elements as f32, in C order, rounded where they are wider.
    ///
    /// # Errors
    /// When they are not real numbers.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.numbers().ok_or_else(|| self.no_numbers())
    }

    /// All elements as integers, in C order.
    ///
    /// # Errors
    /// When they are not numbers, or one is not an integer of 64 bits.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        let wide: Vec<i128> = self.numbers().ok_or_else(|| self.no_numbers())?;
        let narrow = |(i, v): (usize, &i128)| {
            i64::try_from(*v).map_err(|_| {
                Error::format(
                    "array",
                    format!("element {i} is no whole number of 64 bits"),
                )
            })
        };
        wide.iter().enumerate().map(narrow).collect()
    }

    /// All elements as strings, in C order, without zero padding.
    ///
    /// # Errors
    /// When they are not strings, or one is not valid Unicode.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        let Element {
            kind,
            size,
            big_endian,
        } = self.element;
        if !self.element.is_text() || !self.is_dense() || size == 0 {
            let message = format!(
                "expected a row of strings, got {:?} of {}",
                self.shape, self.element
            );
            return Err(Error::format("array", message));
        }
        let bad = |i: usize| Error::format("array", format!("string {i} is no valid Unicode"));
        let text = |(i, raw): (usize, &[u8])| match kind {
            ElementKind::Bytes => {
                let end = raw.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
                std::str::from_utf8(&raw[..end])
                    .map(str::to_owned)
                    .map_err(|_| bad(i))
            }
            _ => {
                let (units, _) = raw.as_chunks::<4>();
                let unit = |b: &[u8; 4]| match big_endian {
                    true => u32::from_be_bytes(*b),
                    false => u32::from_le_bytes(*b),
                };
                let end = units
                    .iter()
                    .rposition(|b| *b != [0; 4])
                    .map_or(0, |p| p + 1);
                let letters = units[..end].iter().map(|b| char::from_u32(unit(b)));
                letters.collect::<Option<String>>().ok_or_else(|| bad(i))
            }
        };
        self.bytes
            .chunks_exact(size)
            .enumerate()
            .map(text)
            .collect()
    }

    fn no_numbers(&self) -> Error {
        let message = format!("expected real numbers, got elements {}", self.element);
        Error::format("array", message)
    }
}

/// The strides of C order: the last dimension varies fastest.
pub(crate) fn c_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The strides of Fortran order: the first dimension varies fastest.
pub(crate) fn fortran_strides(shape: &[usize]) -> Vec<usize> {
    let mut next = 1;
    let stride = |d: &usize| {
        let stride = next;
        next *= d;
        stride
    };
    shape.iter().map(stride).collect()
}

/// The size of an array in bytes; `None` when it overflows.
pub(crate) fn size_of(shape: &[usize], element: Element) -> Option<usize> {
    // A dimension of 0 must not hide an overflow of the others.
    let positive = shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    positive.checked_mul(element.size.max(1))?;
    Some(shape.iter().product::<usize>() * element.size)
}
