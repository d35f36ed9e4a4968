//! The kernel matrix of pooled samples times vectors, with gradients.

use candle_core::Tensor;
use decalign_core::op::{Output, record_one};
use decalign_core::pairs::Panels;
use decalign_core::{Elements, Real, Result, with_real};

use crate::kernel::Kernel;
use crate::pass::{Inputs, Pool, Program, Target};
use crate::sample::Sample;
use crate::statistic::length_gradients;

/// `K V` in one pass that meets each pair of points once, never holding K (N, N), the kernel matrix of
/// the pooled samples restricted to the given pairs of samples (i, j), i <= j; gradients go to points,
/// learned lengths and V.
///
/// # Shapes
/// `vectors` (N, k), rows in the order of the pooled samples; so is the result.
pub(crate) fn kernel_product(
    kernel: &Kernel,
    samples: &[Tensor],
    pairs: &[(usize, usize)],
    vectors: &Tensor,
) -> Result<Tensor> {
    let program = Program::new(std::slice::from_ref(kernel), false);
    let samples: Vec<Sample> = samples.iter().map(Sample::from).collect();
    let inputs = Inputs::new(&samples, &program, (1, 1))?;
    with_real!("samples", inputs.points[0], T => product::<T>(kernel, &inputs, program, pairs, vectors))
}

fn product<T: Real>(
    kernel: &Kernel,
    inputs: &Inputs,
    program: Program,
    pairs: &[(usize, usize)],
    vectors: &Tensor,
) -> Result<Tensor> {
    let kernels = vec![kernel.clone()];
    let mut all: Vec<Tensor> = inputs.all(&kernels).into_iter().cloned().collect();
    let wanted = all.iter().any(Tensor::track_op);
    let weighed = vectors.track_op();
    all.push(vectors.clone());
    let references: Vec<&Tensor> = all.iter().collect();
    let pool = Pool::<T>::new(inputs, program, wanted)?;
    let k = vectors.dims()[1];
    let v = Elements::<T>::new(vectors)?.to_vec();
    let out = pool.products(0, pairs, &v, k)?;
    let (pairs, output) = (pairs.to_vec(), Output::new(out, vectors.dims()));
    record_one("kernel_product", &references, output, move |b| {
        let outer = b.gradient(0)?;
        let outer = Elements::<T>::new(&outer)?;
        let mut gradients: Vec<Option<Tensor>> = vec![None; b.inputs.len() - 1];
        if wanted {
            // dL = sum_ij outer_i . v_j dk_ij: of a pair in either order both terms.
            let left = joined(&pool, &outer, &v, k);
            let right = joined(&pool, &v, &outer, k);
            let pulled = pool.pull(&pairs, &Target::LowRank(&left, &right), false)?;
            gradients.clear();
            for rows in pulled.points.into_iter().chain(pulled.directions) {
                let like = &b.inputs[gradients.len()];
                gradients.push(Some(Tensor::from_vec(rows, like.dims(), like.device())?));
            }
            gradients.extend(length_gradients(&kernels, &pulled.lengths, 1.0)?);
        }
        let vectors = &b.inputs[gradients.len()];
        gradients.push(match weighed {
            // K is symmetric.
            true => {
                let rows = pool.products(0, &pairs, &outer, k)?;
                Some(Tensor::from_vec(rows, vectors.dims(), vectors.device())?)
            }
            false => None,
        });
        Ok(gradients)
    })
}

/// Of every block the rows of `a` and `b` side by side.
fn joined<T: Real>(pool: &Pool<T>, a: &[T], b: &[T], k: usize) -> Vec<Panels<T>> {
    let mut start = 0;
    let blocks = pool.blocks.iter().map(|block| {
        let rows = start..start + block.len;
        start += block.len;
        let each = rows.flat_map(|r| a[r * k..][..k].iter().chain(&b[r * k..][..k]));
        Panels::new(&each.copied().collect::<Vec<T>>(), 2 * k)
    });
    blocks.collect()
}
