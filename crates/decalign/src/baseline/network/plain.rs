//! Early and late fusion (Baltrusaitis, Ahuja and Morency, 2019, section 7.1).

use candle_core::Tensor;
use decalign_core::nn::Mode;
use decalign_data::Sequence;

use super::{Dense, Forward, Layers, Plan, pooled};
use crate::Result;

/// All modalities' vectors in one, then a linear layer or a perceptron with one hidden layer.
pub(super) struct Early {
    hidden: Option<Dense>,
    head: Dense,
    dropout: f64,
}

impl Early {
    pub(super) fn linear(plan: &Plan) -> Result<Self> {
        Ok(Self {
            hidden: None,
            head: plan.dense("head", plan.total(), plan.outputs)?,
            dropout: 0.0,
        })
    }

    pub(super) fn perceptron(plan: &Plan) -> Result<Self> {
        let width = plan.settings.width;
        Ok(Self {
            hidden: Some(plan.dense("hidden", plan.total(), width)?),
            head: plan.dense("head", width, plan.outputs)?,
            dropout: plan.settings.dropout,
        })
    }
}

impl Layers for Early {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let each: Vec<Tensor> = sequences.iter().map(pooled).collect::<Result<_>>()?;
        let mut x = Tensor::cat(&each, 1)?;
        if let Some(hidden) = &self.hidden {
            x = hidden.hidden(&x, self.dropout, mode)?;
        }
        Ok(Forward::one(self.head.apply(&x)?))
    }
}

/// A perceptron a modality, each trained by itself; their scores or probabilities are averaged.
pub(super) struct Late {
    members: Vec<(Dense, Dense)>,
    dropout: f64,
}

impl Late {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let width = plan.settings.width;
        let member = |(name, inputs): &(String, usize)| {
            Ok((
                plan.dense(&format!("hidden_{name}"), *inputs, width)?,
                plan.dense(&format!("head_{name}"), width, plan.outputs)?,
            ))
        };
        Ok(Self {
            members: plan.modalities.iter().map(member).collect::<Result<_>>()?,
            dropout: plan.settings.dropout,
        })
    }
}

impl Layers for Late {
    fn forward(&self, sequences: &[Sequence], mode: Mode) -> Result<Forward> {
        let each = self.members.iter().zip(sequences).enumerate();
        let member = |(i, ((hidden, head), sequence)): (usize, (&(Dense, Dense), &Sequence))| {
            let x = pooled(sequence)?;
            Ok(head.apply(&hidden.hidden(&x, self.dropout, mode.child(i as u64))?)?)
        };
        Ok(Forward {
            members: each.map(member).collect::<Result<_>>()?,
            penalty: None,
        })
    }
}
