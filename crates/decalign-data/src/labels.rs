//! Labels: the values to predict.

/// One label a sample.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
    /// Classes named by their numbers; the largest label gives their count.
    pub fn classes(values: Vec<u32>) -> Self {
        let count = values.iter().max().map_or(0, |m| *m as usize + 1);
        Self::Classes {
            values,
            names: (0..count).map(|c| c.to_string()).collect(),
        }
    }

    /// The field and the message of the first invalid label: a score that is not finite, a class without a name.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Scores(values) => match values.iter().position(|v| !v.is_finite()) {
                Some(i) => Err((
                    "labels",
                    format!("{} at sample {i} is not a number", values[i]),
                )),
                None => Ok(()),
            },
            Self::Classes { values, names } => {
                let count = names.len();
                if let Some(i) = (0..count).find(|i| names[..*i].contains(&names[*i])) {
                    return Err(("classes", format!("\"{}\" is there twice", names[i])));
                }
                if names.iter().any(String::is_empty) {
                    return Err(("classes", "a class has no name".to_owned()));
                }
                let Some(i) = values.iter().position(|v| *v as usize >= count) else {
                    return Ok(());
                };
                let class = values[i];
                let message = format!(
                    "class {class} at sample {i}, but there are {count} classes, counted from 0"
                );
                Err(("labels", message))
            }
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Scores(values) => values.len(),
            Self::Classes { values, .. } => values.len(),
        }
    }

    /// True when there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of the samples `rows` as numbers: scores, or the numbers of classes.
    pub fn numbers(&self, rows: &[usize]) -> Vec<f32> {
        match self {
            Self::Scores(values) => rows.iter().map(|row| values[*row]).collect(),
            Self::Classes { values, .. } => rows.iter().map(|row| values[*row] as f32).collect(),
        }
    }

    /// The names of the classes; none for scores.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Scores(_) => &[],
            Self::Classes { names, .. } => names,
        }
    }
}
