//! What a solve is asked for, checked by [`crate::Sinkhorn`].

use crate::schedule::{EpsilonSchedule, Stopping};

/// Settings of Sinkhorn's iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) schedule: EpsilonSchedule,
    pub(super) stopping: Stopping,
    pub(super) acceleration: Acceleration,
    pub(super) update: Update,
    pub(super) gradient: Gradient,
}

/// How steps are lengthened to converge in fewer sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Acceleration {
    /// Not at all.
    Plain,
    /// By a fixed factor between 0 and 2: successive overrelaxation.
    Momentum(f64),
    /// By a factor that follows from how fast errors fall.
    #[default]
    Adaptive,
    /// By Anderson's mixing of so many last iterates.
    Anderson(usize),
}

/// In which order the two sides are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// One after the other, each from the other's newest potential.
    #[default]
    Alternating,
    /// Both at once, half a step each: the potentials of a problem with symmetric costs and equal
    /// weights stay equal, and converge in a few sweeps.
    Symmetric,
}

/// What results carry gradients, and by which theorem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gradient {
    /// The value only, with potentials held fixed: exact at convergence. Potentials carry none, and an
    /// applied plan only with respect to what it is applied to.
    #[default]
    Envelope,
    /// Value, potentials and applied plans, by the implicit function theorem at the fixed point: a
    /// linear system a backward pass, solved by conjugate gradients; see
    /// [`crate::SinkhornSolution::gradient_solves`].
    Implicit,
    /// Value, potentials and applied plans, through every sweep: the gradient of what was computed,
    /// converged or not. Sweeps are not lengthened then unless by [`Acceleration::Momentum`]; memory is
    /// O((n + m) sweeps), time four passes over the costs a sweep.
    Unrolled,
}
