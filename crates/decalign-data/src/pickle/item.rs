//! The values of a pickle.

use std::borrow::Cow;

use super::heap::{Elements, Object, Span, Spelling, Value};
use super::{Pickle, spelling};
use crate::array::Array;
use crate::{Error, Result};

/// A value of a [`Pickle`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// None.
    None,
    /// True or False.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string, or bytes: see [`Text::read`].
    Text(Text<'a>),
    /// A list, tuple, set, or numpy array of objects.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
    /// A numpy array of numbers or strings.
    Array(NumpyArray<'a>),
    /// An object that is not a value, such as a numpy dtype.
    Other,
}

/// A string or bytes, decoded by [`Text::read`].
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pickle: &'a Pickle,
    span: Span,
}

/// A sequence of values; those of an array of objects in memory order.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    pickle: &'a Pickle,
    items: &'a [Value],
}

/// Values by their keys.
#[derive(Clone, Copy, Debug)]
pub struct Dict<'a> {
    pickle: &'a Pickle,
    items: &'a [(Value, Value)],
}

/// A numpy array, its elements still in the file.
#[derive(Clone, Copy, Debug)]
pub struct NumpyArray<'a> {
    pickle: &'a Pickle,
    elements: &'a Elements,
}

impl<'a> Item<'a> {
    pub(super) fn new(pickle: &'a Pickle, value: Value) -> Self {
        match value {
            Value::None => Self::None,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value),
            Value::Known(_) => Self::Other,
            Value::Object(id) => match pickle.heap.get(id) {
                Object::Text(span) | Object::Bytes(span) => Self::Text(Text {
                    pickle,
                    span: *span,
                }),
                Object::Tuple(items) | Object::List(items) => Self::List(List { pickle, items }),
                Object::Dict(items) => Self::Dict(Dict { pickle, items }),
                Object::DType(_) => Self::Other,
                Object::Array(elements) => match &**elements {
                    Elements::Awaited => Self::Other,
                    Elements::Objects { list, .. } => {
                        let items = pickle.heap.items(Value::Object(*list)).unwrap_or_default();
                        Self::List(List { pickle, items })
                    }
                    elements => Self::Array(NumpyArray { pickle, elements }),
                },
            },
        }
    }

    /// The value of a key, if this is a dictionary that has it.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        match self {
            Self::Dict(dict) => dict.get(key),
            _ => None,
        }
    }

    /// The integer or float this is.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Bool(value) => Some(f64::from(u8::from(value))),
            Self::Int(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    /// The kind of the value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Array(_) => "an array",
            Self::Other => "no value",
        }
    }
}

impl<'a> Text<'a> {
    /// The string; bytes are taken as UTF-8.
    ///
    /// # Errors
    /// When it is not valid Unicode.
    pub fn read(&self) -> Result<Cow<'a, str>> {
        let bytes = |span| spelling::bytes(&self.pickle.file, span);
        let text = match self.span.spelling {
            Spelling::Latin1 | Spelling::EscapedLatin1 => bytes(self.span)
                .and_then(|b| String::from_utf8(b.into_owned()).ok())
                .map(Cow::Owned),
            _ => spelling::text(&self.pickle.file, self.span),
        };
        text.ok_or_else(|| {
            let message = format!(
                "byte {}: a string that is no valid Unicode",
                self.span.start
            );
            Error::format(&self.pickle.origin, message)
        })
    }

    /// The size in the file in bytes.
    pub(crate) fn size(&self) -> usize {
        self.span.end - self.span.start
    }

    fn is(&self, word: &str) -> bool {
        // An encoding is at least as long as the word, and at most ten times.
        self.size() >= word.len()
            && self.size() <= 10 * word.len() + 2
            && spelling::text(&self.pickle.file, self.span).is_some_and(|text| text == word)
    }
}

impl<'a> List<'a> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Value `i`.
    pub fn item(&self, i: usize) -> Option<Item<'a>> {
        self.items.get(i).map(|v| Item::new(self.pickle, *v))
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let pickle = self.pickle;
        self.items.iter().map(move |v| Item::new(pickle, *v))
    }
}

impl<'a> Dict<'a> {
    /// The value of a key; the last, where a key is there twice.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        let is = |value: &Value| match Item::new(self.pickle, *value) {
            Item::Text(text) => text.is(key),
            _ => false,
        };
        let found = self.items.iter().rev().find(|(k, _)| is(k));
        found.map(|(_, value)| Item::new(self.pickle, *value))
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> + use<'a> {
        let pickle = self.pickle;
        self.items
            .iter()
            .map(move |(k, v)| (Item::new(pickle, *k), Item::new(pickle, *v)))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl NumpyArray<'_> {
    /// The array. Its bytes stay in the file; protocols 0 to 2 encode them, they are decoded now.
    ///
    /// # Errors
    /// When the bytes violate their encoding or their number is not that of the array.
    pub fn read(&self) -> Result<Array> {
        let Elements::Plain {
            span,
            element,
            shape,
            strides,
        } = self.elements
        else {
            return Err(Error::format(&self.pickle.origin, "no array of numbers"));
        };
        let bad = |message: String| {
            let message = format!("byte {}: {message}", span.start);
            Error::format(&self.pickle.origin, message)
        };
        let bytes = match span.spelling {
            Spelling::Raw => self.pickle.file.slice(span.start..span.end),
            _ => spelling::bytes(&self.pickle.file, *span).map(|b| b.into_owned().into()),
        };
        let bytes =
            bytes.ok_or_else(|| bad("bytes of an array that are spelled wrongly".into()))?;
        Array::new(bytes, *element, shape.clone(), strides.clone()).map_err(bad)
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        match self.elements {
            Elements::Plain { shape, .. } | Elements::Objects { shape, .. } => shape,
            Elements::Awaited => &[],
        }
    }
}
