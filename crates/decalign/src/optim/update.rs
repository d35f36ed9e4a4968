//! Adam's update of one parameter on the CPU.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp2, Layout};
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks};

use super::moments::{Means, Moments};
use super::settings::AdamSettings;

/// One step of one parameter.
pub(super) struct Update<'a> {
    pub(super) factor: f64,
    pub(super) rate: f64,
    pub(super) settings: AdamSettings,
    pub(super) moments: &'a Mutex<Moments>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        to: &Layout,
        gradient: &CpuStorage,
        from: &Layout,
    ) -> candle_core::Result<()> {
        let (Some(to), Some(from)) = (to.contiguous_offsets(), from.contiguous_offsets()) else {
            candle_core::bail!("adam: parameters and gradients are contiguous")
        };
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments {
            single,
            double,
            steps,
        } = &mut *moments;
        *steps += 1;
        match (parameter, gradient) {
            (CpuStorage::F32(p), CpuStorage::F32(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1], single, *steps);
            }
            (CpuStorage::F64(p), CpuStorage::F64(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1], double, *steps);
            }
            _ => candle_core::bail!("adam: parameter and gradient are both f32 or both f64"),
        }
        Ok(())
    }
}

impl Update<'_> {
    fn run<T: Real>(&self, parameter: &mut [T], gradient: &[T], means: &mut Means<T>, steps: i32) {
        means.gradient.resize(parameter.len(), T::zero());
        means.square.resize(parameter.len(), T::zero());
        simd::dispatch(Step {
            update: self,
            parameter,
            gradient,
            means,
            steps,
        });
    }
}

struct Step<'a, T> {
    update: &'a Update<'a>,
    parameter: &'a mut [T],
    gradient: &'a [T],
    means: &'a mut Means<T>,
    steps: i32,
}

impl<T: Real> Kernel for Step<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let AdamSettings {
            betas,
            epsilon,
            weight_decay,
            ..
        } = self.update.settings;
        let correction = |beta: f64| 1.0 - beta.powi(self.steps);
        let rate = T::of(self.update.rate / correction(betas.0));
        let scale = T::of(correction(betas.1).sqrt().recip());
        let (b1, b2) = (T::of(betas.0), T::of(betas.1));
        let (rest1, rest2) = (T::of(1.0 - betas.0), T::of(1.0 - betas.1));
        let (epsilon, decay) = (T::of(epsilon), T::of(weight_decay));
        let factor = T::of(self.update.factor);
        for_blocks!(at in self.parameter.len(), {
            let (mut p, g) = (at.load(self.parameter), at.load(self.gradient));
            let (mut m, mut v) = (at.load(&self.means.gradient), at.load(&self.means.square));
            for i in 0..LANES {
                let g = isa.mul_add(decay, p[i], g[i] * factor);
                m[i] = isa.mul_add(b1, m[i], rest1 * g);
                v[i] = isa.mul_add(b2, v[i], rest2 * g * g);
                p[i] -= rate * m[i] / isa.mul_add(v[i].sqrt(), scale, epsilon);
            }
            at.store(p, self.parameter);
            at.store(m, &mut self.means.gradient);
            at.store(v, &mut self.means.square);
        });
    }
}
