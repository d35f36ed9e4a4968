//! Kernels in the order in which a pass evaluates them.

use crate::kernel::{Feature, Kernel, Shape};

/// Some kernels, and what they are functions of.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) features: Vec<Feature>,
    pub(crate) leaves: Vec<Leaf>,
    /// Of every kernel its terms.
    pub(crate) kernels: Vec<Vec<Term>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) shape: Shape,
    /// Index among the features.
    pub(crate) field: usize,
    /// Whether its length is learned.
    pub(crate) learned: bool,
}

/// `factor` times the product of some leaves.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) factor: f64,
    pub(crate) leaves: Vec<usize>,
}

impl Program {
    /// `differences`: only differences of kernel sums are wanted in which the origin of a linear kernel
    /// cancels.
    pub(crate) fn new(kernels: &[Kernel], differences: bool) -> Self {
        let mut program = Self {
            features: Vec::new(),
            leaves: Vec::new(),
            kernels: Vec::new(),
        };
        for kernel in kernels {
            let mut terms = Vec::new();
            for term in &kernel.terms {
                let alone = differences && term.leaves.len() == 1;
                let first = program.leaves.len();
                for leaf in &term.leaves {
                    let field = program.field(leaf.feature(alone));
                    program.leaves.push(Leaf {
                        shape: leaf.shape(),
                        field,
                        learned: leaf
                            .length
                            .as_ref()
                            .is_some_and(|l| l.tensor().is_some_and(candle_core::Tensor::track_op)),
                    });
                }
                terms.push(Term {
                    factor: term.factor,
                    leaves: (first..program.leaves.len()).collect(),
                });
            }
            program.kernels.push(terms);
        }
        program
    }

    fn field(&mut self, feature: Feature) -> usize {
        // Distances are computed once, exactly where one kernel needs them so.
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
    pub(crate) fn steepness(&self, field: usize) -> Option<f64> {
        let leaves = self.leaves.iter().filter(|l| l.field == field);
        leaves
            .map(|l| l.shape.steepness())
            .try_fold(0.0, |a: f64, b| Some(a.max(b?)))
    }

    pub(crate) fn needs_directions(&self) -> bool {
        self.features.contains(&Feature::Cosine)
    }
}
