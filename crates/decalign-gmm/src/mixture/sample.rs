//! Drawing samples.

use candle_core::{Device, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Error, Result, cholesky};

use super::Mixture;
use crate::kmeans::pick;

impl Mixture {
    /// `n` samples and the component of each, without gradients; the same seed gives the same samples.
    ///
    /// # Shapes
    /// (n, d), and (n) of u32.
    ///
    /// # Errors
    /// When `n` is 0, the mixture is a batch, or a covariance is not positive definite.
    pub fn sample(&self, n: usize, seed: u64) -> Result<(Tensor, Tensor)> {
        if n == 0 {
            return Err(Error::value("samples", 0, "must be at least 1"));
        }
        let p = self.single()?;
        let (k, d) = (p.components(), p.width);
        let mut roots = Vec::new();
        for i in 0..p.matrices() {
            let mut root = p.matrix(i);
            match p.kind.is_matrix() {
                false => root.iter_mut().for_each(|v| *v = v.sqrt()),
                true => cholesky::factor(&mut root, d, 0.0).map_err(|_| {
                    let name = format!("covariance {i}");
                    Error::value(name, "singular", "must be positive definite")
                })?,
            }
            roots.push(root);
        }
        let stream = Stream::new(seed, 0);
        let total: f64 = p.weights.iter().sum();
        let (mut x, mut labels) = (Vec::with_capacity(n * d), Vec::with_capacity(n));
        let normals = stream.child(1).normal(n * d);
        let draws = stream.child(0).uniform(n, 0.0, total);
        for (draw, z) in draws.into_iter().zip(normals.chunks_exact(d)) {
            let label = pick(p.weights.iter().copied(), draw);
            let (mean, root) = (&p.means[label * d..][..d], &roots[label % roots.len()]);
            for i in 0..d {
                let moved = match p.kind.is_matrix() {
                    true => (0..=i).map(|j| root[i * d + j] * z[j]).sum(),
                    false => root[i] * z[i],
                };
                x.push(mean[i] + moved);
            }
            labels.push(label.min(k - 1) as u32);
        }
        let x = Tensor::from_vec(x, (n, d), &Device::Cpu)?.to_dtype(self.means.dtype())?;
        Ok((x, Tensor::from_vec(labels, n, &Device::Cpu)?))
    }
}
