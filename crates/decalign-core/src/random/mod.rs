//! Seeded, counter-based random numbers.
//!
//! A [`Stream`] is named by a seed and a stream number; its numbers are a pure function of both
//! and of the position, so a backward pass can draw again what its forward pass drew, and any
//! thread can start anywhere. The generator is ChaCha8.

use candle_core::{Device, Shape, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod chacha;
mod choices;

pub use choices::{Bits, Choices};

/// One of many independent sequences of random numbers of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    seed: u64,
    stream: u64,
}

impl Stream {
    /// Stream number `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed, stream }
    }

    /// A stream derived from this one: distinct numbers give independent streams.
    pub fn child(self, number: u64) -> Self {
        // SplitMix64's finaliser: neighbours become unrelated.
        let mut z = self.stream ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self {
            seed: self.seed,
            stream: z ^ (z >> 31),
        }
    }

    /// A generator at the start of the stream.
    pub fn generator(self) -> ChaCha8Rng {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        generator.set_stream(self.stream);
        generator
    }

    /// The generator's key, for kernels that draw the same numbers.
    pub(crate) fn key(self) -> [u64; 4] {
        let seed = self.generator().get_seed();
        let word = |i: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&seed[8 * i..8 * i + 8]);
            u64::from_le_bytes(bytes)
        };
        [word(0), word(1), word(2), word(3)]
    }

    /// The number of the stream.
    pub(crate) fn number(self) -> u64 {
        self.stream
    }

    /// `n` numbers from the uniform distribution on [low, high).
    pub fn uniform(self, n: usize, low: f64, high: f64) -> Vec<f64> {
        let mut generator = self.generator();
        (0..n)
            .map(|_| low + (high - low) * unit(&mut generator))
            .collect()
    }

    /// `n` numbers from the normal distribution with mean 0 and standard deviation 1.
    pub fn normal(self, n: usize) -> Vec<f64> {
        let mut generator = self.generator();
        let mut numbers = Vec::with_capacity(n + 1);
        while numbers.len() < n {
            // Box and Muller (1958): two uniforms make two normals.
            let radius = (-2.0 * (1.0 - unit(&mut generator)).ln()).sqrt();
            let angle = std::f64::consts::TAU * unit(&mut generator);
            numbers.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        numbers.truncate(n);
        numbers
    }

    /// A tensor of such numbers in f64, on the CPU.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn normal_tensor(self, shape: impl Into<Shape>) -> crate::Result<Tensor> {
        let shape = shape.into();
        Ok(Tensor::from_vec(
            self.normal(shape.elem_count()),
            shape,
            &Device::Cpu,
        )?)
    }

    /// Choices that are true with the given probability, drawn a few at a time.
    pub fn choices(self, probability: f64) -> Choices {
        Choices::new(self, probability)
    }

    /// Calls `f` with `n` [`Stream::choices`] in order.
    #[inline]
    pub fn bernoulli(self, n: usize, probability: f64, f: impl FnMut(usize, bool)) {
        self.choices(probability).each(n, f);
    }
}

/// A number in [0, 1) with 53 random bits.
fn unit(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}
