//! Parts of a graph that do not wait for one another, on several threads.

use candle_core::{Tensor, Var};

use super::backward::{Backward, InputGradients};
use super::output::Output;
use super::record::record;
use super::tape::{self, Recording};
use crate::device::Scope;
use crate::{Elements, Real, Result, parallel, with_real};

/// A part of a graph: a function of some tensors and of parameters that it holds.
pub struct Branch<'a> {
    inputs: Vec<Tensor>,
    parameters: Vec<Tensor>,
    run: Box<Run<'a>>,
}

type Run<'a> = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'a;

impl<'a> Branch<'a> {
    /// A branch that computes `run(inputs)`.
    ///
    /// `parameters` are the variables that `run` uses without getting them; a gradient of one
    /// that is not listed would be lost. All other tensors that carry gradients must come in as
    /// inputs.
    pub fn new(
        inputs: Vec<Tensor>,
        parameters: Vec<Tensor>,
        run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'a,
    ) -> Self {
        Self {
            inputs,
            parameters,
            run: Box::new(run),
        }
    }

    /// Runs the branch as a graph of its own, from copies of the inputs.
    fn record(&self) -> Result<Recorded> {
        let inputs = self.inputs.len();
        let starts = self.inputs.iter().map(|x| match x.track_op() {
            true => Ok(Var::from_tensor(&x.detach())?.into_inner()),
            false => Ok(x.clone()),
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        let outputs = (self.run)(&starts)?;
        let sources = starts
            .into_iter()
            .chain(self.parameters.iter().cloned())
            .collect();
        Ok(Recorded {
            sources,
            inputs,
            outputs,
        })
    }
}

/// A branch that has run.
struct Recorded {
    /// Copies of the inputs, then the parameters.
    sources: Vec<Tensor>,
    /// How many of these are inputs.
    inputs: usize,
    outputs: Vec<Tensor>,
}

impl Recorded {
    /// The gradients of the sources, given those of the outputs.
    fn backward(&self, gradients: &[Option<Tensor>]) -> Result<InputGradients> {
        let mut root: Option<Tensor> = None;
        for (output, gradient) in self.outputs.iter().zip(gradients) {
            if let Some(gradient) = gradient {
                let term = (output * gradient)?.sum_all()?;
                root = Some(match root {
                    Some(sum) => (sum + term)?,
                    None => term,
                });
            }
        }
        let store = root.map(|root| root.backward()).transpose()?;
        let gradient = |(i, x): (usize, &Tensor)| {
            match store.as_ref().and_then(|store| store.get(x)) {
                Some(gradient) => Ok(Some(gradient.clone())),
                // What an input was computed from waits for its gradient; a parameter that the
                // loss does not reach has none.
                None if i < self.inputs => Ok(Some(x.zeros_like()?)),
                None => Ok(None),
            }
        };
        self.sources.iter().enumerate().map(gradient).collect()
    }
}

/// Runs branches at the same time, forward and backward, and gives the outputs of each.
///
/// Results are those of running one after the other, bit for bit.
///
/// # Errors
/// When a branch fails; the first of them in order.
///
/// ```
/// use candle_core::{Device, Var};
/// use decalign_core::op::{Branch, parallel};
///
/// let (x, w) = (Var::new(3f64, &Device::Cpu)?, Var::new(2f64, &Device::Cpu)?);
/// let product = Branch::new(vec![x.as_tensor().clone()], vec![w.as_tensor().clone()], |x| {
///     Ok(vec![(&x[0] * w.as_tensor())?])
/// });
/// let square = Branch::new(vec![x.as_tensor().clone()], vec![], |x| Ok(vec![x[0].sqr()?]));
/// let y = parallel(vec![product, square])?;
/// let gradients = (&y[0][0] + &y[1][0])?.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_scalar::<f64>()?, 2.0 + 2.0 * 3.0);
/// assert_eq!(gradients.get(&w).unwrap().to_scalar::<f64>()?, 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parallel(branches: Vec<Branch>) -> Result<Vec<Vec<Tensor>>> {
    let sources = || {
        branches
            .iter()
            .flat_map(|b| b.inputs.iter().chain(&b.parameters))
    };
    // A device works through one stream of launches, and a tape is one thread's.
    let recording = tape::current();
    if matches!(recording, Recording::Tape(_)) || sources().any(|x| !x.device().is_cpu()) {
        return branches.iter().map(|b| (b.run)(&b.inputs)).collect();
    }
    if matches!(recording, Recording::Nowhere) || !sources().any(Tensor::track_op) {
        let scope = Scope::current();
        let run = |i: usize| {
            let run = || (branches[i].run)(&branches[i].inputs);
            scope.enter(|| tape::without_gradients(run))
        };
        return parallel::map(branches.len(), usize::MAX, run)
            .into_iter()
            .collect();
    }
    let scope = Scope::current();
    let recorded = parallel::map(branches.len(), usize::MAX, |i| {
        scope.enter(|| branches[i].record())
    });
    let recorded = recorded.into_iter().collect::<Result<Vec<_>>>()?;
    let outputs = recorded.iter().flat_map(|r| &r.outputs).map(copy);
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let inputs: Vec<&Tensor> = sources().collect();
    let counts: Vec<usize> = recorded.iter().map(|r| r.outputs.len()).collect();
    let mut outputs = record("branches", &inputs, outputs, move |b| {
        backward(b, &recorded)
    })?
    .into_iter();
    Ok(counts
        .into_iter()
        .map(|n| outputs.by_ref().take(n).collect())
        .collect())
}

fn copy(x: &Tensor) -> Result<Output> {
    fn of<T: Real>(x: &Tensor) -> Result<Output> {
        Ok(Output::new(Elements::<T>::new(x)?.to_vec(), x.shape()))
    }
    with_real!("output of a branch", x, T => of::<T>(x))
}

fn backward(b: &Backward, recorded: &[Recorded]) -> Result<InputGradients> {
    let mut starts = vec![0];
    for r in recorded {
        starts.push(starts[starts.len() - 1] + r.outputs.len());
    }
    let scope = Scope::current();
    let each = parallel::map(recorded.len(), usize::MAX, |i| {
        scope.enter(|| recorded[i].backward(&b.gradients[starts[i]..starts[i + 1]]))
    });
    Ok(each.into_iter().collect::<Result<Vec<_>>>()?.concat())
}
