//! The elements of an array.

use std::fmt;

/// The kind of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementKind {
    /// One byte; 0 is false.
    Bool,
    /// Signed integers of 1, 2, 4 or 8 bytes.
    Signed,
    /// Unsigned integers of 1, 2, 4 or 8 bytes.
    Unsigned,
    /// IEEE numbers of 2, 4 or 8 bytes.
    Float,
    /// The upper half of an f32 (bfloat16).
    BFloat16,
    /// Two IEEE numbers of 4 or 8 bytes.
    Complex,
    /// Byte strings of a fixed size, padded with zeros.
    Bytes,
    /// Unicode strings of a fixed number of 4-byte characters, padded with zeros.
    Text,
}

/// The kind, size and byte order of an element, like numpy's dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub(crate) kind: ElementKind,
    pub(crate) size: usize,
    pub(crate) big_endian: bool,
}

impl Element {
    /// The element of a name such as `f4`, `<f4`, `>i8`, `|b1` or `<U12`; without an order, and with
    /// `=`, it is little-endian.
    ///
    /// ```
    /// use decalign_data::array::{Element, ElementKind};
    /// let element = Element::parse(">f4").unwrap();
    /// assert_eq!((element.kind(), element.size()), (ElementKind::Float, 4));
    /// assert!(Element::parse("O").is_none());
    /// ```
    pub fn parse(name: &str) -> Option<Self> {
        let (big_endian, name) = match name.as_bytes().first()? {
            b'>' => (true, &name[1..]),
            b'<' | b'=' | b'|' => (false, &name[1..]),
            _ => (false, name),
        };
        let mut letters = name.chars();
        let letter = letters.next()?;
        let digits = letters.as_str();
        if digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let size: usize = digits.parse().ok()?;
        let kind = match (letter, size) {
            ('b', 1) => ElementKind::Bool,
            ('i', 1 | 2 | 4 | 8) => ElementKind::Signed,
            ('u', 1 | 2 | 4 | 8) => ElementKind::Unsigned,
            ('f', 2 | 4 | 8) => ElementKind::Float,
            ('c', 8 | 16) => ElementKind::Complex,
            ('S' | 'a', _) => ElementKind::Bytes,
            ('U', _) => ElementKind::Text,
            _ => return None,
        };
        let size = if kind == ElementKind::Text {
            4 * size
        } else {
            size
        };
        Some(Self {
            kind,
            size,
            big_endian,
        })
    }

    /// The kind.
    pub fn kind(&self) -> ElementKind {
        self.kind
    }

    /// Bytes an element takes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The name of the type in Rust, for messages.
    pub(crate) fn type_name(&self) -> String {
        let bits = 8 * self.size;
        match self.kind {
            ElementKind::Bool => "bool".to_owned(),
            ElementKind::Signed => format!("i{bits}"),
            ElementKind::Unsigned => format!("u{bits}"),
            ElementKind::Float => format!("f{bits}"),
            ElementKind::BFloat16 => "bf16".to_owned(),
            ElementKind::Complex => "complex numbers".to_owned(),
            ElementKind::Bytes | ElementKind::Text => "strings".to_owned(),
        }
    }

    /// True for floating numbers, the elements of features.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.kind, ElementKind::Float | ElementKind::BFloat16)
    }

    /// True for integers and booleans.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(
            self.kind,
            ElementKind::Bool | ElementKind::Signed | ElementKind::Unsigned
        )
    }

    /// True for strings.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.kind, ElementKind::Text | ElementKind::Bytes)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, size) = match self.kind {
            ElementKind::Bool => ('b', 1),
            ElementKind::Signed => ('i', self.size),
            ElementKind::Unsigned => ('u', self.size),
            ElementKind::Float => ('f', self.size),
            ElementKind::BFloat16 => return f.write_str("bfloat16"),
            ElementKind::Complex => ('c', self.size),
            ElementKind::Bytes => ('S', self.size),
            ElementKind::Text => ('U', self.size / 4),
        };
        let order = match (self.size, self.kind) {
            (_, ElementKind::Bytes) | (1, _) => "|",
            _ if self.big_endian => ">",
            _ => "<",
        };
        write!(f, "{order}{letter}{size}")
    }
}
