//! What an array's elements are.

use std::fmt;

/// The kind of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// One byte, 0 or not.
    Bool,
    /// Integers with a sign, of 1, 2, 4 or 8 bytes.
    Signed,
    /// Integers without, of 1, 2, 4 or 8 bytes.
    Unsigned,
    /// IEEE numbers of 2, 4 or 8 bytes.
    Float,
    /// The upper half of an f32 (bfloat16).
    Brain,
    /// Two IEEE numbers of 4 or 8 bytes.
    Complex,
    /// Byte strings of a fixed size, padded with zeros.
    Bytes,
    /// Unicode strings of a fixed number of 4-byte characters, padded with zeros.
    Text,
}

/// Kind, size and byte order of an element, as numpy's dtype has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub(crate) kind: Kind,
    pub(crate) size: usize,
    pub(crate) big_endian: bool,
}

impl Element {
    /// The element of a name such as `f4`, `<f4`, `>i8`, `|b1` or `<U12`; without a sign, and with
    /// `=`, it is little-endian.
    ///
    /// ```
    /// use decalign_data::array::{Element, Kind};
    /// let element = Element::parse(">f4").unwrap();
    /// assert_eq!((element.kind(), element.size()), (Kind::Float, 4));
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
            ('b', 1) => Kind::Bool,
            ('i', 1 | 2 | 4 | 8) => Kind::Signed,
            ('u', 1 | 2 | 4 | 8) => Kind::Unsigned,
            ('f', 2 | 4 | 8) => Kind::Float,
            ('c', 8 | 16) => Kind::Complex,
            ('S' | 'a', _) => Kind::Bytes,
            ('U', _) => Kind::Text,
            _ => return None,
        };
        let size = if kind == Kind::Text { 4 * size } else { size };
        Some(Self {
            kind,
            size,
            big_endian,
        })
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes an element takes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The type as Rust calls it, for messages.
    pub(crate) fn word(&self) -> String {
        let bits = 8 * self.size;
        match self.kind {
            Kind::Bool => "bool".to_owned(),
            Kind::Signed => format!("i{bits}"),
            Kind::Unsigned => format!("u{bits}"),
            Kind::Float => format!("f{bits}"),
            Kind::Brain => "bf16".to_owned(),
            Kind::Complex => "complex numbers".to_owned(),
            Kind::Bytes | Kind::Text => "strings".to_owned(),
        }
    }

    /// Whether these are real numbers that features can be.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.kind, Kind::Float | Kind::Brain)
    }

    /// Whether these are whole numbers.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Signed | Kind::Unsigned)
    }

    /// Whether these are strings.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Bytes)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, size) = match self.kind {
            Kind::Bool => ('b', 1),
            Kind::Signed => ('i', self.size),
            Kind::Unsigned => ('u', self.size),
            Kind::Float => ('f', self.size),
            Kind::Brain => return f.write_str("bfloat16"),
            Kind::Complex => ('c', self.size),
            Kind::Bytes => ('S', self.size),
            Kind::Text => ('U', self.size / 4),
        };
        let order = match (self.size, self.kind) {
            (_, Kind::Bytes) | (1, _) => "|",
            _ if self.big_endian => ">",
            _ => "<",
        };
        write!(f, "{order}{letter}{size}")
    }
}
