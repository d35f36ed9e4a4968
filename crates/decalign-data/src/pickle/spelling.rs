//! Decoding strings of the file.

use std::borrow::Cow;

use super::heap::{Span, Spelling};

/// The text of a span; `None` when it violates its encoding.
pub(super) fn text<'a>(file: &'a [u8], span: Span) -> Option<Cow<'a, str>> {
    let raw = &file[span.start..span.end];
    match span.spelling {
        Spelling::Raw => match std::str::from_utf8(raw) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(_) => without_surrogates(raw).map(Cow::Owned),
        },
        Spelling::Escaped => Some(Cow::Owned(escaped(raw)?.collect::<Option<String>>()?)),
        Spelling::Quoted => {
            // Python 2's strings are bytes: UTF-8 most of the time, Latin-1 for the rest.
            let bytes = quoted(raw)?;
            Some(Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => error.as_bytes().iter().map(|b| char::from(*b)).collect(),
            }))
        }
        Spelling::Latin1 | Spelling::EscapedLatin1 => None,
    }
}

/// The bytes of a span; `None` when it violates its encoding.
pub(super) fn bytes<'a>(file: &'a [u8], span: Span) -> Option<Cow<'a, [u8]>> {
    let raw = &file[span.start..span.end];
    let byte = |letter: char| u8::try_from(u32::from(letter)).ok();
    match span.spelling {
        Spelling::Raw => Some(Cow::Borrowed(raw)),
        Spelling::Latin1 => {
            // UTF-8 has at least as many bytes as characters, so the vector does not grow.
            let text = std::str::from_utf8(raw).ok()?;
            let mut bytes = Vec::with_capacity(text.len());
            for letter in text.chars() {
                bytes.push(byte(letter)?);
            }
            Some(Cow::Owned(bytes))
        }
        Spelling::EscapedLatin1 => {
            let letters = escaped(raw)?.map(|letter| byte(letter?));
            Some(Cow::Owned(letters.collect::<Option<Vec<u8>>>()?))
        }
        Spelling::Quoted => quoted(raw).map(Cow::Owned),
        Spelling::Escaped => None,
    }
}

/// Replaces lone surrogates, which Python writes in three bytes, by U+FFFD.
fn without_surrogates(raw: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut rest = raw;
    loop {
        match std::str::from_utf8(rest) {
            Ok(good) => {
                text.push_str(good);
                return Some(text);
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(good).ok()?);
                let [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] = bad else {
                    return None;
                };
                text.push('\u{FFFD}');
                rest = after;
            }
        }
    }
}

/// The characters of a raw unicode escape: Latin-1, and `\uXXXX`, `\UXXXXXXXX` after an odd number of backslashes.
fn escaped(raw: &[u8]) -> Option<impl Iterator<Item = Option<char>> + '_> {
    let mut at = 0;
    let mut slashes = 0usize;
    Some(std::iter::from_fn(move || {
        let byte = *raw.get(at)?;
        at += 1;
        slashes = if byte == b'\\' { slashes + 1 } else { 0 };
        let digits = match raw.get(at) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => return Some(Some(char::from(byte))),
        };
        if slashes.is_multiple_of(2) {
            return Some(Some(char::from(byte)));
        }
        slashes = 0;
        let code = raw.get(at + 1..at + 1 + digits);
        at += 1 + digits;
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        Some(code.map(|code| char::from_u32(code).unwrap_or('\u{FFFD}')))
    }))
}

/// The bytes of a string literal without its quotes.
fn quoted(raw: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let [letter, after @ ..] = rest else {
            return None;
        };
        rest = after;
        match letter {
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'v' => bytes.push(11),
            b'f' => bytes.push(12),
            b'\\' | b'\'' | b'"' => bytes.push(*letter),
            b'x' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            b'0'..=b'7' => {
                let digits = 1 + rest
                    .iter()
                    .take(2)
                    .take_while(|d| matches!(d, b'0'..=b'7'))
                    .count();
                let all = &raw[raw.len() - rest.len() - 1..][..digits];
                let value = all.iter().fold(0u32, |v, d| 8 * v + u32::from(d - b'0'));
                bytes.push(u8::try_from(value).ok()?);
                rest = &rest[digits - 1..];
            }
            _ => bytes.extend([b'\\', *letter]),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(raw: &[u8], spelling: Spelling) -> Span {
        Span {
            start: 0,
            end: raw.len(),
            spelling,
        }
    }

    #[test]
    fn escapes_are_those_of_python() {
        let escaped = br"a\u00e9\\u00e9\\\u0041\U0001f600 \x".as_slice();
        let got = text(escaped, span(escaped, Spelling::Escaped)).unwrap();
        assert_eq!(got, "aé\\\\u00e9\\\\A😀 \\x");
        assert!(text(br"\u12", span(br"\u12", Spelling::Escaped)).is_none());
        let literal = br"\x41\n\101\0\'\q".as_slice();
        let got = bytes(literal, span(literal, Spelling::Quoted)).unwrap();
        assert_eq!(&*got, b"A\nA\0'\\q");
        let latin = "é\u{0}ÿ".as_bytes();
        let got = bytes(latin, span(latin, Spelling::Latin1)).unwrap();
        assert_eq!(&*got, [0xE9, 0, 0xFF]);
        assert!(bytes("Ā".as_bytes(), span("Ā".as_bytes(), Spelling::Latin1)).is_none());
        let lone = b"a\xED\xA0\x80b".as_slice();
        assert_eq!(text(lone, span(lone, Spelling::Raw)).unwrap(), "a\u{FFFD}b");
        assert!(text(b"\xFF", span(b"\xFF", Spelling::Raw)).is_none());
    }
}
