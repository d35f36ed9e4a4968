//! The objects in place of the calls in a pickle. Nothing is called.

use super::heap::{DType, Elements, Known, Object, Span, Spelling, Value};
use super::machine::{Machine, PickleResult};
use super::spelling;
use crate::array::{Element, ElementKind, c_strides, fortran_strides, size_of};

/// The memory order of an array.
enum Order {
    C,
    Fortran,
    /// C order, then a permutation of the axes.
    Transposed(Value),
}

/// The largest number of dimensions in numpy.
const DIMENSIONS: usize = 64;

impl Machine<'_> {
    /// The object of a call of `callable` with a tuple of arguments.
    pub(super) fn reduce(&mut self, callable: Value, arguments: Value) -> PickleResult<Value> {
        let Value::Known(known) = callable else {
            return self.fault("calls something that is no name");
        };
        let Some(Object::Tuple(arguments)) = self.heap.object(arguments) else {
            return self.fault("calls without a tuple of arguments");
        };
        // No known callable takes more than six.
        let mut held = [Value::None; 6];
        let count = arguments.len();
        if count > held.len() {
            return self.fault(format!("calls with {count} arguments"));
        }
        held[..count].copy_from_slice(arguments);
        self.call(known, &held[..count])
    }

    /// As [`Self::reduce`], for classes.
    pub(super) fn create(&mut self, class: Value, arguments: Value) -> PickleResult<Value> {
        self.reduce(class, arguments)
    }

    fn call(&mut self, known: Known, arguments: &[Value]) -> PickleResult<Value> {
        match (known, arguments) {
            (Known::Reconstruct, [Value::Known(Known::NdArray), ..]) => {
                self.add(Object::Array(Box::new(Elements::Awaited)))
            }
            (Known::DType, [name, ..]) => self.dtype(*name),
            (Known::FromBuffer, [buffer, dtype, shape, order, axes @ ..]) => {
                let order = match (self.word(*order).as_deref(), axes) {
                    (Some("C"), [] | [Value::None]) => Order::C,
                    (Some("F"), [] | [Value::None]) => Order::Fortran,
                    (Some("K"), [axes]) => Order::Transposed(*axes),
                    _ => return self.fault("an array of a memory order that is none"),
                };
                let elements = self.elements(*shape, *dtype, order, *buffer)?;
                self.add(Object::Array(Box::new(elements)))
            }
            (Known::Scalar, [dtype, value]) => self.numpy_scalar(*dtype, *value),
            (Known::Encode, [text, encoding]) => match self.word(*encoding).as_deref() {
                Some("latin1" | "latin-1") => self.encoded(*text),
                _ => self.fault("bytes in an encoding that is not latin1"),
            },
            (Known::Bytes, [text, encoding]) if self.word(*encoding).is_some() => {
                self.encoded(*text)
            }
            (Known::Bytes, [bytes]) if self.span(*bytes).is_some() => Ok(*bytes),
            (Known::Bytes, []) => self.add(Object::Bytes(Span {
                start: 0,
                end: 0,
                spelling: Spelling::Raw,
            })),
            (Known::Dict | Known::DefaultDict, []) | (Known::DefaultDict, [_]) => {
                self.add(Object::Dict(Vec::new()))
            }
            (Known::Dict, [pairs]) => self.dict(*pairs),
            (Known::List | Known::Set, []) => self.add(Object::List(Vec::new())),
            (Known::Tuple, []) => self.add(Object::Tuple(Vec::new())),
            (Known::List | Known::Set | Known::Tuple, [items]) => match self.heap.items(*items) {
                Some(items) => {
                    let items = items.to_vec();
                    self.afford::<Value>(items.len())?;
                    self.add(match known {
                        Known::Tuple => Object::Tuple(items),
                        _ => Object::List(items),
                    })
                }
                None => self.fault("a list of something that is none"),
            },
            _ => self.fault(format!(
                "calls {known:?} in a way that numpy and Python do not write"
            )),
        }
    }

    fn span(&self, value: Value) -> Option<Span> {
        match self.heap.object(value) {
            Some(Object::Bytes(span)) => Some(*span),
            // Python 2's strings are bytes.
            Some(Object::Text(span))
                if matches!(span.spelling, Spelling::Raw | Spelling::Quoted) =>
            {
                Some(*span)
            }
            _ => None,
        }
    }

    /// The bytes of a text in which each character is a byte.
    fn encoded(&mut self, text: Value) -> PickleResult<Value> {
        let span = match self.heap.object(text) {
            Some(Object::Text(span)) => *span,
            _ => return self.fault("bytes of something that is no text"),
        };
        let spelling = match span.spelling {
            Spelling::Raw => Spelling::Latin1,
            Spelling::Escaped => Spelling::EscapedLatin1,
            other => other,
        };
        self.add(Object::Bytes(Span { spelling, ..span }))
    }

    fn dict(&mut self, pairs: Value) -> PickleResult<Value> {
        let Some(items) = self.heap.items(pairs) else {
            return match self.heap.object(pairs) {
                Some(Object::Dict(_)) => Ok(pairs),
                _ => self.fault("a dictionary of something that is no list of pairs"),
            };
        };
        let pair = |item: &Value| match self.heap.items(*item) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        };
        match items.iter().map(pair).collect::<Option<Vec<_>>>() {
            Some(pairs) => {
                self.afford::<[Value; 2]>(pairs.len())?;
                self.add(Object::Dict(pairs))
            }
            None => self.fault("a dictionary of something that is no pair"),
        }
    }

    fn dtype(&mut self, name: Value) -> PickleResult<Value> {
        let Some(name) = self.word(name) else {
            return self.fault("a type of elements without a name");
        };
        let dtype = match (name.as_str(), Element::parse(&name)) {
            ("O8" | "O4" | "O" | "|O", _) => DType::Objects,
            (_, Some(element)) => DType::Plain(element),
            _ => {
                return self.fault(format!(
                    "an array of {name:?}; numbers, strings and plain values are read"
                ));
            }
        };
        self.add(Object::DType(dtype))
    }

    /// Sets the state of an object that [`Self::reduce`] created.
    pub(super) fn build(&mut self, target: Value, state: Value) -> PickleResult {
        let Value::Object(id) = target else {
            return self.fault("sets the state of something that has none");
        };
        let state = self.heap.items(state).unwrap_or_default();
        match (self.heap.get(id), state) {
            (Object::DType(dtype), [_, order, subtype, names, fields, size, ..]) => {
                let plain = [subtype, names, fields].iter().all(|v| **v == Value::None);
                let (dtype, order, size) = (*dtype, *order, *size);
                if !plain {
                    return self
                        .fault("an array of records; numbers, strings and plain values are read");
                }
                let built = self.ordered(dtype, order, size)?;
                *self.heap.get_mut(id) = Object::DType(built);
                Ok(())
            }
            (Object::Array(elements), [.., shape, dtype, Value::Bool(fortran), data])
                if matches!(**elements, Elements::Awaited) && (4..=5).contains(&state.len()) =>
            {
                let (shape, dtype, fortran, data) = (*shape, *dtype, *fortran, *data);
                let order = if fortran { Order::Fortran } else { Order::C };
                let elements = self.elements(shape, dtype, order, data)?;
                *self.heap.get_mut(id) = Object::Array(Box::new(elements));
                Ok(())
            }
            _ => self.fault("sets a state that is not that of a numpy array"),
        }
    }

    fn ordered(&self, dtype: DType, order: Value, size: Value) -> PickleResult<DType> {
        let DType::Plain(mut element) = dtype else {
            return Ok(dtype);
        };
        element.big_endian = match self.word(order).as_deref() {
            Some(">") => true,
            Some("<" | "|" | "=") => false,
            _ => return self.fault("a type of elements without a byte order"),
        };
        // The size of strings; -1 for numbers.
        match (element.kind, size) {
            (ElementKind::Text | ElementKind::Bytes, Value::Int(size)) => {
                match usize::try_from(size) {
                    Ok(size) if element.kind == ElementKind::Bytes || size % 4 == 0 => {
                        element.size = size
                    }
                    _ => return self.fault(format!("strings of {size} bytes")),
                }
            }
            (_, Value::Int(-1)) => {}
            (_, Value::Int(size)) if usize::try_from(size) == Ok(element.size) => {}
            _ => return self.fault("a type of elements of another size than its own"),
        }
        Ok(DType::Plain(element))
    }

    fn elements(
        &self,
        shape: Value,
        dtype: Value,
        order: Order,
        data: Value,
    ) -> PickleResult<Elements> {
        let shape = self.shape(shape)?;
        let Some(Object::DType(dtype)) = self.heap.object(dtype) else {
            return self.fault("an array without a type of elements");
        };
        let element = match *dtype {
            DType::Plain(element) => element,
            DType::Objects => return self.objects(shape, data),
        };
        let Some(span) = self.span(data) else {
            return self.fault("an array without its bytes");
        };
        let expected = size_of(&shape, element);
        let there = span.end - span.start;
        let fits = match span.spelling {
            Spelling::Raw => expected == Some(there),
            // A lower bound: decoding determines the number of bytes.
            _ => expected.is_some_and(|expected| expected <= there),
        };
        if !fits {
            return self.fault(format!("an array {shape:?} of {element} on {there} bytes"));
        }
        let (shape, strides) = match order {
            Order::C => (shape, None),
            Order::Fortran => {
                let strides = fortran_strides(&shape);
                (shape, Some(strides))
            }
            Order::Transposed(axes) => self.transposed(&shape, axes)?,
        };
        Ok(Elements::Plain {
            span,
            element,
            shape,
            strides,
        })
    }

    /// The shape and strides of an array in C order after a permutation of its axes.
    fn transposed(
        &self,
        shape: &[usize],
        axes: Value,
    ) -> PickleResult<(Vec<usize>, Option<Vec<usize>>)> {
        let axes = self.shape(axes)?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..shape.len()) {
            return self.fault("an array whose axes are in an order that is none");
        }
        let strides = c_strides(shape);
        let strides = axes.iter().map(|axis| strides[*axis]).collect();
        Ok((
            axes.iter().map(|axis| shape[*axis]).collect(),
            Some(strides),
        ))
    }

    fn shape(&self, shape: Value) -> PickleResult<Vec<usize>> {
        let one = [shape];
        let dims = self.heap.items(shape).unwrap_or(&one);
        if dims.len() > DIMENSIONS {
            return self.fault(format!("an array of {} dimensions", dims.len()));
        }
        let dim = |value: &Value| match value {
            Value::Int(dim) => usize::try_from(*dim).ok(),
            _ => None,
        };
        match dims.iter().map(dim).collect() {
            Some(shape) => Ok(shape),
            None => self.fault("an array of a shape that is none"),
        }
    }

    fn objects(&self, shape: Vec<usize>, data: Value) -> PickleResult<Elements> {
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let (Value::Object(list), Some(items)) = (data, self.heap.items(data)) else {
            return self.fault("an array of objects without a list of them");
        };
        match Some(items.len()) == count {
            true => Ok(Elements::Objects { shape, list }),
            false => self.fault(format!("an array {shape:?} of {} objects", items.len())),
        }
    }

    fn numpy_scalar(&mut self, dtype: Value, value: Value) -> PickleResult<Value> {
        let element = match self.heap.object(dtype) {
            Some(Object::DType(DType::Objects)) => return Ok(value),
            Some(Object::DType(DType::Plain(element))) => *element,
            _ => return self.fault("a number without a type"),
        };
        let Some(span) = self.span(value) else {
            return self.fault("a number without its bytes");
        };
        // A number takes at most 16 bytes; a string stays an array of zero dimensions.
        if element.is_text() || span.end - span.start > 64 {
            let elements = Elements::Plain {
                span,
                element,
                shape: Vec::new(),
                strides: None,
            };
            let there = span.end - span.start;
            let fits = match span.spelling {
                Spelling::Raw => element.size == there,
                _ => element.size <= there,
            };
            return match fits {
                true => self.add(Object::Array(Box::new(elements))),
                false => self.fault("a string of another size than its type's"),
            };
        }
        let bytes = spelling::bytes(self.file, span).map(|b| b.into_owned());
        let array = bytes.and_then(|bytes| {
            crate::array::Array::new(bytes.into(), element, Vec::new(), None).ok()
        });
        let number = array.as_ref().and_then(|array| match element.is_integer() {
            _ if element.kind == ElementKind::Bool => {
                Some(Value::Bool(array.to_i64().ok()?[0] != 0))
            }
            true => Some(Value::Int(array.to_i64().ok()?[0])),
            false => Some(Value::Float(array.to_f64().ok()?[0])),
        });
        match number {
            Some(number) => Ok(number),
            None => self.fault(format!("a number that is not of its type {element}")),
        }
    }
}
