//! Samples with named modalities, labels and splits.

use candle_core::{DType, Tensor};

use crate::split::Split;
use crate::{Error, Labels, Part, Result};

/// One modality of a data set.
#[derive(Clone, Debug)]
pub struct Modality {
    name: String,
    features: Tensor,
    lengths: Option<Vec<usize>>,
}

impl Modality {
    /// A modality of the given name.
    ///
    /// # Shapes
    /// `features` (N, D), one step a sample, or (N, T, D), of any floating type; they are kept as
    /// f32. `lengths`: how many of the T steps exist, N numbers from 0 (the sample lacks this
    /// modality) to T.
    ///
    /// # Errors
    /// When a shape or type is another, or a length is above T.
    pub fn new(
        name: impl Into<String>,
        features: &Tensor,
        lengths: Option<Vec<usize>>,
    ) -> Result<Self> {
        let name = name.into();
        if !features.dtype().is_float() {
            let message = format!("expected floating numbers, got {:?}", features.dtype());
            return Err(Error::field("modality", name, message));
        }
        let features = match features.rank() {
            2 => features.unsqueeze(1)?,
            3 => features.clone(),
            _ => {
                let message = format!(
                    "expected shape (N, D) or (N, T, D), got {:?}",
                    features.shape()
                );
                return Err(Error::field("modality", name, message));
            }
        };
        let (n, steps, width) = features.dims3()?;
        if n * steps * width == 0 {
            return Err(Error::field(
                "modality",
                name,
                format!("shape {:?} holds nothing", features.shape()),
            ));
        }
        if let Some(lengths) = &lengths {
            if lengths.len() != n {
                let message = format!("{} lengths for {n} samples", lengths.len());
                return Err(Error::field("modality", name, message));
            }
            if let Some(i) = lengths.iter().position(|l| *l > steps) {
                let message = format!(
                    "length {} of sample {i} is above the {steps} steps there are",
                    lengths[i]
                );
                return Err(Error::field("modality", name, message));
            }
        }
        let features = features.to_dtype(DType::F32)?.contiguous()?;
        Ok(Self {
            name,
            features,
            lengths,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// (N, T, D) in f32.
    pub fn features(&self) -> &Tensor {
        &self.features
    }

    /// How many steps of each sample exist; all T of them when `None`.
    pub fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// D, the number of features a step.
    pub fn width(&self) -> usize {
        self.features.dims()[2]
    }

    /// T, the number of steps.
    pub fn steps(&self) -> usize {
        self.features.dims()[1]
    }
}

/// N samples: modalities, labels, splits, and what is known about each sample.
#[derive(Clone, Debug)]
pub struct Dataset {
    origin: String,
    modalities: Vec<Modality>,
    labels: Option<Labels>,
    splits: Vec<Split>,
    ids: Option<Vec<String>>,
    texts: Option<Vec<String>>,
}

impl Dataset {
    /// A data set of the given modalities; `origin` (a file or a name) stands in its errors.
    ///
    /// # Errors
    /// When there is no modality, two have one name, or they differ in the number of samples.
    pub fn new(origin: impl Into<String>, modalities: Vec<Modality>) -> Result<Self> {
        let origin = origin.into();
        let Some(first) = modalities.first() else {
            let message =
                "none found: expected floating tensors (N, D) or (N, T, D), one a modality";
            return Err(Error::field(&origin, "modalities", message));
        };
        let n = first.features.dims()[0];
        for (i, modality) in modalities.iter().enumerate() {
            let samples = modality.features.dims()[0];
            if samples != n {
                let message = format!("{samples} samples, but {} has {n}", first.name);
                return Err(Error::field(&origin, &modality.name, message));
            }
            if modalities[..i]
                .iter()
                .any(|other| other.name == modality.name)
            {
                return Err(Error::field(
                    &origin,
                    &modality.name,
                    "two modalities of this name",
                ));
            }
        }
        Ok(Self {
            origin,
            modalities,
            labels: None,
            splits: Vec::new(),
            ids: None,
            texts: None,
        })
    }

    /// The data set with another modality, or with another one in place of that of its name. A new text comes first.
    ///
    /// # Errors
    /// When the number of its samples is not N.
    pub fn with_modality(mut self, modality: Modality) -> Result<Self> {
        self.check_count(&modality.name, modality.features().dims()[0])?;
        let mut own = self.modalities.iter_mut();
        match own.find(|own| own.name == modality.name) {
            Some(own) => *own = modality,
            None if modality.name.starts_with("text") => self.modalities.insert(0, modality),
            None => self.modalities.push(modality),
        }
        Ok(self)
    }

    /// The data set with labels.
    ///
    /// # Errors
    /// When their number is not N, a score is not finite, or a class has no name.
    pub fn with_labels(mut self, labels: Labels) -> Result<Self> {
        self.check_count("labels", labels.len())?;
        match &labels {
            Labels::Scores(values) => {
                if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                    return Err(self.error(
                        "labels",
                        format!("{} at sample {i} is not a number", values[i]),
                    ));
                }
            }
            Labels::Classes { values, names } => {
                if let Some(i) = (0..names.len()).find(|i| names[..*i].contains(&names[*i])) {
                    return Err(self.error("classes", format!("\"{}\" is there twice", names[i])));
                }
                if names.iter().any(String::is_empty) {
                    return Err(self.error("classes", "a class has no name"));
                }
                if let Some(i) = values.iter().position(|v| *v as usize >= names.len()) {
                    let message = format!(
                        "class {} at sample {i}, but there are {} classes, counted from 0",
                        values[i],
                        names.len()
                    );
                    return Err(self.error("labels", message));
                }
            }
        }
        self.labels = Some(labels);
        Ok(self)
    }

    /// The data set with a split of the given name, in addition to those it has; the empty name
    /// is the default split.
    ///
    /// # Errors
    /// When the number of parts is not N or there is a split of this name.
    pub fn with_split(mut self, name: &str, parts: Vec<Option<Part>>) -> Result<Self> {
        let field = if name.is_empty() {
            "split".to_owned()
        } else {
            format!("split_{name}")
        };
        self.check_count(&field, parts.len())?;
        if self.splits.iter().any(|split| split.field == field) {
            return Err(self.error(&field, "two splits of this name"));
        }
        self.splits.push(Split { field, parts });
        Ok(self)
    }

    /// The data set with one identifier a sample.
    ///
    /// # Errors
    /// When their number is not N.
    pub fn with_ids(mut self, ids: Vec<String>) -> Result<Self> {
        self.check_count("ids", ids.len())?;
        self.ids = Some(ids);
        Ok(self)
    }

    /// The data set with one text a sample.
    ///
    /// # Errors
    /// When their number is not N.
    pub fn with_texts(mut self, texts: Vec<String>) -> Result<Self> {
        self.check_count("texts", texts.len())?;
        self.texts = Some(texts);
        Ok(self)
    }

    fn check_count(&self, field: &str, count: usize) -> Result<()> {
        match count == self.len() {
            true => Ok(()),
            false => Err(self.error(field, format!("{count} entries for {} samples", self.len()))),
        }
    }

    pub(crate) fn error(&self, field: &str, message: impl Into<String>) -> Error {
        Error::field(&self.origin, field, message)
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.modalities.first().map_or(0, |m| m.features.dims()[0])
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file or name the data came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The modalities.
    pub fn modalities(&self) -> &[Modality] {
        &self.modalities
    }

    /// The labels, where there are any.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// One identifier a sample, where the file has them.
    pub fn ids(&self) -> Option<&[String]> {
        self.ids.as_deref()
    }

    /// One text a sample, where the file has them.
    pub fn texts(&self) -> Option<&[String]> {
        self.texts.as_deref()
    }

    pub(crate) fn splits(&self) -> &[Split] {
        &self.splits
    }

    /// The names of the splits; the default one is `split`, any other `split_` and a name.
    pub fn split_names(&self) -> impl Iterator<Item = &str> {
        self.splits.iter().map(|split| split.field.as_str())
    }

    /// The modalities of the given names only, in the given order.
    ///
    /// # Errors
    /// When a name is not there; the message lists those that are.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        let mut modalities = Vec::with_capacity(names.len());
        for name in names.iter().map(AsRef::as_ref) {
            let found = self
                .modalities
                .iter()
                .find(|m| m.name == name)
                .ok_or_else(|| {
                    let there: Vec<&str> = self.modalities.iter().map(Modality::name).collect();
                    self.error(
                        name,
                        format!("no such modality; there are {}", there.join(", ")),
                    )
                })?;
            if modalities.iter().any(|m: &Modality| m.name == name) {
                return Err(self.error(name, "asked for twice"));
            }
            modalities.push(found.clone());
        }
        Ok(Self {
            modalities,
            ..self.clone()
        })
    }

    /// The samples of a part of a split, in order.
    ///
    /// `split` is a split's name with or without `split_`; `None` takes the default one, or the
    /// only one there is.
    ///
    /// # Errors
    /// When the split is not there or the part is empty.
    pub fn part(&self, split: Option<&str>, part: Part) -> Result<Vec<usize>> {
        let split = self.find_split(split)?;
        let rows: Vec<usize> = (0..self.len())
            .filter(|i| split.parts[*i] == Some(part))
            .collect();
        match rows.is_empty() {
            true => Err(self.error(
                &split.field,
                format!("no sample is in part {part} ({})", part.code()),
            )),
            false => Ok(rows),
        }
    }

    /// Fails when there is no split of this name, given with or without `split_`.
    ///
    /// # Errors
    /// When it is not there; the message lists those that are.
    pub fn check_split(&self, name: &str) -> Result<()> {
        self.find_split(Some(name)).map(|_| ())
    }

    fn find_split(&self, name: Option<&str>) -> Result<&Split> {
        let there = || self.split_names().collect::<Vec<_>>().join(", ");
        let Some(first) = self.splits.first() else {
            let message =
                "the data has none; expected integers 0 (train), 1 (valid), 2 (test), -1 (none)";
            return Err(self.error("split", message));
        };
        let field = match name {
            None if self.splits.len() == 1 => return Ok(first),
            None | Some("" | "split") => "split".to_owned(),
            Some(name) => format!("split_{}", name.strip_prefix("split_").unwrap_or(name)),
        };
        self.splits
            .iter()
            .find(|split| split.field == field)
            .ok_or_else(|| match name {
                None => self.error("split", format!("which one? There are {}", there())),
                Some(_) => self.error(&field, format!("no such split; there are {}", there())),
            })
    }

    /// The same data set with the features of every modality replaced.
    pub(crate) fn map_features(&self, f: impl Fn(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut mapped = self.clone();
        for modality in &mut mapped.modalities {
            modality.features = f(&modality.name, &modality.features)?;
        }
        Ok(mapped)
    }
}
