//! The kernel matrix of pooled samples times vectors, with gradients.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::pairs::Panels;
use decalign_core::{Elements, Real, Result, with_real};

use crate::kernel::Kernel;
use crate::pairwise::{Inputs, KernelPlan, PooledSamples, Target};
use crate::sample::Sample;
use crate::statistic::bandwidth_gradients;

/// `K V` in one pass that meets each pair of points once, never holding K (N, N), the kernel matrix of
/// the pooled samples restricted to the given pairs of samples (i, j), i <= j; gradients go to points,
/// learned bandwidths and V.
///
/// # Shapes
/// `vectors` (N, k), rows in the order of the pooled samples; so is the result.
pub(crate) fn kernel_product(
    kernel: &Kernel,
    samples: &[Tensor],
    pairs: &[(usize, usize)],
    vectors: &Tensor,
) -> Result<Tensor> {
    let plan = KernelPlan::new(std::slice::from_ref(kernel), false);
    let samples: Vec<Sample> = samples.iter().map(Sample::from).collect();
    let inputs = Inputs::new(&samples, &plan, (1, 1))?;
    with_real!("samples", inputs.points[0], T => product::<T>(kernel, &inputs, plan, pairs, vectors))
}

fn product<T: Real>(
    kernel: &Kernel,
    inputs: &Inputs,
    plan: KernelPlan,
    pairs: &[(usize, usize)],
    vectors: &Tensor,
) -> Result<Tensor> {
    let kernels = vec![kernel.clone()];
    let mut all: Vec<Tensor> = inputs.all(&kernels).into_iter().cloned().collect();
    let wanted = all.iter().any(Tensor::track_op);
    let wanted_of_vectors = vectors.track_op();
    all.push(vectors.clone());
    let references: Vec<&Tensor> = all.iter().collect();
    let pool = PooledSamples::<T>::new(inputs, plan, wanted)?;
    let k = vectors.dims()[1];
    let v = Elements::<T>::new(vectors)?.to_vec();
    let out = pool.kernel_product(0, pairs, &v, k)?;
    let (pairs, output) = (pairs.to_vec(), Output::new(out, vectors.dims()));
    record_one("kernel_product", &references, output, move |b| {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?;
        let mut gradients: Vec<Option<Tensor>> = vec![None; b.inputs.len() - 1];
        if wanted {
            // dL = sum_ij outer_i . v_j dk_ij: a pair of points contributes in either order.
            let left = joined(&pool, &outer, &v, k);
            let right = joined(&pool, &v, &outer, k);
            let found = pool.backward(&pairs, &Target::LowRank(&left, &right), false)?;
            gradients.clear();
            for rows in found.points.into_iter().chain(found.directions) {
                let like = &b.inputs[gradients.len()];
                gradients.push(Some(Tensor::from_vec(rows, like.dims(), like.device())?));
            }
            gradients.extend(bandwidth_gradients(&kernels, &found.bandwidths, 1.0)?);
        }
        let vectors = &b.inputs[gradients.len()];
        gradients.push(match wanted_of_vectors {
            // K is symmetric.
            true => {
                let rows = pool.kernel_product(0, &pairs, &outer, k)?;
                Some(Tensor::from_vec(rows, vectors.dims(), vectors.device())?)
            }
            false => None,
        });
        Ok(gradients)
    })
}

/// The rows of `a` and `b` side by side, block by block.
fn joined<T: Real>(pool: &PooledSamples<T>, a: &[T], b: &[T], k: usize) -> Vec<Panels<T>> {
    let mut start = 0;
    let blocks = pool.blocks.iter().map(|block| {
        let rows = start..start + block.len;
        start += block.len;
        let each = rows.flat_map(|r| a[r * k..][..k].iter().chain(&b[r * k..][..k]));
        Panels::new(&each.copied().collect::<Vec<T>>(), 2 * k)
    });
    blocks.collect()
}
