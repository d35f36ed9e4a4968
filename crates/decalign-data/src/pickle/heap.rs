//! Values of a pickle, and the objects that several values may share.

use crate::array::Element;

/// A value: stored inline where it is small, else an index into the heap, which others may share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Known(Known),
    Object(u32),
}

/// Names that a pickle may refer to. Nothing is executed: each selects the object that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    NdArray,
    DType,
    Reconstruct,
    FromBuffer,
    Scalar,
    Encode,
    Bytes,
    Dict,
    DefaultDict,
    List,
    Set,
    Tuple,
}

impl Known {
    /// The meaning of a name, if it is known. numpy 2 moved its modules.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::DType,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Self::Reconstruct
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("_codecs", "encode") => Self::Encode,
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Self::Bytes,
            ("builtins" | "__builtin__", "dict") | ("collections", "OrderedDict") => Self::Dict,
            ("collections", "defaultdict") => Self::DefaultDict,
            ("builtins" | "__builtin__", "list") => Self::List,
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::Set,
            ("builtins" | "__builtin__", "tuple") => Self::Tuple,
            _ => return None,
        })
    }
}

/// The encoding of a string in the file. Strings are decoded on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The bytes of the string.
    Raw,
    /// UTF-8 whose characters are the bytes: the encoding of bytes in protocols 0 to 2.
    Latin1,
    /// As a raw unicode escape, protocol 0.
    Escaped,
    /// Both.
    EscapedLatin1,
    /// Between quotes, with backslashes, protocol 0 of Python 2.
    Quoted,
}

/// A string in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) spelling: Spelling,
}

/// An object that values may share.
#[derive(Debug)]
pub(super) enum Object {
    Text(Span),
    Bytes(Span),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    DType(DType),
    Array(Box<Elements>),
}

/// A dtype under construction.
#[derive(Clone, Copy, Debug)]
pub(super) enum DType {
    Plain(Element),
    Objects,
}

/// An array, or a placeholder until its state is set.
#[derive(Debug)]
pub(super) enum Elements {
    Awaited,
    Plain {
        span: Span,
        element: Element,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
    },
    /// The values lie in a list or tuple.
    Objects {
        shape: Vec<usize>,
        list: u32,
    },
}

/// All objects of a pickle, and the memory that they may still take.
#[derive(Debug)]
pub(super) struct Heap {
    objects: Vec<(Object, usize)>,
    left: usize,
}

/// The memory in bytes that a pickle of any size may take.
const ALLOWANCE: usize = 16 << 20;
/// Bytes of memory that each byte of the file justifies. A small integer in a list takes two bytes in the file and 16 in
/// memory, in a vector with up to twice the capacity.
const JUSTIFIED: usize = 16;

impl Heap {
    pub(super) fn new(file: usize) -> Self {
        Self {
            objects: Vec::new(),
            left: ALLOWANCE.saturating_add(file.saturating_mul(JUSTIFIED)),
        }
    }

    /// Accounts for `count` values of type `T`, spare capacity of vectors included; `false` when the file does not justify
    /// the memory.
    pub(super) fn take<T>(&mut self, count: usize) -> bool {
        let cost = count.saturating_mul(2 * size_of::<T>());
        let enough = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        enough
    }

    /// Adds an object that the opcode at byte `at` creates.
    pub(super) fn add(&mut self, object: Object, at: usize) -> Option<Value> {
        let id = u32::try_from(self.objects.len()).ok()?;
        if !self.take::<(Object, usize)>(1) {
            return None;
        }
        self.objects.push((object, at));
        Some(Value::Object(id))
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The object of an identifier that this heap gave.
    pub(super) fn get(&self, id: u32) -> &Object {
        &self.objects[id as usize].0
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut Object {
        &mut self.objects[id as usize].0
    }

    /// The byte of the opcode that created an object.
    pub(super) fn place(&self, id: u32) -> usize {
        self.objects[id as usize].1
    }

    /// The object of a value that is not inline.
    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(id) => Some(self.get(id)),
            _ => None,
        }
    }

    /// The values of a tuple or list.
    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.object(value) {
            Some(Object::Tuple(items) | Object::List(items)) => Some(items),
            _ => None,
        }
    }
}
