//! Samples with named modalities, labels, splits and descriptions.

use candle_core::Tensor;

use crate::split::Split;
use crate::{Error, Labels, Modality, ModalityKind, Result, Tokens};

/// N samples: modalities, labels, splits, and identifiers, texts and groups where the file has them.
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
        let n = first.samples();
        for (i, modality) in modalities.iter().enumerate() {
            let (name, samples) = (modality.name(), modality.samples());
            if samples != n {
                let message = format!("{samples} samples, but {} has {n}", first.name());
                return Err(Error::field(&origin, name, message));
            }
            if modalities[..i].iter().any(|other| other.name() == name) {
                return Err(Error::field(&origin, name, "two modalities of this name"));
            }
        }
        Ok(Self::bare(origin, n, modalities))
    }

    /// A data set of samples that have texts and no features.
    pub(crate) fn without_features(origin: &str, samples: usize) -> Self {
        Self::bare(origin.to_owned(), samples, Vec::new())
    }

    /// The data set without labels, ids, texts and groups.
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

    /// The data set with a modality added, or replaced where one of its name exists. A new text modality comes first.
    ///
    /// # Errors
    /// When the number of its samples is not N.
    pub fn with_modality(mut self, modality: Modality) -> Result<Self> {
        self.check_count(modality.name(), modality.samples())?;
        let name = modality.name();
        match self.modalities.iter_mut().find(|m| m.name() == name) {
            Some(existing) => *existing = modality,
            None if ModalityKind::of(name) == ModalityKind::Text => {
                self.modalities.insert(0, modality)
            }
            None => self.modalities.push(modality),
        }
        Ok(self)
    }

    /// The data set with its token rows (N, 3, T) as the modality of their name, as the input of a text encoder inside
    /// the model. Replaces features of that name.
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
        let checked = labels.check();
        checked.map_err(|(field, message)| self.error(field, message))?;
        self.labels = Some(labels);
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

    /// The data set with the group of each sample, such as the video it is cut from. A group must not be divided
    /// between training and test.
    ///
    /// # Errors
    /// When their number is not N.
    pub fn with_groups(mut self, groups: Vec<String>) -> Result<Self> {
        self.check_count("groups", groups.len())?;
        self.groups = Some(groups);
        Ok(self)
    }

    /// The data set with text as tokens; at most one modality has them.
    pub(crate) fn with_tokens(mut self, tokens: Tokens) -> Result<Self> {
        let field = format!("tokens.{}", tokens.name());
        self.check_count(&field, tokens.samples())?;
        if let Some(existing) = &self.tokens {
            let message = format!("tokens of {} exist too; keep one", existing.name());
            return Err(self.error(&field, message));
        }
        self.tokens = Some(tokens);
        Ok(self)
    }

    /// The data set with the lengths of a modality replaced.
    ///
    /// # Errors
    /// When the modality does not exist, or the lengths do not fit it.
    pub fn with_lengths(mut self, modality: &str, lengths: Option<Vec<usize>>) -> Result<Self> {
        let origin = self.origin.clone();
        let found = self.modality_mut(modality)?;
        found.set_lengths(lengths, &origin)?;
        Ok(self)
    }

    pub(crate) fn modality_mut(&mut self, name: &str) -> Result<&mut Modality> {
        match self.modalities.iter().position(|m| m.name() == name) {
            Some(i) => Ok(&mut self.modalities[i]),
            None => {
                let existing: Vec<&str> = self.modalities.iter().map(Modality::name).collect();
                let message = format!("no such modality; there are {}", existing.join(", "));
                Err(self.error(name, message))
            }
        }
    }

    pub(crate) fn check_count(&self, field: &str, count: usize) -> Result<()> {
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

    /// True when there is no sample.
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

    pub(crate) fn splits_mut(&mut self) -> &mut Vec<Split> {
        &mut self.splits
    }

    /// The data set with the modalities of the given names only, in the given order.
    ///
    /// # Errors
    /// When a name does not exist (the message lists the existing ones) or is given twice.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Self> {
        let mut selected = self.clone();
        let mut modalities: Vec<Modality> = Vec::with_capacity(names.len());
        for name in names.iter().map(AsRef::as_ref) {
            if modalities.iter().any(|m| m.name() == name) {
                return Err(self.error(name, "asked for twice"));
            }
            modalities.push(selected.modality_mut(name)?.clone());
        }
        selected.modalities = modalities;
        Ok(selected)
    }

    /// The data set with the features that `f` returns; modalities for which it returns `None` are unchanged.
    pub(crate) fn map_features(
        &self,
        f: impl Fn(&Modality) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let mut mapped = self.clone();
        for modality in &mut mapped.modalities {
            if let Some(features) = f(modality)? {
                modality.set_features(features);
            }
        }
        Ok(mapped)
    }
}
