//! The layout of MMSA's pickles: a dictionary of parts, each a dictionary of fields.

mod values;

use crate::array::Array;
use crate::bytes::Bytes;
use crate::fields::classes;
use crate::pickle::{Item, Pickle};
use crate::{Dataset, Error, Labels, Modality, ModalityKind, Part, Result};
use values::{arrays, integers, is_features, is_whole, numbers, word};

/// The names of parts.
const PARTS: [(&str, Part); 5] = [
    ("train", Part::Train),
    ("valid", Part::Valid),
    ("dev", Part::Valid),
    ("val", Part::Valid),
    ("test", Part::Test),
];

/// Fields that are not features.
const OTHERS: [&str; 4] = ["raw_text", "id", "annotations", "labels"];

/// Reads a pickle of parts, or of fields without parts.
pub(crate) fn read(bytes: Bytes, origin: &str) -> Result<Dataset> {
    let pickle = Pickle::new(bytes, origin)?;
    let root = pickle.root();
    let Item::Dict(_) = root else {
        let message = format!(
            "expected a dictionary of train, valid and test, got {}",
            root.kind()
        );
        return Err(Error::format(origin, message));
    };
    let found = PARTS.iter().filter_map(|(name, part)| {
        let fields = root.get(name)?;
        Some((*name, *part, fields))
    });
    let parts: Vec<Piece<'_>> = found
        .map(|(name, part, fields)| Piece {
            name,
            part: Some(part),
            fields,
        })
        .collect();
    let whole = Piece {
        name: "",
        part: None,
        fields: root,
    };
    let parts = if parts.is_empty() { vec![whole] } else { parts };
    Layout { origin, parts }.dataset()
}

/// The fields of a part.
struct Piece<'a> {
    name: &'static str,
    part: Option<Part>,
    fields: Item<'a>,
}

struct Layout<'a> {
    origin: &'a str,
    parts: Vec<Piece<'a>>,
}

/// The features of a modality in all parts: consecutive arrays, and the lengths of samples that are separate arrays.
struct FeatureBlocks {
    blocks: Vec<Array>,
    lengths: Option<Vec<usize>>,
}

impl<'a> Layout<'a> {
    fn dataset(&self) -> Result<Dataset> {
        let names = self.modality_names()?;
        let mut counts = Vec::new();
        let mut modalities = Vec::new();
        let tokens = self.tokens()?;
        for name in &names {
            let found = self.features(name, &mut counts)?;
            let mut lengths = self
                .lengths(&format!("{name}_lengths"), &found)?
                .or(found.lengths);
            if lengths.is_none()
                && let Some(tokens) = tokens.as_ref().filter(|t| t.name() == name)
                && found
                    .blocks
                    .iter()
                    .all(|b| b.shape().get(1) == Some(&tokens.steps()))
            {
                // One step a token: the attention mask gives the lengths.
                lengths = tokens.lengths()?;
            }
            modalities.push(Modality::stored(name, found.blocks, lengths, self.origin)?);
        }
        let mut data = Dataset::new(self.origin, modalities)?;
        if let Some(labels) = self.labels()? {
            data = data.with_labels(labels)?;
        }
        if let Some(tokens) = tokens {
            data = data.with_tokens(tokens)?;
        }
        if let Some(ids) = self.texts("id")? {
            data = data.with_ids(ids)?;
        }
        if let Some(texts) = self.texts("raw_text")? {
            data = data.with_texts(texts)?;
        }
        if self.parts.iter().any(|piece| piece.part.is_some()) {
            let counts = self.parts.iter().zip(&counts);
            let parts = counts.flat_map(|(piece, n)| std::iter::repeat_n(piece.part, *n));
            data = data.with_split("", parts.collect())?;
        }
        Ok(data)
    }

    fn error(&self, piece: &Piece<'_>, field: &str, message: impl Into<String>) -> Error {
        let dot = if piece.name.is_empty() { "" } else { "." };
        Error::field(self.origin, format!("{}{dot}{field}", piece.name), message)
    }

    /// The fields that hold features, text, audio and vision first.
    fn modality_names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for piece in &self.parts {
            let Item::Dict(fields) = piece.fields else {
                let message = format!(
                    "expected a dictionary of fields, got {}",
                    piece.fields.kind()
                );
                return Err(self.error(piece, "", message));
            };
            for (key, value) in fields.iter() {
                let Item::Text(key) = key else { continue };
                let known = key.size() <= 256;
                let Some(name) = known.then(|| key.read()).transpose()? else {
                    continue;
                };
                let other = OTHERS.contains(&&*name)
                    || name.contains("_labels")
                    || name.ends_with("_lengths")
                    || name.ends_with("_bert");
                if !other && is_features(value) && !names.iter().any(|n| *n == name) {
                    names.push(name.into_owned());
                }
            }
        }
        names.sort_by_cached_key(|name| (ModalityKind::of(name), name.clone()));
        Ok(names)
    }

    fn field(&self, piece: &Piece<'a>, name: &str) -> Result<Item<'a>> {
        piece
            .fields
            .get(name)
            .ok_or_else(|| self.error(piece, name, "missing in this part, other parts have it"))
    }

    fn features(&self, name: &str, counts: &mut Vec<usize>) -> Result<FeatureBlocks> {
        let first = counts.is_empty();
        let (mut blocks, mut lengths) = (Vec::new(), None);
        for (i, piece) in self.parts.iter().enumerate() {
            let says = |message: String| self.error(piece, name, message);
            let (here, own) = arrays(self.field(piece, name)?, self.origin).map_err(says)?;
            let n: usize = here.iter().map(Array::rows).sum();
            match counts.get(i) {
                None if first => counts.push(n),
                Some(expected) if *expected == n => {}
                expected => {
                    let expected = expected.copied().unwrap_or(0);
                    return Err(says(format!(
                        "{n} samples where other fields have {expected}"
                    )));
                }
            }
            match (own, i) {
                (Some(own), 0) => lengths = Some(own),
                (Some(own), _) => {
                    // All steps of earlier parts exist.
                    let steps = |b: &Array| std::iter::repeat_n(b.shape()[1], b.rows());
                    lengths
                        .get_or_insert_with(|| blocks.iter().flat_map(steps).collect())
                        .extend(own);
                }
                (None, _) => {
                    if let Some(lengths) = &mut lengths {
                        let steps = |b: &Array| std::iter::repeat_n(b.shape()[1], b.rows());
                        lengths.extend(here.iter().flat_map(steps));
                    }
                }
            }
            blocks.extend(here);
        }
        Ok(FeatureBlocks { blocks, lengths })
    }

    /// The lengths of all parts, where the file has them. A length above T is taken as T.
    fn lengths(&self, field: &str, found: &FeatureBlocks) -> Result<Option<Vec<usize>>> {
        if self.parts.iter().all(|p| p.fields.get(field).is_none()) {
            return Ok(None);
        }
        let steps = found.blocks.iter().map(|b| b.shape()[1..].first().copied());
        let steps = steps.flatten().max().unwrap_or(1);
        let mut lengths = Vec::new();
        for piece in &self.parts {
            let says = |message: String| self.error(piece, field, message);
            for value in integers(self.field(piece, field)?, self.origin).map_err(says)? {
                let length = usize::try_from(value).map_err(|_| {
                    says(format!("{value} at sample {} is negative", lengths.len()))
                })?;
                lengths.push(length.min(steps));
            }
        }
        Ok(Some(lengths))
    }

    fn tokens(&self) -> Result<Option<crate::Tokens>> {
        if self
            .parts
            .iter()
            .all(|p| p.fields.get("text_bert").is_none())
        {
            return Ok(None);
        }
        let mut blocks = Vec::new();
        for piece in &self.parts {
            let says = |message: String| self.error(piece, "text_bert", message);
            let field = self.field(piece, "text_bert")?;
            blocks.extend(arrays(field, self.origin).map_err(says)?.0);
        }
        crate::Tokens::new("text", blocks, self.origin).map(Some)
    }

    /// The regression labels, or the classes where there are none.
    fn labels(&self) -> Result<Option<Labels>> {
        let has = |field: &&str| self.parts.iter().any(|p| p.fields.get(field).is_some());
        let fields = ["regression_labels", "classification_labels", "labels"];
        let Some(field) = fields.into_iter().find(|field| has(field)) else {
            return Ok(None);
        };
        let (mut scores, mut whole) = (Vec::new(), true);
        for piece in &self.parts {
            let says = |message: String| self.error(piece, field, message);
            let item = self.field(piece, field)?;
            whole &= is_whole(item);
            scores.extend(numbers(item, self.origin).map_err(says)?);
        }
        if field == "regression_labels" || field == "labels" && !whole {
            let scores = scores.iter().map(|v| *v as f32).collect();
            return Ok(Some(Labels::Scores(scores)));
        }
        let says = |message: String| Error::field(self.origin, field, message);
        let class = |(i, v): (usize, &f64)| match v.fract() == 0.0 && v.abs() < 1e9 {
            true => Ok(*v as i64),
            false => Err(says(format!("{v} at sample {i} is no class"))),
        };
        let values = scores
            .iter()
            .enumerate()
            .map(class)
            .collect::<Result<Vec<_>>>()?;
        classes(&values, Vec::new()).map(Some).map_err(says)
    }

    fn texts(&self, field: &str) -> Result<Option<Vec<String>>> {
        if self.parts.iter().all(|p| p.fields.get(field).is_none()) {
            return Ok(None);
        }
        let mut texts = Vec::new();
        // Many samples may share a string of the file, so the memory of their copies is bounded.
        let mut left = 64 << 20;
        for piece in &self.parts {
            let says = |message: String| self.error(piece, field, message);
            match self.field(piece, field)? {
                Item::List(list) => {
                    for item in list.iter() {
                        let text = word(item, &mut left).map_err(says)?;
                        texts.push(text);
                    }
                }
                Item::Array(array) => {
                    let strings =
                        array
                            .read()
                            .and_then(|array| match array.element().is_integer() {
                                true => Ok(array.to_i64()?.iter().map(i64::to_string).collect()),
                                false => array.to_strings(),
                            });
                    texts.extend(strings.map_err(|error| says(error.to_string()))?);
                }
                other => {
                    return Err(says(format!(
                        "expected a list of strings, got {}",
                        other.kind()
                    )));
                }
            }
        }
        Ok(Some(texts))
    }
}
