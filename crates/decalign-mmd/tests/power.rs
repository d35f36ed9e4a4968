//! Power: the estimate, tests of drawn samples, and fresh simulations agree.

#![allow(clippy::unwrap_used)]

mod common;

use common::normal;
use decalign_core::Result;
use decalign_mmd::{Estimator, Kernel, PermutationTest, Power, Resampling};

fn gaussian(l: f64) -> Kernel {
    Kernel::gaussian_length_scale(l).unwrap()
}

fn permutations(estimator: Estimator, resampling: Resampling) -> PermutationTest {
    PermutationTest::new(gaussian(1.0), estimator, resampling)
}

#[test]
fn power_is_that_of_simulated_tests() -> Result<()> {
    // From samples of 300, for tests of 30 and 40, against fresh samples.
    let settings = Resampling::seeded(3).draws(299);
    let shift = 0.55;
    let (x, y) = (normal(&[300, 2], 1), (normal(&[300, 2], 2) + shift)?);
    let power = Power::new(gaussian(1.0), &x, &y, settings)?;
    let (n, m, repeats) = (30, 40, 200);
    let mut rejected = 0;
    let mut statistics = Vec::new();
    for i in 0..repeats {
        let (x, y) = (
            normal(&[n, 2], 10 + 2 * i),
            (normal(&[m, 2], 11 + 2 * i) + shift)?,
        );
        let test = permutations(Estimator::Unbiased, Resampling::seeded(i).draws(99));
        let found = test.test(&x, &y)?;
        rejected += usize::from(found.rejected);
        statistics.push(found.statistic);
    }
    let fresh = rejected as f64 / repeats as f64;
    let said = power.at(n, m);
    assert!((0.3..0.98).contains(&fresh), "{fresh}");
    assert!((said - fresh).abs() < 0.12, "{said} {fresh}");
    let count = repeats as f64;
    let mean = statistics.iter().sum::<f64>() / count;
    let spread = statistics.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let ratio = power.variance(n, m) / spread;
    assert!((0.6..1.6).contains(&ratio), "{ratio}");
    // And from the given samples.
    let test = permutations(Estimator::Unbiased, Resampling::seeded(1).draws(99));
    let drawn = test.simulated_power(&x, &y, (n, m), 100)?;
    assert!(
        (drawn.power - said).abs() < 0.15,
        "{drawn:?} {said} {fresh}"
    );
    assert!(drawn.standard_error < 0.051);
    let size = power.sample_size(0.8)?;
    assert!(power.at(size, size) >= 0.8 && power.at(size - 1, size - 1) < 0.8);
    assert!((25..80).contains(&size), "{size}");
    // The same distribution is rejected about as often as the level says.
    let none = Power::new(gaussian(1.0), &x, &normal(&[300, 2], 5), settings)?;
    assert!(none.at(300, 300) < 0.35, "{}", none.at(300, 300));
    Ok(())
}
