//! What is to be predicted.

/// One label a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Real numbers, for regression.
    Scores(Vec<f32>),
    /// Classes 0 to C - 1, for classification.
    Classes {
        /// The class of each sample.
        values: Vec<u32>,
        /// The name of each class; their number is C.
        names: Vec<String>,
    },
}

impl Labels {
    /// Classes named by their numbers, as many as the largest label asks for.
    pub fn classes(values: Vec<u32>) -> Self {
        let count = values.iter().max().map_or(0, |m| *m as usize + 1);
        Self::Classes {
            values,
            names: (0..count).map(|c| c.to_string()).collect(),
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Scores(values) => values.len(),
            Self::Classes { values, .. } => values.len(),
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the classes; none for scores.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Scores(_) => &[],
            Self::Classes { names, .. } => names,
        }
    }
}
