//! The interpreter: one loop over the opcodes, without recursion.

use super::heap::{Heap, Known, Object, Span, Spelling, Value};
use super::memo::Memo;
use super::opcode as op;
use super::reader::Reader;
use super::spelling;

/// An error and the byte of the file at which it occurred.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

pub(super) type PickleResult<T = ()> = Result<T, Fault>;

/// A pickle being read.
pub(super) struct Machine<'a> {
    pub(super) file: &'a [u8],
    pub(super) heap: Heap,
    /// The byte of the current opcode.
    pub(super) at: usize,
    reader: Reader<'a>,
    pub(super) stack: Vec<Value>,
    /// Heights of the stack at its marks.
    pub(super) marks: Vec<usize>,
    memo: Memo,
}

impl<'a> Machine<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self {
            file,
            heap: Heap::new(file.len()),
            at: 0,
            reader: Reader::new(file),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
        }
    }

    /// Runs to the end and returns the pickled value.
    pub(super) fn run(mut self) -> PickleResult<(Heap, Value)> {
        loop {
            self.at = self.reader.at();
            let code = self.reader.byte()?;
            if code == op::STOP {
                let value = self.pop()?;
                if !self.marks.is_empty() || !self.stack.is_empty() {
                    return self.fault("values are left over at the end");
                }
                return Ok((self.heap, value));
            }
            self.step(code)?;
        }
    }

    pub(super) fn fault<T>(&self, message: impl Into<String>) -> PickleResult<T> {
        Err(Fault {
            at: self.at,
            message: message.into(),
        })
    }

    fn step(&mut self, code: u8) -> PickleResult {
        match code {
            op::MARK => {
                self.afford::<usize>(1)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => self.drop_one(),
            op::POP_MARK => self.since_mark().map(|_| ()),
            op::DUP => {
                let value = self.top()?;
                self.push(value)
            }
            op::PROTO => match self.reader.byte()? {
                0..=5 => Ok(()),
                protocol => self.fault(format!("protocol {protocol}; 0 to 5 are known")),
            },
            op::FRAME => {
                let length = self.reader.length(8)?;
                match length <= self.reader.left() {
                    true => Ok(()),
                    false => self.fault(format!("a frame of {length} bytes in a shorter file")),
                }
            }
            op::GET | op::BINGET | op::LONG_BINGET => self.get(code),
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.put(code),
            op::GLOBAL | op::STACK_GLOBAL => self.global(code),
            op::REDUCE => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let value = self.reduce(callable, arguments)?;
                self.push(value)
            }
            op::NEWOBJ => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                let value = self.create(class, arguments)?;
                self.push(value)
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                self.build(target, state)
            }
            _ => match self.scalar(code)? {
                Some(value) => self.push(value),
                None => self.container(code),
            },
        }
    }

    /// The value of an opcode of a number or string; `None` for any other opcode.
    fn scalar(&mut self, code: u8) -> PickleResult<Option<Value>> {
        let reader = &mut self.reader;
        let value = match code {
            op::NONE => Value::None,
            op::NEWTRUE => Value::Bool(true),
            op::NEWFALSE => Value::Bool(false),
            op::BININT1 => Value::Int(i64::from(reader.byte()?)),
            op::BININT2 => Value::Int(i64::from(u16::from_le_bytes(reader.array()?))),
            op::BININT => Value::Int(i64::from(i32::from_le_bytes(reader.array()?))),
            op::BINFLOAT => Value::Float(f64::from_be_bytes(reader.array()?)),
            op::INT | op::LONG | op::FLOAT => reader.number(code)?,
            op::LONG1 | op::LONG4 => {
                let length = reader.length(if code == op::LONG1 { 1 } else { 4 })?;
                reader.long(length)?
            }
            op::UNICODE => {
                let (start, end) = reader.line()?;
                return self.text(start, end, Spelling::Escaped).map(Some);
            }
            op::STRING => {
                let (start, end) = reader.quotes()?;
                return self.text(start, end, Spelling::Quoted).map(Some);
            }
            _ => {
                let (prefix, is_text) = match code {
                    op::SHORT_BINUNICODE => (1, true),
                    op::BINUNICODE => (4, true),
                    op::BINUNICODE8 => (8, true),
                    // Python 2's strings are text or bytes, depending on their use.
                    op::SHORT_BINSTRING => (1, true),
                    op::BINSTRING => (4, true),
                    op::SHORT_BINBYTES => (1, false),
                    op::BINBYTES => (4, false),
                    op::BINBYTES8 | op::BYTEARRAY8 => (8, false),
                    _ => return Ok(None),
                };
                let length = reader.length(prefix)?;
                let (start, end) = reader.take(length)?;
                return match is_text {
                    true => self.text(start, end, Spelling::Raw),
                    false => self.bytes(start, end),
                }
                .map(Some);
            }
        };
        Ok(Some(value))
    }

    fn text(&mut self, start: usize, end: usize, spelling: Spelling) -> PickleResult<Value> {
        let span = Span {
            start,
            end,
            spelling,
        };
        self.add(Object::Text(span))
    }

    fn bytes(&mut self, start: usize, end: usize) -> PickleResult<Value> {
        let spelling = Spelling::Raw;
        self.add(Object::Bytes(Span {
            start,
            end,
            spelling,
        }))
    }

    fn container(&mut self, code: u8) -> PickleResult {
        let object = match code {
            op::EMPTY_TUPLE => Object::Tuple(Vec::new()),
            op::EMPTY_LIST | op::EMPTY_SET => Object::List(Vec::new()),
            op::EMPTY_DICT => Object::Dict(Vec::new()),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let count = usize::from(code - op::TUPLE1) + 1;
                let from = self.stack.len().checked_sub(count);
                match from.filter(|from| *from >= self.floor()) {
                    Some(from) => {
                        self.afford::<Value>(count)?;
                        Object::Tuple(self.stack.split_off(from))
                    }
                    None => return self.fault("the stack is empty"),
                }
            }
            op::TUPLE => Object::Tuple(self.since_mark()?),
            op::LIST | op::FROZENSET => Object::List(self.since_mark()?),
            op::DICT => {
                let values = self.since_mark()?;
                Object::Dict(self.pairs(&values)?)
            }
            op::APPEND => {
                let value = self.pop()?;
                return self.extend(&[value]);
            }
            op::APPENDS | op::ADDITEMS => {
                let values = self.since_mark()?;
                return self.extend(&values);
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.set_items(&[key, value]);
            }
            op::SETITEMS => {
                let values = self.since_mark()?;
                return self.set_items(&values);
            }
            _ => return self.refuse(code),
        };
        let value = self.add(object)?;
        self.push(value)
    }

    fn refuse(&self, code: u8) -> PickleResult {
        self.fault(match code {
            op::INST | op::OBJ | op::NEWOBJ_EX => {
                "asks for an object of a class; only plain values and numpy arrays are read".into()
            }
            op::PERSID | op::BINPERSID => "refers to something outside of the file".into(),
            op::EXT1 | op::EXT2 | op::EXT4 => "uses a registry of extensions".into(),
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                "refers to a buffer outside of the file".into()
            }
            _ => format!("opcode {code:#04x} is not of a pickle"),
        })
    }

    fn get(&mut self, code: u8) -> PickleResult {
        let index = match code {
            op::GET => self.reader.decimal()?,
            op::BINGET => self.reader.length(1)?,
            _ => self.reader.length(4)?,
        };
        match self.memo.get(index) {
            Some(value) => self.push(value),
            None => self.fault(format!("refers to value {index}, which is not there")),
        }
    }

    fn put(&mut self, code: u8) -> PickleResult {
        let index = match code {
            op::PUT => self.reader.decimal()?,
            op::BINPUT => self.reader.length(1)?,
            op::LONG_BINPUT => self.reader.length(4)?,
            _ => self.memo.len(),
        };
        let value = self.top()?;
        match self.memo.in_order(index) {
            true => self.afford::<Value>(1)?,
            // An entry of a hash map takes a few words more.
            false => self.afford::<[Value; 3]>(1)?,
        }
        self.memo.put(index, value);
        Ok(())
    }

    fn global(&mut self, code: u8) -> PickleResult {
        let (module, name) = if code == op::GLOBAL {
            let module = self.reader.line()?;
            (module, self.reader.line()?)
        } else {
            let name = self.pop()?;
            let module = self.pop()?;
            (self.raw_span(module)?, self.raw_span(name)?)
        };
        let word = |(start, end): (usize, usize)| {
            std::str::from_utf8(&self.file[start..end]).unwrap_or("?")
        };
        let (module, name) = (word(module), word(name));
        match Known::find(module, name) {
            Some(known) => self.push(Value::Known(known)),
            None => {
                let full: String = format!("{module}.{name}").chars().take(100).collect();
                self.fault(format!(
                    "asks for {full:?}; only plain values and numpy arrays are read, nothing is run"
                ))
            }
        }
    }

    fn raw_span(&self, value: Value) -> PickleResult<(usize, usize)> {
        match self.heap.object(value) {
            Some(Object::Text(span)) if span.spelling == Spelling::Raw => {
                Ok((span.start, span.end))
            }
            _ => self.fault("a name that is no text"),
        }
    }

    /// A short text, such as the name of a type.
    pub(super) fn word(&self, value: Value) -> Option<String> {
        match self.heap.object(value)? {
            Object::Text(span) | Object::Bytes(span) if span.end - span.start <= 64 => {
                let text = match span.spelling {
                    Spelling::Latin1 | Spelling::EscapedLatin1 => {
                        let bytes = spelling::bytes(self.file, *span)?;
                        return bytes
                            .is_ascii()
                            .then(|| bytes.iter().map(|b| char::from(*b)).collect());
                    }
                    _ => spelling::text(self.file, *span)?,
                };
                Some(text.into_owned())
            }
            _ => None,
        }
    }
}
