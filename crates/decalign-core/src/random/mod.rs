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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_children_differ() {
        let stream = Stream::new(7, 3);
        assert_eq!(stream.uniform(5, -1.0, 1.0), stream.uniform(5, -1.0, 1.0));
        assert_ne!(stream.child(0).normal(4), stream.child(1).normal(4));
        assert_ne!(Stream::new(8, 3).normal(4), stream.normal(4));
    }

    #[test]
    fn choices_do_not_depend_on_how_many_are_drawn_at_once() {
        let stream = Stream::new(4, 2);
        for probability in [0.0, 0.25, 1.0] {
            let mut whole = vec![3f32; 1001];
            stream.choices(probability).multiply(&mut whole, 2.0);
            let (mut parts, mut choices) = (vec![3f32; 1001], stream.choices(probability));
            let (mut rest, mut size) = (&mut parts[..], 1);
            while !rest.is_empty() {
                let (part, left) = rest.split_at_mut(size.min(rest.len()));
                choices.multiply(part, 2.0);
                (rest, size) = (left, size * 3);
            }
            assert_eq!(whole, parts);
            stream.bernoulli(1001, probability, |i, hit| assert_eq!(hit, whole[i] == 6.0));
            let hits = whole.iter().filter(|v| **v == 6.0).count() as f64 / 1001.0;
            assert!((hits - probability).abs() < 0.07);
            assert!(whole.iter().all(|v| *v == 6.0 || *v == 0.0));
        }
    }

    #[test]
    fn bits_are_the_choices_from_any_place() {
        let choices = Stream::new(4, 2).choices(0.3);
        let mut whole = vec![1f32; 1700];
        choices.clone().multiply(&mut whole, 1.0);
        let mut bits = Bits::default();
        for (first, rows, length) in [(0, 3, 16), (31, 2, 94), (513, 6, 100), (1000, 1, 700)] {
            choices.bits(first..first + rows * length, &mut bits);
            let mut of_rows = Vec::new();
            bits.rows::<6>(first, (rows, length), &mut of_rows);
            for (row, i) in (0..rows).flat_map(|row| (0..length).map(move |i| (row, i))) {
                let bit = of_rows[i / 16][row] >> (i % 16) & 1;
                assert_eq!(bit == 1, whole[first + row * length + i] == 1.0);
            }
        }
    }

    #[test]
    fn moments_are_right() {
        // Bounds of five standard errors.
        let n = 100_000;
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let normal = Stream::new(1, 0).normal(n);
        let squares: Vec<f64> = normal.iter().map(|v| v * v).collect();
        assert!(mean(&normal).abs() < 0.016 && (mean(&squares) - 1.0).abs() < 0.023);
        let uniform = Stream::new(1, 1).uniform(n, 2.0, 4.0);
        assert!((mean(&uniform) - 3.0).abs() < 0.01);
        assert!(uniform.iter().all(|v| (2.0..4.0).contains(v)));
        let (mut hits, mut seen) = (0, 0);
        Stream::new(1, 2).bernoulli(n, 0.3, |i, hit| {
            assert_eq!(i, seen);
            seen += 1;
            hits += usize::from(hit);
        });
        assert!(seen == n && (hits as f64 / n as f64 - 0.3).abs() < 0.0073);
    }
}
