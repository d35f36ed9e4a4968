//! The bytes of a pickle, one after the other.

use super::heap::Value;
use super::machine::{Fault, Run};
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

    fn fault<T>(&self, message: impl Into<String>) -> Run<T> {
        Err(Fault {
            at: self.at,
            message: message.into(),
        })
    }

    /// The place of the next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Run<(usize, usize)> {
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

    pub(super) fn byte(&mut self) -> Run<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Run<[u8; N]> {
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
    pub(super) fn length(&mut self, size: usize) -> Run<usize> {
        let value = match size {
            1 => u64::from(self.byte()?),
            4 => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        // What this machine cannot count, the file cannot hold.
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// The place of a line, without its end.
    pub(super) fn line(&mut self) -> Run<(usize, usize)> {
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

    /// The place of a line's string literal, without its quotes.
    pub(super) fn quotes(&mut self) -> Run<(usize, usize)> {
        let (start, end) = self.line()?;
        match &self.file[start..end] {
            [first @ (b'\'' | b'"'), .., last] if first == last => Ok((start + 1, end - 1)),
            _ => self.fault("a string without its quotes"),
        }
    }

    pub(super) fn decimal(&mut self) -> Run<usize> {
        let (start, end) = self.line()?;
        let text = std::str::from_utf8(&self.file[start..end]).ok();
        match text.and_then(|text| text.trim_end().parse().ok()) {
            Some(value) => Ok(value),
            None => self.fault("a number that is none"),
        }
    }

    /// A number written out, as protocol 0 has them; 00 and 01 are false and true.
    pub(super) fn number(&mut self, code: u8) -> Run<Value> {
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
            None => self.fault("a number that is none, or needs more than 64 bits"),
        }
    }

    /// A little-endian integer of `length` bytes in two's complement.
    pub(super) fn long(&mut self, length: usize) -> Run<Value> {
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
        // Bytes beyond the eighth may only repeat the sign.
        let sign = if value < 0 { 0xFF } else { 0 };
        match high.iter().all(|b| *b == sign) {
            true => Ok(Value::Int(value)),
            false => self.fault("a whole number of more than 64 bits"),
        }
    }
}
