//! Distributions of relabellings.

use decalign_core::random::Stream;

use super::super::relabelling::{Relabelling, choose};

#[test]
fn every_choice_is_as_likely() {
    // 10,000 draws over the 10 choices of 2 from 5: 1000 expected each, five standard errors are 150.
    let mut counts = std::collections::BTreeMap::new();
    for b in 0..10_000 {
        let mut chosen = choose(5, 2, Stream::new(3, 1).child(b));
        chosen.sort_unstable();
        *counts.entry(chosen).or_insert(0i32) += 1;
    }
    assert_eq!(counts.len(), 10);
    assert!(
        counts.values().all(|c| (c - 1000).abs() < 150),
        "{counts:?}"
    );
}

#[test]
fn vectors_hold_what_they_say() {
    for sizes in [(3, 7), (7, 3), (4, 4)] {
        for number in 0..20 {
            let v: Vec<f64> = Relabelling::Permutations.vector(sizes, 1, number);
            let ones = v.iter().filter(|v| **v == 1.0).count();
            assert_eq!((v.len(), ones), (10.min(sizes.0 + sizes.1), sizes.0));
            assert!(v.iter().sum::<f64>().abs() < 1e-12);
        }
    }
    let lagged: Vec<f64> = Relabelling::Process { lag: 20.0 }.vector((1000, 1000), 1, 1);
    let products = |by: usize| {
        let w = &lagged[..1000];
        w.iter().zip(&w[by..]).map(|(a, b)| a * b).sum::<f64>()
    };
    assert!((products(1) / products(0) - (-1.0f64 / 20.0).exp()).abs() < 0.03);
    assert!(lagged[..1000].iter().sum::<f64>().abs() < 1e-9);
}
