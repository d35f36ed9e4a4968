//! A margin between classes, across modalities.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::{Error, Result};

use super::{Batch, Objective, TimeAxis};
use crate::measure::UnitRows;
use crate::reference;
use crate::table::{Table, analytic};

/// Common parts of one class nearer to one another across modalities than classes are within a modality:
///
/// ```text
/// mean over (i, j, k) of max(0, margin - cos(c_i, c_j) + cos(c_i, c_k))
/// ```
///
/// over all triplets of common parts in which j is of i's class and another modality, k of i's modality and
/// another class. A batch without any, of one class, is worth 0. Gradients are 0 where a term is, and of
/// rows of zeros. Triplets are counted by sorting, not one by one: O(m^2 (d + log m)) for m common parts.
///
/// It needs labels, see [`Batch::with_labels`].
///
/// Source: Li and others, Decoupled multimodal distilling (CVPR 2023), margin loss.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{Batch, Decoupled, Objective, TripletMargin};
/// let x = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let part = || Decoupled { unique: x.clone(), common: x.clone() };
/// let parts = [part(), part()];
/// let batch = Batch::new(&parts)?.with_labels(&[0, 1])?;
/// // Own class at cosine 1, the other at 0: apart by 1.
/// let loss = TripletMargin::new(1.5)?.loss(&batch)?.to_scalar::<f64>()?;
/// assert_eq!(loss, 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletMargin {
    margin: f64,
    time_axis: TimeAxis,
}

impl TripletMargin {
    /// With a margin in [0, 2], of means over time.
    ///
    /// # Errors
    /// When the margin is outside its range.
    pub fn new(margin: f64) -> Result<Self> {
        if !(0.0..=2.0).contains(&margin) {
            let remedy = "must lie in [0, 2], as differences of cosines do";
            return Err(Error::value("triplet margin", margin, remedy));
        }
        Ok(Self {
            margin,
            time_axis: TimeAxis::Mean,
        })
    }

    /// How parts with a time axis become rows; [`TimeAxis::Steps`] has no labels.
    #[must_use]
    pub fn time_axis(self, time_axis: TimeAxis) -> Self {
        Self { time_axis, ..self }
    }
}

impl Objective for TripletMargin {
    fn name(&self) -> &str {
        "triplet_margin"
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let Some(labels) = batch.labels() else {
            let remedy = "triplets need classes: add Batch::with_labels";
            return Err(Error::value("labels of the batch", "absent", remedy));
        };
        let common = batch
            .parts()
            .iter()
            .map(|p| self.time_axis.apply(&p.common));
        let common = common.collect::<Result<Vec<_>>>()?;
        check(&common, labels)?;
        let names: Vec<String> = (0..common.len())
            .map(|i| format!("common part of modality {i}"))
            .collect();
        let inputs: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&common).collect();
        let plain = || reference::triplet_margin(&common, labels, self.margin);
        analytic("triplet_margin", &inputs, plain, |tables| {
            evaluate(tables, labels, self.margin)
        })
    }
}

fn check(common: &[Tensor], labels: &[i64]) -> Result<()> {
    if common.len() < 2 {
        let remedy = "triplets need two at least";
        return Err(Error::value("number of modalities", common.len(), remedy));
    }
    let width = common[0].dims()[1];
    for (i, x) in common.iter().enumerate() {
        if x.dims() != [labels.len(), width] {
            let expected = format!("rows ({}, {width}), one a label", labels.len());
            let name = format!("common part of modality {i}");
            return Err(Error::tensor(name, expected, x.shape()));
        }
    }
    Ok(())
}

fn evaluate(tables: Vec<Table>, labels: &[i64], margin: f64) -> (f64, Vec<Vec<f64>>) {
    let (width, n) = (tables[0].width, labels.len());
    let data: Vec<f64> = tables.into_iter().flat_map(|t| t.data).collect();
    let units = UnitRows::new(Table { data, width });
    let all = units.table.n();
    let mut cosines = vec![0.0; all * all];
    let view = units.table.matrix();
    matmul(&mut cosines, all, view, view.t(), Store::Write);
    let (mut value, mut triplets) = (0.0, 0.0);
    for (i, row) in cosines.chunks_exact_mut(all).enumerate() {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for (j, cosine) in row.iter().enumerate() {
            match (i / n == j / n, labels[i % n] == labels[j % n]) {
                (false, true) => near.push((*cosine, j)),
                (true, false) => far.push((*cosine, j)),
                _ => {}
            }
        }
        triplets += (near.len() * far.len()) as f64;
        value += anchor(row, near, far, margin);
    }
    let count = if triplets > 0.0 { triplets } else { 1.0 };
    // The cosines have become their gradient G: that of the units is (G + G^T) U.
    let gradient = Matrix::new(&cosines, all, all);
    let mut dx = units.table.zeros();
    matmul(&mut dx, width, gradient, view, Store::Write);
    matmul(&mut dx, width, gradient.t(), view, Store::Add);
    dx.iter_mut().for_each(|v| *v /= count);
    let dx = units.backward(dx);
    (
        value / count,
        dx.chunks_exact(n * width).map(<[f64]>::to_vec).collect(),
    )
}

/// The sum over the triplets of one anchor, whose row of cosines becomes the gradient: how many terms
/// above 0 each cosine is in.
fn anchor(
    row: &mut [f64],
    mut near: Vec<(f64, usize)>,
    mut far: Vec<(f64, usize)>,
    margin: f64,
) -> f64 {
    let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0);
    near.sort_unstable_by(order);
    far.sort_unstable_by(order);
    row.fill(0.0);
    let mut value = 0.0;
    for (cosine, j) in &near {
        let below = far.partition_point(|(f, _)| margin - cosine + f <= 0.0);
        let terms = (far.len() - below) as f64;
        row[*j] = -terms;
        value += terms * (margin - cosine);
    }
    for (cosine, k) in &far {
        let terms = near.partition_point(|(c, _)| margin - c + cosine > 0.0) as f64;
        row[*k] = terms;
        value += terms * cosine;
    }
    value
}
