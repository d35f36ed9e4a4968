//! Means, deviations and calibration.

/// Mean and sample deviation; the deviation of a single number is 0.
///
/// ```
/// assert_eq!(decalign_report::mean_and_deviation(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
/// ```
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// A bin of a reliability diagram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bin {
    /// Mean predicted probability.
    pub(crate) predicted: f64,
    /// Share of the samples that were right.
    pub(crate) observed: f64,
    pub(crate) count: usize,
}

/// Ten bins of equal width over the confidence of a prediction, and the expected calibration error
/// (Guo and others, 2017, "On Calibration of Modern Neural Networks").
pub(crate) fn reliability(confidence: &[f64], right: &[bool]) -> (Vec<Bin>, f64) {
    let mut sums = [(0.0, 0.0, 0usize); 10];
    for (p, right) in confidence.iter().zip(right) {
        let bin = ((p * 10.0) as usize).min(9);
        sums[bin].0 += p;
        sums[bin].1 += f64::from(u8::from(*right));
        sums[bin].2 += 1;
    }
    let bins: Vec<Bin> = sums
        .iter()
        .filter(|(.., count)| *count > 0)
        .map(|(p, right, count)| Bin {
            predicted: p / *count as f64,
            observed: right / *count as f64,
            count: *count,
        })
        .collect();
    let n = confidence.len().max(1) as f64;
    let gaps = bins
        .iter()
        .map(|b| (b.predicted - b.observed).abs() * b.count as f64 / n);
    let error = gaps.sum();
    (bins, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibrated_predictor_has_no_error() {
        let confidence = [0.75; 8];
        let right = [true, true, true, false, true, true, true, false];
        let (bins, error) = reliability(&confidence, &right);
        assert_eq!((bins.len(), bins[0].count), (1, 8));
        assert!(error < 1e-12);
        let (_, error) = reliability(&[1.0; 4], &[true, false, true, false]);
        assert!((error - 0.5).abs() < 1e-12);
    }
}
