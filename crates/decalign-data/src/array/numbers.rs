//! Conversion of elements of any kind to one number type.

use half::{bf16, f16};

use super::element::{Element, ElementKind};

/// A number type that elements are converted to.
pub(crate) trait Number: Copy + Default + Send {
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
}

macro_rules! number {
    ($t:ty) => {
        impl Number for $t {
            fn from_f32(value: f32) -> Self {
                value as Self
            }
            fn from_f64(value: f64) -> Self {
                value as Self
            }
            fn from_i64(value: i64) -> Self {
                value as Self
            }
            fn from_u64(value: u64) -> Self {
                value as Self
            }
        }
    };
}

number!(f32);
number!(f64);

/// Holds every element exactly.
impl Number for i128 {
    fn from_f32(value: f32) -> Self {
        Self::from_f64(value.into())
    }
    fn from_f64(value: f64) -> Self {
        // A fraction becomes a number that no caller accepts.
        if value.fract() == 0.0 && value.abs() < 1e30 {
            value as Self
        } else {
            Self::MAX
        }
    }
    fn from_i64(value: i64) -> Self {
        value.into()
    }
    fn from_u64(value: u64) -> Self {
        value.into()
    }
}

/// The positions of the elements to read.
pub(crate) enum Layout<'a> {
    /// Consecutive elements.
    Dense,
    /// Element `j` of sample `i` is at `i * stride + offsets[j]`.
    Strided {
        first: usize,
        samples: usize,
        stride: usize,
        offsets: &'a [usize],
    },
}

/// Reads elements of `raw` into `out`; returns `false` when they are not numbers.
pub(crate) fn read<T: Number>(
    element: Element,
    raw: &[u8],
    layout: &Layout<'_>,
    out: &mut [T],
) -> bool {
    macro_rules! each {
        ($n:literal, $b:ident => $value:expr) => {
            fill::<$n, T>(raw, layout, out, |$b| $value)
        };
    }
    macro_rules! ordered {
        ($n:literal, $t:ty, $x:ident => $value:expr) => {
            match element.big_endian {
                false => each!($n, b => { let $x = <$t>::from_le_bytes(b); $value }),
                true => each!($n, b => { let $x = <$t>::from_be_bytes(b); $value }),
            }
        };
    }
    match (element.kind, element.size) {
        (ElementKind::Bool, 1) => each!(1, b => T::from_u64(u64::from(b[0] != 0))),
        (ElementKind::Signed, 1) => each!(1, b => T::from_i64(i8::from_le_bytes(b).into())),
        (ElementKind::Unsigned, 1) => each!(1, b => T::from_u64(b[0].into())),
        (ElementKind::Signed, 2) => ordered!(2, i16, x => T::from_i64(x.into())),
        (ElementKind::Signed, 4) => ordered!(4, i32, x => T::from_i64(x.into())),
        (ElementKind::Signed, 8) => ordered!(8, i64, x => T::from_i64(x)),
        (ElementKind::Unsigned, 2) => ordered!(2, u16, x => T::from_u64(x.into())),
        (ElementKind::Unsigned, 4) => ordered!(4, u32, x => T::from_u64(x.into())),
        (ElementKind::Unsigned, 8) => ordered!(8, u64, x => T::from_u64(x)),
        (ElementKind::Float, 2) => ordered!(2, f16, x => T::from_f32(x.to_f32())),
        (ElementKind::Float, 4) => ordered!(4, f32, x => T::from_f32(x)),
        (ElementKind::Float, 8) => ordered!(8, f64, x => T::from_f64(x)),
        (ElementKind::BFloat16, 2) => ordered!(2, bf16, x => T::from_f32(x.to_f32())),
        _ => return false,
    }
    true
}

fn fill<const N: usize, T: Number>(
    raw: &[u8],
    layout: &Layout<'_>,
    out: &mut [T],
    number: impl Fn([u8; N]) -> T,
) {
    let (elements, _) = raw.as_chunks::<N>();
    match *layout {
        Layout::Dense => {
            for (to, from) in out.iter_mut().zip(elements) {
                *to = number(*from);
            }
        }
        Layout::Strided {
            first,
            samples,
            stride,
            offsets,
        } => {
            // In Fortran order neighbouring samples are neighbours in memory: 16 at a time share cache lines.
            for start in (0..samples).step_by(16) {
                let end = (start + 16).min(samples);
                for (j, offset) in offsets.iter().enumerate() {
                    for i in start..end {
                        out[i * offsets.len() + j] =
                            number(elements[(first + i) * stride + offset]);
                    }
                }
            }
        }
    }
}
