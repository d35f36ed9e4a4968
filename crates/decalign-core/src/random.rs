//! Seeded, counter-based random numbers.
//!
//! A [`Stream`] is named by a seed and a stream number; its numbers are a pure function of both
//! and of the position, so a backward pass can draw again what its forward pass drew, and any
//! thread can start anywhere. The generator is ChaCha8.

use candle_core::{Device, Shape, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Real;
use crate::simd::{self, Isa, Kernel};

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
        Choices {
            generator: self.generator(),
            below: (probability.clamp(0.0, 1.0) * 65_536.0).round() as u32,
            spare: None,
        }
    }

    /// Calls `f` with `n` [`Stream::choices`] in order.
    #[inline]
    pub fn bernoulli(self, n: usize, probability: f64, mut f: impl FnMut(usize, bool)) {
        let mut choices = self.choices(probability);
        let mut numbers = [[0; 2]; BLOCK];
        for start in (0..n).step_by(BLOCK) {
            let numbers = &mut numbers[..BLOCK.min(n - start)];
            choices.draw(numbers);
            for (i, number) in numbers.iter().enumerate() {
                f(start + i, is_below(*number, choices.below));
            }
        }
    }
}

/// See [`Stream::choices`]. A choice costs 16 random bits, so that probabilities are within 2^-17 of what was asked.
#[derive(Clone, Debug)]
pub struct Choices {
    generator: ChaCha8Rng,
    below: u32,
    /// The generator gives two numbers at a time.
    spare: Option<Number>,
}

impl Choices {
    /// The next numbers of the stream, one a choice: the same however many are drawn at once.
    pub fn draw(&mut self, numbers: &mut [Number]) {
        if numbers.is_empty() {
            return;
        }
        let (spare, numbers) = numbers.split_at_mut(usize::from(self.spare.is_some()));
        if let ([first], Some(number)) = (spare, self.spare.take()) {
            *first = number;
        }
        let (pairs, last) = numbers.split_at_mut(numbers.len() / 2 * 2);
        self.generator.fill_bytes(pairs.as_flattened_mut());
        if let [last] = last {
            let [a, b, c, d] = self.generator.next_u32().to_le_bytes();
            (*last, self.spare) = ([a, b], Some([c, d]));
        }
    }

    /// A choice is true when its number is below this, of 2^16.
    pub fn below(&self) -> u32 {
        self.below
    }

    /// Draws as many choices as there are numbers: each is multiplied by `on` where its choice is true, else by 0.
    pub fn multiply<T: Real>(&mut self, x: &mut [T], on: T) {
        let mut numbers = [[0; 2]; BLOCK];
        for x in x.chunks_mut(BLOCK) {
            let numbers = &mut numbers[..x.len()];
            self.draw(numbers);
            let below = self.below;
            simd::dispatch(Multiply {
                x,
                numbers,
                below,
                on,
            });
        }
    }
}

/// 16 random bits, in the order of bytes of the stream.
pub type Number = [u8; 2];

/// Whether a number is below a bound.
#[inline(always)]
pub fn is_below(number: Number, bound: u32) -> bool {
    u32::from(u16::from_le_bytes(number)) < bound
}

/// See [`Choices::multiply`].
struct Multiply<'a, T> {
    x: &'a mut [T],
    numbers: &'a [Number],
    below: u32,
    on: T,
}

impl<T: Real> Kernel for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for (x, number) in self.x.iter_mut().zip(self.numbers) {
            *x *= T::kept(self.on, is_below(*number, self.below));
        }
    }
}

/// Choices drawn at once.
const BLOCK: usize = 256;

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
