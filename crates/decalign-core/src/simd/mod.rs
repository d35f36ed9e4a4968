//! Vector maths on slices: one source, compiled for each instruction set, chosen at run time.
//!
//! A loop is written once, as plain Rust, in a [`Kernel`]; [`dispatch`] runs the copy compiled for
//! the widest instruction set of this processor (AVX-512, AVX2 with FMA, NEON, or the target's
//! baseline). Reductions use a fixed number of lanes, so their results do not depend on the width
//! of the machine's vectors, only (in the last bit) on whether it has a fused multiply-add.
//!
//! | function | error bound (units in the last place) |
//! |---|---|
//! | [`exp`] | 2, subnormal results included |
//! | [`exp2_in_place`] | 4.5 in f32, 2 in f64, from the smallest normal number on |
//! | [`ln`] | 2, subnormal arguments included |
//! | [`sum`], [`dot`] | (n / 32 + 5) eps times the sum of magnitudes |

mod aligned;
mod isa;
mod lanes;
mod map;
mod power;
mod reduce;
mod rows;
pub(crate) mod wide;

pub use aligned::Aligned;
pub use isa::{Isa, Kernel, Level, dispatch, level};
pub use lanes::{LANES, Rest, Whole, total};
pub use map::{exp, exp_in_place, exp_normal_value, exp_value, ln, ln_value};
pub use power::{
    exp2_below_value, exp2_in_place, exp2_normal_value, exp2_number_value, exp2_value,
};
pub use reduce::{dot, max, sum, sum_squares};
pub use rows::{ROWS, row_dots, row_sums};
