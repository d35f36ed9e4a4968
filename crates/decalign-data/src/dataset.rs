//! Samples with named modalities, labels and splits.

use candle_core::{DType, Tensor};
use decalign_core::parallel;

use crate::array::Array;
use crate::features::Features;
use crate::split::Split;
use crate::{Error, Labels, Part, Result, Tokens};

/// A protocol by the name of the public release: the test part of the default split validates, too.
///
/// The best epoch is then chosen by the samples that results are reported on: figures come out
/// better than they are on new samples. For comparison with figures made so, nothing else.
pub const PAPER_COUNT: &str = "paper_count";

/// One modality of a data set.
#[derive(Clone, Debug)]
pub struct Modality {
    name: String,
    features: Features,
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
        let says = |message| Error::field("modality", &name, message);
        if n * steps * width == 0 {
            return Err(says(format!("shape {:?} holds nothing", features.shape())));
        }
        check_lengths(lengths.as_deref(), n, steps, says)?;
        let features = Features::Held(features.to_dtype(DType::F32)?.contiguous()?);
        Ok(Self {
            name,
            features,
            lengths,
        })
    }

    /// A modality of arrays (n, D) or (n, T, D), one after the other, which stay where they are
    /// until their numbers are asked for.
    pub(crate) fn stored(
        name: &str,
        blocks: Vec<Array>,
        lengths: Option<Vec<usize>>,
        origin: &str,
    ) -> Result<Self> {
        let says = |message| Error::field(origin, name, message);
        let features = Features::stored(blocks, says)?;
        let (n, steps, _) = features.dims();
        check_lengths(lengths.as_deref(), n, steps, says)?;
        Ok(Self {
            name: name.to_owned(),
            features,
            lengths,
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// (N, T, D) in f32. Where they lie in a file they are read now, and kept.
    pub fn features(&self) -> &Tensor {
        self.features.tensor()
    }

    /// Replaces the lengths by others that fit.
    pub(crate) fn set_lengths(&mut self, lengths: Vec<usize>) {
        debug_assert_eq!(lengths.len(), self.features.dims().0);
        self.lengths = Some(lengths);
    }

    /// The mean over the steps that exist of the samples `rows`, D numbers each; 0 for a sample
    /// without a step. Nothing else of a file is read.
    ///
    /// # Errors
    /// When a row is not there.
    pub fn mean_over_steps(&self, rows: &[usize]) -> Result<Vec<f64>> {
        let (n, steps, width) = self.features.dims();
        if let Some(row) = rows.iter().find(|row| **row >= n) {
            return Err(Error::field(
                "modality",
                &self.name,
                format!("sample {row} of {n}"),
            ));
        }
        let chunks: Vec<&[usize]> = rows.chunks(16).collect();
        let pooled = parallel::map(chunks.len(), rows.len() * steps * width, |i| {
            let mut means = vec![0.0; chunks[i].len() * width];
            for (row, mean) in chunks[i].iter().zip(means.chunks_exact_mut(width)) {
                let length = self.lengths.as_ref().map_or(steps, |lengths| lengths[*row]);
                let sample = self.features.sample(*row)?;
                for step in sample.chunks_exact(width).take(length) {
                    for (mean, v) in mean.iter_mut().zip(step) {
                        *mean += f64::from(*v);
                    }
                }
                mean.iter_mut().for_each(|v| *v /= length.max(1) as f64);
            }
            Ok(means)
        });
        pooled
            .into_iter()
            .collect::<Result<Vec<Vec<f64>>>>()
            .map(|p| p.concat())
    }

    /// What `f` makes of every piece of the features: a range of samples and their numbers. Several threads
    /// share the work, results are in order; pieces depend on the shape alone. Features that lie in a file are
    /// read where they lie, and not kept.
    ///
    /// # Errors
    /// When the features cannot be read.
    ///
    /// ```
    /// let digits = decalign_data::Dataset::mfeat()?;
    /// let counts = digits.modalities()[0].pieces(|samples, numbers| (samples.len(), numbers.len()))?;
    /// assert_eq!(counts.iter().map(|(samples, _)| samples).sum::<usize>(), 2000);
    /// # Ok::<(), decalign_data::Error>(())
    /// ```
    pub fn pieces<R: Send>(
        &self,
        f: impl Fn(std::ops::Range<usize>, &[f32]) -> R + Sync + Send,
    ) -> Result<Vec<R>> {
        self.features.pieces(f)
    }

    /// The features, wherever they are.
    pub(crate) fn source(&self) -> &Features {
        &self.features
    }

    /// How many steps of each sample exist; all T of them when `None`.
    pub fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// D, the number of features a step.
    pub fn width(&self) -> usize {
        self.features.dims().2
    }

    /// T, the number of steps.
    pub fn steps(&self) -> usize {
        self.features.dims().1
    }
}

fn check_lengths(
    lengths: Option<&[usize]>,
    n: usize,
    steps: usize,
    says: impl Fn(String) -> Error,
) -> Result<()> {
    let Some(lengths) = lengths else {
        return Ok(());
    };
    if lengths.len() != n {
        return Err(says(format!("{} lengths for {n} samples", lengths.len())));
    }
    match lengths.iter().position(|l| *l > steps) {
        Some(i) => Err(says(format!(
            "length {} of sample {i} is above the {steps} steps there are",
            lengths[i]
        ))),
        None => Ok(()),
    }
}

/// N samples: modalities, labels, splits, and what is known about each sample.
#[derive(Clone, Debug)]
pub struct Dataset {
    origin: String,
    samples: usize,
    modalities: Vec<Modality>,
    labels: Option<Labels>,
    splits: Vec<Split>,
    ids: Option<Vec<String>>,
    texts: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    tokens: Option<Tokens>,
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
        let n = first.features.dims().0;
        for (i, modality) in modalities.iter().enumerate() {
            let samples = modality.features.dims().0;
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
        Ok(Self::bare(origin, n, modalities))
    }

    /// Samples without features, which have texts.
    pub(crate) fn without_features(origin: &str, samples: usize) -> Self {
        Self::bare(origin.to_owned(), samples, Vec::new())
    }

    /// The same features, tokens and splits; nothing else that is known about samples.
    pub(crate) fn with_features_only(mut self) -> Self {
        (self.labels, self.ids, self.texts, self.groups) = (None, None, None, None);
        self
    }

    fn bare(origin: String, samples: usize, modalities: Vec<Modality>) -> Self {
        Self {
            origin,
            samples,
            modalities,
            labels: None,
            splits: Vec::new(),
            ids: None,
            texts: None,
            groups: None,
            tokens: None,
        }
    }

    /// The data set with another modality, or with another one in place of that of its name. A new text comes first.
    ///
    /// # Errors
    /// When the number of its samples is not N.
    pub fn with_modality(mut self, modality: Modality) -> Result<Self> {
        self.check_count(&modality.name, modality.features.dims().0)?;
        let mut own = self.modalities.iter_mut();
        match own.find(|own| own.name == modality.name) {
            Some(own) => *own = modality,
            None if modality.name.starts_with("text") => self.modalities.insert(0, modality),
            None => self.modalities.push(modality),
        }
        Ok(self)
    }

    /// The data set with its token rows (N, 3, T) as a modality of their name, in place of one of
    /// features: what a text encoder inside the model takes.
    ///
    /// # Errors
    /// When the data has no tokens.
    pub fn with_token_modality(self) -> Result<Self> {
        let Some(tokens) = self.tokens.clone() else {
            return Err(self.error("tokens", "the data has none"));
        };
        let modality =
            Modality::stored(tokens.name(), tokens.blocks().to_vec(), None, &self.origin)?;
        self.with_modality(modality)
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

    /// The data set with the group of each sample, such as the video it is cut from: what must not be
    /// divided between training and test.
    ///
    /// # Errors
    /// When their number is not N.
    pub fn with_groups(mut self, groups: Vec<String>) -> Result<Self> {
        self.check_count("groups", groups.len())?;
        self.groups = Some(groups);
        Ok(self)
    }

    /// The data set with text as tokens: integer arrays (n, 3, T), one after the other.
    pub(crate) fn with_tokens(self, name: &str, blocks: Vec<Array>) -> Result<Self> {
        let tokens = Tokens::new(name, blocks, &self.origin)?;
        self.with_tokens_ready(tokens)
    }

    pub(crate) fn with_tokens_ready(mut self, tokens: Tokens) -> Result<Self> {
        let name = tokens.name();
        self.check_count(&format!("tokens.{name}"), tokens.samples())?;
        if let Some(there) = &self.tokens {
            let message = format!("tokens of {} are there too, one is the most", there.name());
            return Err(self.error(&format!("tokens.{name}"), message));
        }
        self.tokens = Some(tokens);
        Ok(self)
    }

    /// The data set with the lengths of a modality replaced.
    ///
    /// # Errors
    /// When the modality is not there, or the lengths do not fit it.
    pub fn with_lengths(mut self, modality: &str, lengths: Option<Vec<usize>>) -> Result<Self> {
        let origin = self.origin.clone();
        let Some(found) = self.modalities.iter_mut().find(|m| m.name == modality) else {
            return Err(self.error(modality, "no such modality"));
        };
        let (n, steps, _) = found.features.dims();
        let says = |message| Error::field(&origin, format!("lengths.{modality}"), message);
        check_lengths(lengths.as_deref(), n, steps, says)?;
        found.lengths = lengths;
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
        self.samples
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

    pub(crate) fn modalities_mut(&mut self) -> &mut [Modality] {
        &mut self.modalities
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

    /// The group of each sample, where the file has them.
    pub fn groups(&self) -> Option<&[String]> {
        self.groups.as_deref()
    }

    /// Text as tokens, where the file has them.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
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
    /// only one there is. [`PAPER_COUNT`] is the default split with the test part in place of the
    /// validation part.
    ///
    /// # Errors
    /// When the split is not there or the part is empty.
    pub fn part(&self, split: Option<&str>, part: Part) -> Result<Vec<usize>> {
        let (split, part) = match (split, self.is_paper_count(split)) {
            (_, true) if part == Part::Valid => (self.find_split(None)?, Part::Test),
            (_, true) => (self.find_split(None)?, part),
            (split, false) => (self.find_split(split)?, part),
        };
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
        let name = (!self.is_paper_count(Some(name))).then_some(name);
        self.find_split(name).map(|_| ())
    }

    /// The same data set with one split only, which becomes the default one.
    ///
    /// # Errors
    /// When the split is not there; the message lists those that are.
    pub fn with_only_split(mut self, name: &str) -> Result<Self> {
        let parts = self.find_split(Some(name))?.parts.clone();
        let field = "split".to_owned();
        self.splits = vec![Split { field, parts }];
        Ok(self)
    }

    /// Whether a name means the protocol, not a split of the data that is called so.
    fn is_paper_count(&self, name: Option<&str>) -> bool {
        let field = format!("split_{PAPER_COUNT}");
        name == Some(PAPER_COUNT) && self.splits.iter().all(|split| split.field != field)
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

    /// The same data set with the features of some modalities replaced: `f` gives none for those
    /// that stay.
    pub(crate) fn map_features(
        &self,
        f: impl Fn(&Modality) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let mut mapped = self.clone();
        for modality in &mut mapped.modalities {
            if let Some(features) = f(modality)? {
                modality.features = Features::Held(features);
            }
        }
        Ok(mapped)
    }
}
