//! One launch of a kernel. `backend` runs it.

// Only the runtimes read what a launch holds, and a program may be built without any.
#![allow(dead_code)]

use candle_core::{DType, Tensor};

use super::memory::Memory;
use super::program::Program;
use crate::{Error, Result};

/// A launch of a function of a [`Program`]: groups of lanes, and arguments in the order of the
/// function's parameters.
pub struct Launch<'a> {
    pub(super) program: &'a Program,
    pub(super) function: &'static str,
    pub(super) groups: usize,
    /// Bytes of shared memory beside what the source declares by size.
    pub(super) large: usize,
    pub(super) arguments: Vec<Argument<'a>>,
}

/// An argument of a launch.
pub(super) enum Argument<'a> {
    /// Contiguous.
    Input(Tensor),
    Output(&'a mut Memory),
    /// Contiguous; written in place.
    Update(Tensor),
    Value(Value),
    /// Of the program's type, where a kernel reads and writes nothing.
    Nothing {
        access: Access,
    },
}

/// What a kernel does with a tensor.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
    Update,
}

/// A number that a kernel gets.
#[derive(Clone, Copy)]
pub(super) enum Value {
    F32(f32),
    F64(f64),
    U32(u32),
    U64(u64),
}

impl<'a> Launch<'a> {
    /// A launch of `function` with so many groups.
    pub fn new(program: &'a Program, function: &'static str, groups: usize) -> Self {
        Self {
            program,
            function,
            groups,
            large: 0,
            arguments: Vec::new(),
        }
    }

    /// How many bytes the kernel's `SHARED_LARGE` has.
    pub fn large(mut self, bytes: usize) -> Self {
        self.large = bytes;
        self
    }

    /// A tensor to read; a strided one is copied first.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn input(mut self, x: &Tensor) -> Result<Self> {
        self.arguments
            .push(Argument::Input(x.detach().contiguous()?));
        Ok(self)
    }

    /// A tensor to read, or nothing for a parameter that this launch does not read.
    ///
    /// # Errors
    /// As [`Launch::input`].
    pub fn input_or_none(mut self, x: Option<&Tensor>) -> Result<Self> {
        if let Some(x) = x {
            return self.input(x);
        }
        self.arguments.push(Argument::Nothing {
            access: Access::Read,
        });
        Ok(self)
    }

    /// No memory for a parameter that this launch does not write.
    pub fn no_output(mut self) -> Self {
        self.arguments.push(Argument::Nothing {
            access: Access::Write,
        });
        self
    }

    /// Memory to write.
    pub fn output(mut self, memory: &'a mut Memory) -> Self {
        self.arguments.push(Argument::Output(memory));
        self
    }

    /// A tensor to read and write in place, such as a variable. No other argument may share its elements, and no graph
    /// that needs its numbers as they were.
    ///
    /// # Errors
    /// When it is strided.
    pub fn update(mut self, x: &Tensor) -> Result<Self> {
        if !x.is_contiguous() {
            return Err(Error::tensor("tensor to update", "contiguous", x.layout()));
        }
        self.arguments.push(Argument::Update(x.detach()));
        Ok(self)
    }

    /// [`Launch::update`], or nothing for a parameter that this launch does not update.
    ///
    /// # Errors
    /// As [`Launch::update`].
    pub fn update_or_none(mut self, x: Option<&Tensor>) -> Result<Self> {
        if let Some(x) = x {
            return self.update(x);
        }
        self.arguments.push(Argument::Nothing {
            access: Access::Update,
        });
        Ok(self)
    }

    /// A number of the program's element type.
    pub fn real(mut self, value: f64) -> Self {
        let value = match self.program.dtype() {
            DType::F64 => Value::F64(value),
            _ => Value::F32(value as f32),
        };
        self.arguments.push(Argument::Value(value));
        self
    }

    /// A `uint`: a size or a count.
    ///
    /// # Errors
    /// When it does not fit 32 bits.
    pub fn count(mut self, value: usize) -> Result<Self> {
        let value = u32::try_from(value).map_err(|_| {
            let remedy = "must be below 2^32 on a device: take smaller batches";
            Error::value(format!("size for {}", self.function), value, remedy)
        })?;
        self.arguments.push(Argument::Value(Value::U32(value)));
        Ok(self)
    }

    /// A `ulong`.
    pub fn long(mut self, value: u64) -> Self {
        self.arguments.push(Argument::Value(Value::U64(value)));
        self
    }
}

/// The error of an argument that lies on another device.
pub(super) fn elsewhere() -> Error {
    Error::value("argument", "on another device", "move all tensors to one")
}
