//! Reading the bytes of a pickle in order.

use super::heap::Value;
use super::machine::{Fault, PickleResult};
use super::opcode as op;

pub(super) struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.file.len() - self.at
    }

    fn fault<T>(&self, message: impl Into<String>) -> PickleResult<T> {
        Err(Fault {
            at: self.at,
            message: message.into(),
        })
    }

    /// The place of the next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> PickleResult<(usize, usize)> {
        if length > self.left() {
            return self.fault(format!(
                "the file ends after {} bytes, {length} more are announced here",
                self.file.len()
            ));
        }
        let start = self.at;
        self.at += length;
        Ok((start, self.at))
    }

    pub(super) fn byte(&mut self) -> PickleResult<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> PickleResult<[u8; N]> {
        match self.file[self.at..].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => self.fault(format!(
                "the file ends after {} bytes, in the middle of a value",
                self.file.len()
            )),
        }
    }

    /// A length or number in 1, 4 or 8 little-endian bytes.
    pub(super) fn length(&mut self, size: usize) -> PickleResult<usize> {
        let value = match size {
            1 => u64::from(self.byte()?),
            4 => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        // A length above usize is longer than any file.
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// The range of a line, without its end.
    pub(super) fn line(&mut self) -> PickleResult<(usize, usize)> {
        let rest = &self.file[self.at..];
        match rest.iter().position(|b| *b == b'\n') {
            Some(length) => {
                let start = self.at;
                self.at += length + 1;
                Ok((start, start + length))
            }
            None => self.fault("the file ends in the middle of a line"),
        }
    }

    /// The range of a line's string literal, without its quotes.
    pub(super) fn quotes(&mut self) -> PickleResult<(usize, usize)> {
        let (start, end) = self.line()?;
        match &self.file[start..end] {
            [first @ (b'\'' | b'"'), .., last] if first == last => Ok((start + 1, end - 1)),
            _ => self.fault("a string without its quotes"),
        }
    }

    pub(super) fn decimal(&mut self) -> PickleResult<usize> {
        let (start, end) = self.line()?;
        let text = std::str::from_utf8(&self.file[start..end]).ok();
        match text.and_then(|text| text.trim_end().parse().ok()) {
            Some(value) => Ok(value),
            None => self.fault("expected a decimal number"),
        }
    }

    /// A decimal number of protocol 0; 00 and 01 are false and true.
    pub(super) fn number(&mut self, code: u8) -> PickleResult<Value> {
        let (start, end) = self.line()?;
        let text = std::str::from_utf8(&self.file[start..end]).unwrap_or_default();
        let text = text.trim_end();
        let value = match (code, text) {
            (op::INT, "00") => Some(Value::Bool(false)),
            (op::INT, "01") => Some(Value::Bool(true)),
            (op::FLOAT, text) => text.parse().ok().map(Value::Float),
            (_, text) => text
                .strip_suffix('L')
                .unwrap_or(text)
                .parse()
                .ok()
                .map(Value::Int),
        };
        match value {
            Some(value) => Ok(value),
            None => self.fault("expected a number; integers of more than 64 bits are not read"),
        }
    }

    /// A little-endian integer of `length` bytes in two's complement.
    pub(super) fn long(&mut self, length: usize) -> PickleResult<Value> {
        let (start, end) = self.take(length)?;
        let bytes = &self.file[start..end];
        let fill = if bytes.last().is_some_and(|b| *b >= 0x80) {
            0xFF
        } else {
            0
        };
        let (low, high) = bytes.split_at(length.min(8));
        let mut word = [fill; 8];
        word[..low.len()].copy_from_slice(low);
        let value = i64::from_le_bytes(word);
        // Bytes after the eighth may only repeat the sign.
        let sign = if value < 0 { 0xFF } else { 0 };
        match high.iter().all(|b| *b == sign) {
            true => Ok(Value::Int(value)),
            false => self.fault("an integer of more than 64 bits"),
        }
    }
}
