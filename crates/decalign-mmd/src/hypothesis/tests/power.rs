//! The normal distribution function.

use super::super::power::normal;

#[test]
fn the_normal_distribution_function_is_right() {
    let known = [
        (0.0, 0.5),
        (1.0, 0.841_344_746_068_542_9),
        (-1.959_963_984_540_054, 0.025),
        (3.0, 0.998_650_101_968_369_9),
        (-5.0, 2.866_515_718_791_939e-7),
    ];
    for (z, want) in known {
        assert!((normal(z) - want).abs() < 1e-14, "{z}: {}", normal(z));
    }
}
