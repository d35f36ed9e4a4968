//! Keys and values of all layers from a context that does not change: one product each.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::reference::{self, KEYS};

/// Which of the three projections is that of the values.
const VALUES: usize = 2;

/// Keys and values for several layers' attention: for each layer `k = x W_k^T` and `v = y W_v^T + b_v`, where
/// its weight stacks W_q, W_k, W_v and its bias b_q, b_k, b_v; see [`crate::project`] on b_k.
///
/// # Shapes
/// `keys` and `values` (B, S, d); of each layer weight (3d, d), bias (3d). Of each layer the results are
/// (B, S, d) both.
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn project_context(
    keys: &Tensor,
    values: &Tensor,
    layers: &[(&Tensor, &Tensor)],
) -> Result<Vec<[Tensor; 2]>> {
    let (_, _, d) = keys
        .dims3()
        .map_err(|_| Error::tensor("keys", "shape (B, S, d)", keys.shape()))?;
    if values.dims() != keys.dims() {
        let expected = format!("shape {:?}, that of the keys", keys.dims());
        return Err(Error::tensor("values", expected, values.shape()));
    }
    for (i, (weight, bias)) in layers.iter().enumerate() {
        if weight.dims() != [3 * d, d] || bias.dims() != [3 * d] {
            let name = format!("input projection of layer {i}");
            let expected = format!("weight ({}, {d}), bias ({})", 3 * d, 3 * d);
            return Err(Error::tensor(
                name,
                expected,
                (weight.shape(), bias.shape()),
            ));
        }
    }
    if !keys.device().is_cpu() {
        return reference::project_context(keys, values, layers);
    }
    with_real!("keys", keys, T => fused::<T>([keys, values], layers, d))
}

fn fused<T: Real>(
    x: [&Tensor; 2],
    layers: &[(&Tensor, &Tensor)],
    d: usize,
) -> Result<Vec<[Tensor; 2]>> {
    let mut outputs: Vec<Vec<Output>> = Vec::with_capacity(2);
    for (x, part) in x.iter().zip([KEYS, VALUES]) {
        let weights = stacked::<T>(layers, part, d)?;
        let wide = layers.len() * d;
        let numbers = Elements::<T>::new(x)?;
        let rows = numbers.len() / d.max(1);
        let mut y = vec![T::zero(); rows * wide];
        if part == VALUES && wide > 0 {
            let mut biases = Vec::with_capacity(wide);
            for (_, bias) in layers {
                biases.extend_from_slice(&Elements::<T>::new(bias)?[part * d..(part + 1) * d]);
            }
            y.chunks_exact_mut(wide)
                .for_each(|row| row.copy_from_slice(&biases));
        }
        let weights = Matrix::new(&weights, wide, d).t();
        matmul(
            &mut y,
            wide,
            Matrix::new(&numbers, rows, d),
            weights,
            Store::Add,
        );
        let of_layer = |l: usize| {
            let mut one = Vec::with_capacity(rows * d);
            for row in y.chunks_exact(wide.max(1)) {
                one.extend_from_slice(&row[l * d..(l + 1) * d]);
            }
            Output::new(one, x.dims())
        };
        outputs.push((0..layers.len()).map(of_layer).collect());
    }
    let inputs: Vec<&Tensor> = x
        .into_iter()
        .chain(layers.iter().flat_map(|(w, b)| [*w, *b]))
        .collect();
    let count = layers.len();
    let all = outputs.into_iter().flatten().collect();
    let y = record("context_projection", &inputs, all, move |b| {
        backward::<T>(b, count, d)
    })?;
    let pairs = (0..count).map(|l| [y[l].clone(), y[count + l].clone()]);
    Ok(pairs.collect())
}

/// One of the three parts of all layers' weights, (layers d, d).
fn stacked<T: Real>(layers: &[(&Tensor, &Tensor)], part: usize, d: usize) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(layers.len() * d * d);
    for (weight, _) in layers {
        all.extend_from_slice(&Elements::<T>::new(weight)?[part * d * d..(part + 1) * d * d]);
    }
    Ok(all)
}

fn backward<T: Real>(b: &Backward, count: usize, d: usize) -> Result<InputGradients> {
    let wide = count * d;
    let layers: Vec<(&Tensor, &Tensor)> = b.inputs[2..]
        .chunks_exact(2)
        .map(|pair| (&pair[0], &pair[1]))
        .collect();
    let mut gradients = vec![None; b.inputs.len()];
    let mut dw = vec![vec![T::zero(); 3 * d * d]; count];
    let mut db = vec![vec![T::zero(); 3 * d]; count];
    for (i, part) in [KEYS, VALUES].into_iter().enumerate() {
        let x = Elements::<T>::new(&b.inputs[i])?;
        let rows = x.len() / d.max(1);
        let mut g = vec![T::zero(); rows * wide];
        for l in 0..count {
            let Some(gradient) = &b.gradients[i * count + l] else {
                continue;
            };
            let given = Elements::<T>::new(gradient)?;
            for (to, from) in g.chunks_exact_mut(wide).zip(given.chunks_exact(d)) {
                to[l * d..(l + 1) * d].copy_from_slice(from);
            }
        }
        if b.needed[i] {
            let weights = stacked::<T>(&layers, part, d)?;
            let mut dx = vec![T::zero(); x.len()];
            let weights = Matrix::new(&weights, wide, d);
            matmul(
                &mut dx,
                d,
                Matrix::new(&g, rows, wide),
                weights,
                Store::Write,
            );
            let like = &b.inputs[i];
            gradients[i] = Some(Tensor::from_vec(dx, like.dims(), like.device())?);
        }
        let mut all = vec![T::zero(); wide * d];
        let g_t = Matrix::new(&g, rows, wide).t();
        matmul(&mut all, d, g_t, Matrix::new(&x, rows, d), Store::Write);
        for (dw, one) in dw.iter_mut().zip(all.chunks_exact((d * d).max(1))) {
            dw[part * d * d..(part + 1) * d * d].copy_from_slice(one);
        }
        if part == VALUES {
            for row in g.chunks_exact(wide.max(1)) {
                for (db, row) in db.iter_mut().zip(row.chunks_exact(d)) {
                    let sums = db[part * d..].iter_mut().zip(row);
                    sums.for_each(|(sum, v)| *sum += *v);
                }
            }
        }
    }
    let device = b.inputs[0].device();
    for (l, (dw, db)) in dw.into_iter().zip(db).enumerate() {
        gradients[2 + 2 * l] = Some(Tensor::from_vec(dw, (3 * d, d), device)?);
        gradients[3 + 2 * l] = Some(Tensor::from_vec(db, 3 * d, device)?);
    }
    Ok(gradients)
}
