//! A source in the kernel language, with what it is specialised to.

use std::fmt::Write;

use candle_core::DType;

use crate::{Error, Result};

/// A language that kernels are translated to, by the macros before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// CUDA C++, for NVRTC.
    Cuda,
    /// The Metal shading language.
    Metal,
    /// C++ 17, for the emulator.
    Emulator,
}

impl Language {
    fn prelude(self) -> &'static str {
        match self {
            Self::Cuda => include_str!("prelude/cuda.h"),
            Self::Metal => include_str!("prelude/metal.h"),
            Self::Emulator => include_str!("prelude/emulator.hpp"),
        }
    }
}

/// Kernels of one source, specialised to an element type, to constants and to a number of lanes a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    name: &'static str,
    sources: Vec<&'static str>,
    dtype: DType,
    constants: Vec<(&'static str, usize)>,
    lanes: usize,
}

impl Program {
    /// `source`, with `REAL` the element type; 128 lanes.
    ///
    /// # Errors
    /// When `dtype` is neither f32 nor f64.
    pub fn new(name: &'static str, source: &'static str, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(Error::tensor(name, "dtype f32 or f64", dtype));
        }
        Ok(Self {
            name,
            sources: vec![source],
            dtype,
            constants: Vec::new(),
            lanes: 128,
        })
    }

    /// Puts `source` before what is there.
    pub fn after(mut self, source: &'static str) -> Self {
        self.sources.insert(0, source);
        self
    }

    /// Puts before the source what multiplies tables of 16-bit numbers, bf16 or f16 as `dtype` says, by a warp at a time: see
    /// prelude/mma.h. `REAL` stays what sums are of.
    pub fn with_tables(self, dtype: DType) -> Self {
        self.after(include_str!("prelude/mma.h"))
            .constant("BFLOAT", usize::from(dtype == DType::BF16))
    }

    /// Defines `name` as a number.
    pub fn constant(mut self, name: &'static str, value: usize) -> Self {
        self.constants.push((name, value));
        self
    }

    /// The lanes of a group: a multiple of 32, up to 1024.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.clamp(1, 1024).next_multiple_of(32);
        self
    }

    /// Lanes a group.
    pub fn group_size(&self) -> usize {
        self.lanes
    }

    /// The type of `REAL`.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// What tells programs apart without looking at their texts: where these lie, and the numbers that go into them.
    // CUDA looks its functions up by it.
    #[allow(dead_code)]
    pub(super) fn identity(&self) -> Vec<usize> {
        let place = |text: &'static str| [text.as_ptr() as usize, text.len()];
        let mut identity =
            Vec::with_capacity(8 + 2 * self.sources.len() + 3 * self.constants.len());
        identity.extend([self.lanes, self.dtype.size_in_bytes()]);
        identity.extend(self.sources.iter().flat_map(|text| place(text)));
        // Whatever follows are names and numbers in turn.
        identity.push(0);
        for (name, value) in &self.constants {
            identity.extend(place(name));
            identity.push(*value);
        }
        identity
    }

    /// A name for files and errors, with all that the program is specialised to.
    pub fn title(&self) -> String {
        let mut title = format!("{}-{}", self.name, self.dtype.as_str());
        for (name, value) in &self.constants {
            let _ = write!(title, "-{}{value}", name.to_lowercase());
        }
        title
    }

    /// The whole text for a compiler.
    pub fn text(&self, language: Language) -> String {
        let real = match self.dtype {
            DType::F64 => "double",
            _ => "float",
        };
        let mut text = String::new();
        let _ = writeln!(text, "#define REAL {real}");
        let _ = writeln!(text, "#define REAL_BITS {}", 8 * self.dtype.size_in_bytes());
        let _ = writeln!(text, "#define LANES {}u", self.lanes);
        for (name, value) in &self.constants {
            let _ = writeln!(text, "#define {name} {value}u");
        }
        text.push_str(language.prelude());
        text.push_str(include_str!("prelude/common.h"));
        for source in &self.sources {
            text.push_str(source);
            text.push('\n');
        }
        if language == Language::Emulator {
            text.push_str("int main() { return emulator::serve(); }\n");
        }
        text
    }

    /// The functions of the source and how many parameters each has.
    ///
    /// # Errors
    /// When the indices of a function's parameters are not 0, 1, 2 and so on.
    pub fn functions(&self) -> Result<Vec<(&'static str, usize)>> {
        let mut all = Vec::new();
        for source in &self.sources {
            for text in source.split("KERNEL(").skip(1) {
                let head = text.split('{').next().unwrap_or_default();
                let name = head.split(',').next().unwrap_or_default().trim();
                let indices = head.split('(').skip(1).map(|p| p.split(',').next());
                let mut count = 0;
                for index in indices {
                    if index != Some(count.to_string().as_str()) {
                        let got = index.unwrap_or_default();
                        let remedy = format!("parameter {count} must have its position");
                        return Err(Error::value(
                            format!("index in {} {name}", self.name),
                            got,
                            remedy,
                        ));
                    }
                    count += 1;
                }
                all.push((name, count));
            }
        }
        Ok(all)
    }
}
