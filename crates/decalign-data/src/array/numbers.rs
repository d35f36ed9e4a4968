//! Elements of any kind as numbers of one.

use half::{bf16, f16};

use super::element::{Element, Kind};

/// Numbers that elements are turned into.
pub(crate) trait Number: Copy + Default + Send {
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
}

impl Number for f32 {
    fn from_f32(value: f32) -> Self {
        value
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

impl Number for f64 {
    fn from_f32(value: f32) -> Self {
        value.into()
    }
    fn from_f64(value: f64) -> Self {
        value
    }
    fn from_i64(value: i64) -> Self {
        value as Self
    }
    fn from_u64(value: u64) -> Self {
        value as Self
    }
}

/// Every number an element may be, none lost.
impl Number for i128 {
    fn from_f32(value: f32) -> Self {
        Self::from_f64(value.into())
    }
    fn from_f64(value: f64) -> Self {
        // What is no whole number becomes one that no caller accepts.
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

/// Where the elements lie that are read.
pub(crate) enum Places<'a> {
    /// One after the other.
    Dense,
    /// Sample `i`, place `j` is element `i * stride + offsets[j]`.
    Strided {
        first: usize,
        samples: usize,
        stride: usize,
        offsets: &'a [usize],
    },
}

/// Reads elements of `raw` into `out`; `false` when they are no numbers.
pub(crate) fn read<T: Number>(
    element: Element,
    raw: &[u8],
    places: &Places<'_>,
    out: &mut [T],
) -> bool {
    macro_rules! each {
        ($n:literal, $b:ident => $value:expr) => {
            fill::<$n, T>(raw, places, out, |$b| $value)
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
        (Kind::Bool, 1) => each!(1, b => T::from_u64(u64::from(b[0] != 0))),
        (Kind::Signed, 1) => each!(1, b => T::from_i64(i8::from_le_bytes(b).into())),
        (Kind::Unsigned, 1) => each!(1, b => T::from_u64(b[0].into())),
        (Kind::Signed, 2) => ordered!(2, i16, x => T::from_i64(x.into())),
        (Kind::Signed, 4) => ordered!(4, i32, x => T::from_i64(x.into())),
        (Kind::Signed, 8) => ordered!(8, i64, x => T::from_i64(x)),
        (Kind::Unsigned, 2) => ordered!(2, u16, x => T::from_u64(x.into())),
        (Kind::Unsigned, 4) => ordered!(4, u32, x => T::from_u64(x.into())),
        (Kind::Unsigned, 8) => ordered!(8, u64, x => T::from_u64(x)),
        (Kind::Float, 2) => ordered!(2, f16, x => T::from_f32(x.to_f32())),
        (Kind::Float, 4) => ordered!(4, f32, x => T::from_f32(x)),
        (Kind::Float, 8) => ordered!(8, f64, x => T::from_f64(x)),
        (Kind::Brain, 2) => ordered!(2, bf16, x => T::from_f32(x.to_f32())),
        _ => return false,
    }
    true
}

fn fill<const N: usize, T: Number>(
    raw: &[u8],
    places: &Places<'_>,
    out: &mut [T],
    number: impl Fn([u8; N]) -> T,
) {
    let (elements, _) = raw.as_chunks::<N>();
    match *places {
        Places::Dense => {
            for (to, from) in out.iter_mut().zip(elements) {
                *to = number(*from);
            }
        }
        Places::Strided {
            first,
            samples,
            stride,
            offsets,
        } => {
            // In Fortran order neighbouring samples are neighbours in memory: a few at once share cache lines.
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
