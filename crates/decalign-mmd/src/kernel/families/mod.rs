//! The families of kernels, a file each.
//!
//! A file holds the constructors of [`Kernel`](crate::Kernel), the family ([`Family`](super::family::Family): feature,
//! kernel matrix in tensor operations, spectrum) and its profiles ([`ProfileFunction`]: value and slope in loops and as
//! text for devices). To add a family, write its file, and list the module and its profiles here. The list and the files
//! refer to one another: the loops are compiled for every profile of the list, and families make profiles.

mod dot;
mod energy;
mod gaussian;
mod laplace;
mod matern;
mod rational_quadratic;

use std::marker::PhantomData;
use std::sync::LazyLock;

use decalign_core::Real;
use decalign_core::simd::LANES;

use super::profile::{
    Buffer, Function, Map, Parameters, ProfileFunction, Total, Visit, device_text,
};

pub use matern::Smoothness;

/// Declares [`ProfileKind`] and what depends on the kind.
macro_rules! profiles {
    ($($name:ident = $function:path),+ $(,)?) => {
        /// The profiles; their order numbers the device functions.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum ProfileKind {
            $($name),+
        }

        impl Profile {
            fn visit<T: Real, V: Visit<T>>(self, visit: V) -> V::Output {
                let parameters = self.parameters.round();
                match self.kind {
                    $(ProfileKind::$name => {
                        visit.with(Function::<$function, T>(parameters, PhantomData))
                    })+
                }
            }

            /// The largest `|dk/du|`; `None` where it has no bound.
            pub(crate) fn max_slope(self) -> Option<f64> {
                match self.kind {
                    $(ProfileKind::$name => <$function>::max_slope(self.parameters)),+
                }
            }
        }

        static DEVICE_TEXT: LazyLock<String> = LazyLock::new(|| {
            device_text(&[$((<$function>::VALUE, <$function>::SLOPE)),+])
        });
    };
}

profiles! {
    Exponential = gaussian::Exponential,
    NormalExponential = gaussian::NormalExponential,
    Matern12 = matern::Half,
    Matern32 = matern::ThreeHalves,
    Matern52 = matern::FiveHalves,
    InverseRoot = rational_quadratic::InverseRoot,
    InversePower = rational_quadratic::InversePower,
    Distance = energy::Distance,
    Identity = dot::Identity,
    Power = dot::Power,
}

/// A kernel as a function of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Profile {
    pub(super) kind: ProfileKind,
    pub(super) parameters: Parameters,
}

impl Profile {
    /// `u`.
    pub(crate) const IDENTITY: Self = Self::new(ProfileKind::Identity, 0.0, 0.0);

    pub(super) const fn new(kind: ProfileKind, a: f64, b: f64) -> Self {
        Self::with_degree(kind, a, b, 0)
    }

    pub(super) const fn with_degree(kind: ProfileKind, a: f64, b: f64, degree: u32) -> Self {
        let parameters = Parameters { a, b, degree };
        Self { kind, parameters }
    }

    /// The number of its device function, and what that takes: a, b and the degree.
    pub(crate) fn device(self) -> (usize, [f64; 2], usize) {
        let Parameters { a, b, degree } = self.parameters;
        (self.kind as usize, [a, b], degree as usize)
    }

    /// The device functions `value_of` and `slope_of` of all profiles.
    pub(crate) fn device_text() -> &'static str {
        &DEVICE_TEXT
    }

    /// Computes values, and slopes if given room for them, of the first rows and columns of a buffer.
    pub(crate) fn map<T: Real>(
        self,
        u: &Buffer<T>,
        (rows, columns): (usize, usize),
        values: &mut Buffer<T>,
        slopes: Option<&mut Buffer<T>>,
    ) {
        let blocks = columns.div_ceil(LANES);
        self.visit(Map {
            u,
            rows,
            blocks,
            values,
            slopes,
        });
    }

    /// `sum_rj a_r b_j k(u_rj)`; `b` is 0 after the last column.
    pub(crate) fn total<T: Real>(self, u: &Buffer<T>, a: &[T], b: &[T]) -> f64 {
        self.visit(Total { u, a, b }).as_f64()
    }
}
