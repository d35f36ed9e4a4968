//! Projections to two dimensions: PCA and t-SNE.

use faer::{MatRef, Side};

/// The first two principal components of rows of `width` numbers, and the share of the variance
/// that each carries (Jolliffe, 2002, "Principal Component Analysis", chapter 2).
///
/// Signs are chosen so that the largest weight of a component is positive.
pub(crate) fn principal_components(x: &[f64], width: usize) -> (Vec<[f64; 2]>, [f64; 2]) {
    let n = x.len() / width.max(1);
    let mut centred = x.to_vec();
    for j in 0..width {
        let mean = (0..n).map(|i| x[i * width + j]).sum::<f64>() / n.max(1) as f64;
        (0..n).for_each(|i| centred[i * width + j] -= mean);
    }
    let mut covariance = vec![0.0; width * width];
    for row in centred.chunks_exact(width) {
        for (a, u) in row.iter().enumerate() {
            for (b, v) in row.iter().enumerate() {
                covariance[a * width + b] += u * v / n.max(2) as f64;
            }
        }
    }
    let total: f64 = (0..width).map(|i| covariance[i * width + i]).sum();
    // Eigenvalues ascend; columns of vectors lie one after the other.
    let eigen = MatRef::from_column_major_slice(&covariance, width, width);
    let eigen = eigen.self_adjoint_eigen(Side::Lower).ok();
    let axis = |k: usize| -> (Vec<f64>, f64) {
        let Some((eigen, c)) = eigen.as_ref().zip(width.checked_sub(k + 1)) else {
            return (vec![0.0; width], 0.0);
        };
        let axis: Vec<f64> = (0..width).map(|i| eigen.U()[(i, c)]).collect();
        let largest = axis
            .iter()
            .copied()
            .fold(0.0, |a: f64, v| if v.abs() > a.abs() { v } else { a });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        (
            axis.iter().map(|v| v * sign).collect(),
            eigen.S()[c] / total.max(f64::MIN_POSITIVE),
        )
    };
    let ((a, first), (b, second)) = (axis(0), axis(1));
    let along = |row: &[f64], axis: &[f64]| row.iter().zip(axis).map(|(u, v)| u * v).sum();
    let points = centred
        .chunks_exact(width)
        .map(|row| [along(row, &a), along(row, &b)]);
    (points.collect(), [first, second])
}

/// t-SNE (van der Maaten and Hinton, 2008) of rows, started from their principal components (Kobak
/// and Berens, 2019) and run on one thread, so that the result is deterministic.
pub(crate) fn t_sne(x: &[f64], width: usize) -> Vec<[f64; 2]> {
    let n = x.len() / width.max(1);
    // Fewer points than a perplexity needs are told apart by their components.
    let perplexity = 30f64.min((n as f64 - 1.0) / 3.0 - 0.5).floor();
    let (start, _) = principal_components(x, width);
    if perplexity < 2.0 {
        return start;
    }
    let spread = start.iter().map(|p| p[0] * p[0]).sum::<f64>() / n as f64;
    let scale = 1e-4 / spread.sqrt().max(f64::MIN_POSITIVE);
    let start: Vec<f64> = start.iter().flatten().map(|v| v * scale).collect();
    let samples: Vec<&[f64]> = x.chunks_exact(width).collect();
    let distance = |a: &&[f64], b: &&[f64]| {
        a.iter()
            .zip(*b)
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>()
            .sqrt()
    };
    let fit = || {
        let mut embedding = bhtsne::tSNE::<f64, &[f64], 2>::new(&samples);
        embedding
            .perplexity(perplexity)
            .epochs(500)
            .initial_embedding(start.clone())
            .barnes_hut(0.5, distance);
        embedding.embedding()
    };
    let embedded = match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(fit),
        Err(_) => fit(),
    };
    embedded.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use decalign::core::random::Stream;

    /// Two clouds in five dimensions, apart along one direction.
    fn clouds() -> Vec<f64> {
        let noise = Stream::new(1, 0).normal(60 * 5);
        let at = |(i, v): (usize, f64)| v * 0.3 + if i / 5 >= 30 && i % 5 == 2 { 8.0 } else { 0.0 };
        noise.into_iter().enumerate().map(at).collect()
    }

    #[test]
    fn the_first_component_is_where_the_variance_is() {
        let (points, share) = principal_components(&clouds(), 5);
        assert!(share[0] > 0.95 && share[0] + share[1] <= 1.0, "{share:?}");
        let side = |r: std::ops::Range<usize>| points[r].iter().map(|p| p[0]).sum::<f64>() / 30.0;
        assert!(side(30..60) - side(0..30) > 7.5);
        let (points, share) = principal_components(&[1.0, 2.0, 3.0], 1);
        assert!((share[0] - 1.0).abs() < 1e-12 && points.iter().all(|p| p[1] == 0.0));
    }

    #[test]
    fn neighbours_stay_together_and_the_picture_repeats() {
        let x = clouds();
        let points = t_sne(&x, 5);
        assert_eq!(points, t_sne(&x, 5));
        let nearest = |i: usize| {
            let distance =
                |j: usize| (points[i][0] - points[j][0]).hypot(points[i][1] - points[j][1]);
            let others = (0..60).filter(|j| *j != i);
            others
                .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
                .unwrap_or(i)
        };
        assert!((0..60).all(|i| (nearest(i) < 30) == (i < 30)));
    }
}
