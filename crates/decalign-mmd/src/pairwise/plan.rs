//! The order in which a pass over all pairs evaluates kernels.

use crate::kernel::{Feature, Kernel, Profile};

/// Kernels, with the features and profiles that they share.
#[derive(Clone, Debug)]
pub(crate) struct KernelPlan {
    pub(crate) features: Vec<Feature>,
    pub(crate) leaves: Vec<Leaf>,
    /// The terms of every kernel.
    pub(crate) kernels: Vec<Vec<Term>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) profile: Profile,
    /// Its index in `features`.
    pub(crate) field: usize,
    /// Whether its bandwidth is learned.
    pub(crate) learned: bool,
}

/// `factor` times the product of some leaves.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) factor: f64,
    pub(crate) leaves: Vec<usize>,
}

impl KernelPlan {
    /// `differences`: the caller only takes differences of kernel sums, in which the origin of a linear
    /// kernel cancels.
    pub(crate) fn new(kernels: &[Kernel], differences: bool) -> Self {
        let mut plan = Self {
            features: Vec::new(),
            leaves: Vec::new(),
            kernels: Vec::new(),
        };
        for kernel in kernels {
            let mut terms = Vec::new();
            for term in &kernel.terms {
                let alone = differences && term.leaves.len() == 1;
                let first = plan.leaves.len();
                for leaf in &term.leaves {
                    let field = plan.field(leaf.family.feature(alone));
                    let learned = leaf.bandwidth.tensor();
                    plan.leaves.push(Leaf {
                        profile: leaf.family.profile(leaf.bandwidth.value()),
                        field,
                        learned: learned.is_some_and(candle_core::Tensor::track_op),
                    });
                }
                terms.push(Term {
                    factor: term.factor,
                    leaves: (first..plan.leaves.len()).collect(),
                });
            }
            plan.kernels.push(terms);
        }
        plan
    }

    fn field(&mut self, feature: Feature) -> usize {
        // Squared distances are computed once for all kernels, exactly if one kernel needs that.
        let squared = |f: Feature| matches!(f, Feature::Squared | Feature::SquaredExact);
        let same = |f: &Feature| *f == feature || (squared(*f) && squared(feature));
        match self.features.iter().position(same) {
            Some(at) => {
                if feature == Feature::SquaredExact {
                    self.features[at] = feature;
                }
                at
            }
            None => {
                self.features.push(feature);
                self.features.len() - 1
            }
        }
    }

    /// The largest slope of a kernel by a feature; `None` where one has no bound.
    pub(crate) fn max_slope(&self, field: usize) -> Option<f64> {
        let leaves = self.leaves.iter().filter(|l| l.field == field);
        leaves
            .map(|l| l.profile.max_slope())
            .try_fold(0.0, |a: f64, b| Some(a.max(b?)))
    }

    pub(crate) fn needs_directions(&self) -> bool {
        self.features.contains(&Feature::Cosine)
    }
}
