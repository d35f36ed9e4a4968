//! Random numbers.

use decalign_core::random::{Bits, Stream};

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
