//! Named arrays and strings of a file, and the names with a meaning.

use crate::array::Array;
use crate::error::Parsed;
use crate::{Dataset, Error, Labels, Modality, ModalityKind, Part, Result, Tokens};

/// The exclusive upper bound of class numbers; larger labels are taken for a mistake.
const CLASS_LIMIT: u32 = 1 << 16;

/// A value of a file.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Array(Array),
    Texts(Vec<String>),
}

/// The content of a file, and the names that its header lists.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) origin: String,
    pub(crate) entries: Vec<(String, Entry)>,
    /// The modalities in order; when empty, the default order.
    pub(crate) modalities: Vec<String>,
    /// The names of the classes; when empty, their numbers.
    pub(crate) classes: Vec<String>,
}

impl Fields {
    /// The data set of the named arrays.
    pub(crate) fn dataset(&self) -> Result<Dataset> {
        let modalities = self.modality_names()?;
        let modalities = modalities
            .iter()
            .map(|(name, field)| self.modality(name, field));
        let mut data = match (modalities.len(), self.texts("texts")?) {
            (0, Some(texts)) => Dataset::without_features(&self.origin, texts.len()),
            _ => Dataset::new(&self.origin, modalities.collect::<Result<_>>()?)?,
        };
        if let Some(labels) = self.labels()? {
            data = data.with_labels(labels)?;
        }
        let mut splits: Vec<&str> = self.names().filter(|name| is_split(name)).collect();
        splits.sort_unstable();
        for field in splits {
            let name = field.strip_prefix("split_").unwrap_or_default();
            data = data.with_split(name, self.split(field)?)?;
        }
        if let Some(ids) = self.texts("ids")? {
            data = data.with_ids(ids)?;
        }
        if let Some(texts) = self.texts("texts")? {
            data = data.with_texts(texts)?;
        }
        if let Some(groups) = self.texts("groups")? {
            data = data.with_groups(groups)?;
        }
        for (name, entry) in &self.entries {
            if let (Some(name), Entry::Array(array)) = (name.strip_prefix("tokens."), entry) {
                data = data.with_tokens(Tokens::new(name, vec![array.clone()], &self.origin)?)?;
            }
        }
        Ok(data)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn error(&self, field: &str, message: impl Into<String>) -> Error {
        Error::field(&self.origin, field, message)
    }

    fn array(&self, field: &str) -> Option<&Array> {
        self.entries.iter().find_map(|(name, entry)| match entry {
            Entry::Array(array) if name == field => Some(array),
            _ => None,
        })
    }

    /// The strings of a name; integers are converted to text.
    fn texts(&self, field: &str) -> Result<Option<Vec<String>>> {
        let Some((_, entry)) = self.entries.iter().find(|(name, _)| name == field) else {
            return Ok(None);
        };
        let bad = |error: Error| self.error(field, error.to_string());
        match entry {
            Entry::Texts(texts) => Ok(Some(texts.clone())),
            Entry::Array(array) if array.element().is_integer() => {
                let numbers = array.to_i64().map_err(bad)?;
                Ok(Some(numbers.iter().map(i64::to_string).collect()))
            }
            Entry::Array(array) => array.to_strings().map(Some).map_err(bad),
        }
    }

    /// Removes and returns the strings of a name; nothing when the name is absent or its array is a modality.
    pub(crate) fn take_texts(&mut self, field: &str) -> Result<Vec<String>> {
        let is_text = |entry: &Entry| match entry {
            Entry::Texts(_) => true,
            Entry::Array(array) => array.element().is_text(),
        };
        let there = |(name, entry): &(String, Entry)| name == field && is_text(entry);
        let Some(at) = self.entries.iter().position(there) else {
            return Ok(Vec::new());
        };
        let texts = self.texts(field)?.unwrap_or_default();
        self.entries.remove(at);
        Ok(texts)
    }

    /// The name and the field of every modality, in the order of the header; by default text, audio and vision come first,
    /// then the alphabet.
    fn modality_names(&self) -> Result<Vec<(String, String)>> {
        let features = self.names().filter(|name| !is_reserved(name));
        let mut found: Vec<(String, String)> = features
            .map(|name| {
                let short = name.strip_prefix("features.").unwrap_or(name);
                (short.to_owned(), name.to_owned())
            })
            .collect();
        let known = |name: &str| found.iter().any(|(known, _)| known == name);
        for prefix in ["lengths.", "present."] {
            let lost = self.names().filter_map(|n| n.strip_prefix(prefix));
            if let Some(name) = lost.into_iter().find(|n| !known(n)) {
                let what = prefix.trim_end_matches('.');
                let message = match what {
                    "lengths" => "lengths of a modality that is not there",
                    _ => "presence of a modality that is not there",
                };
                return Err(self.error(&format!("{prefix}{name}"), message));
            }
        }
        let listed = &self.modalities;
        let unlisted = |(name, _): &&(String, String)| !listed.is_empty() && !listed.contains(name);
        if let Some((name, _)) = found.iter().find(unlisted) {
            let message = "the metadata lists the modalities, but not this one";
            return Err(self.error(name, message));
        }
        let rank = |name: &str| match listed.is_empty() {
            true => ModalityKind::of(name) as usize,
            false => listed.iter().position(|m| m == name).unwrap_or(usize::MAX),
        };
        found.sort_by_cached_key(|(name, _)| (rank(name), name.clone()));
        let absent = |m: &&String| found.iter().all(|(name, _)| name != *m);
        if let Some(name) = listed.iter().find(absent) {
            let message = "the metadata lists this modality, the file has no such tensor";
            return Err(self.error(&format!("features.{name}"), message));
        }
        Ok(found)
    }

    fn modality(&self, name: &str, field: &str) -> Result<Modality> {
        let Some(array) = self.array(field) else {
            return Err(self.error(field, "expected an array of numbers, got strings"));
        };
        if !array.element().is_float() {
            let message = format!(
                "expected floating numbers, got {}",
                array.element().type_name()
            );
            return Err(self.error(field, message));
        }
        let mut lengths = self.lengths(name)?;
        if let Some(present) = self.integers(&format!("present.{name}"))? {
            let steps = if array.shape().len() == 3 {
                array.shape()[1]
            } else {
                1
            };
            let all = lengths.get_or_insert_with(|| vec![steps; present.len()]);
            for (length, present) in all.iter_mut().zip(&present) {
                *length *= usize::from(*present != 0);
            }
        }
        Modality::stored(name, vec![array.clone()], lengths, &self.origin)
    }

    fn lengths(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let field = format!("lengths.{name}");
        let length = |(i, l): (usize, &i64)| {
            usize::try_from(*l)
                .map_err(|_| self.error(&field, format!("{l} at sample {i} is negative")))
        };
        let lengths = self.integers(&field)?;
        let lengths = lengths.map(|lengths| lengths.iter().enumerate().map(length).collect());
        lengths.transpose()
    }

    /// Integers are classes, floating numbers scores; (N) or (N, 1).
    fn labels(&self) -> Result<Option<Labels>> {
        let Some(array) = self.array("labels") else {
            return Ok(None);
        };
        if array.element().is_float() {
            return Ok(Some(Labels::Scores(array.to_f32()?)));
        }
        let values = self.integers("labels")?.unwrap_or_default();
        classes(&values, self.classes.clone())
            .map(Some)
            .map_err(|message| self.error("labels", message))
    }

    fn split(&self, field: &str) -> Result<Vec<Option<Part>>> {
        let codes = self.integers(field)?.unwrap_or_default();
        let part = |(i, code): (usize, &i64)| {
            Part::from_code(*code).ok_or_else(|| {
                let message = format!(
                    "{code} at sample {i}; expected 0 (train), 1 (valid), 2 (test) or -1 (none)"
                );
                self.error(field, message)
            })
        };
        codes.iter().enumerate().map(part).collect()
    }

    /// The elements of an integer array (N) or (N, 1); `None` when there is none of this name.
    fn integers(&self, field: &str) -> Result<Option<Vec<i64>>> {
        let Some(array) = self.array(field) else {
            return match self.names().any(|name| name == field) {
                true => Err(self.error(field, "expected integers (N), got strings")),
                false => Ok(None),
            };
        };
        let flat = matches!(array.shape(), [_] | [_, 1]);
        if !array.element().is_integer() || !flat {
            let message = format!(
                "expected integers (N), got {} of shape {:?}",
                array.element().type_name(),
                array.shape()
            );
            return Err(self.error(field, message));
        }
        array
            .to_i64()
            .map(Some)
            .map_err(|error| self.error(field, error.to_string()))
    }
}

/// Classes of integer labels, with the given names or their numbers as names.
pub(crate) fn classes(values: &[i64], names: Vec<String>) -> Parsed<Labels> {
    let class = |(i, v): (usize, &i64)| match u32::try_from(*v) {
        Ok(class) if class < CLASS_LIMIT => Ok(class),
        _ => Err(format!(
            "{v} at sample {i} is not a class 0, 1, 2, ... below {CLASS_LIMIT}"
        )),
    };
    let values = values.iter().enumerate().map(class);
    let values = values.collect::<std::result::Result<Vec<u32>, _>>()?;
    Ok(match names.is_empty() {
        true => Labels::classes(values),
        false => Labels::Classes { values, names },
    })
}

/// True for names that cannot be modalities.
pub(crate) fn is_reserved(name: &str) -> bool {
    let prefix = ["lengths.", "present.", "tokens."];
    is_split(name)
        || ["labels", "ids", "texts", "groups"].contains(&name)
        || prefix.iter().any(|p| name.starts_with(p))
}

pub(crate) fn is_split(name: &str) -> bool {
    name == "split" || name.starts_with("split_")
}
